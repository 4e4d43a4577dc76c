//! Deadlines under a clock that the test moves.

use super::*;

const ALL: Limits = Limits {
    expired: usize::MAX,
    left: usize::MAX,
};

fn lease(id: i64, ttl: i64) -> LeaseRecord {
    LeaseRecord {
        id,
        ttl,
        remaining: 0,
        generation: 1,
        bound: false,
    }
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn ids(due: &Due) -> Vec<i64> {
    due.expired.iter().map(|expired| expired.id).collect()
}

#[test]
fn a_lease_ends_at_its_deadline_and_never_before() {
    let start = Instant::now();
    let mut expiry = Expiry::default();
    expiry.update(&lease(1, 10), start);
    expiry.update(&lease(2, 5), start);
    let just_before = start + secs(10) - Duration::from_nanos(1);
    assert_eq!(ids(&expiry.due(start + secs(5), ALL)), [2]);
    assert!(expiry.due(just_before - secs(3), ALL).expired.is_empty());
    expiry.remove(2);
    assert!(expiry.due(just_before, ALL).expired.is_empty());
    assert_eq!(ids(&expiry.due(start + secs(10), ALL)), [1]);
}

#[test]
fn a_renewal_moves_the_deadline_and_an_expired_lease_is_not_renewed() {
    let start = Instant::now();
    let mut expiry = Expiry::default();
    let lease = lease(1, 10);
    assert_eq!(expiry.renew(&lease, start), Renewal::Renewed);
    for third in 1..100 {
        let now = start + secs(3 * third);
        assert_eq!(expiry.due(now, ALL), Due::default(), "at {third}");
        assert_eq!(expiry.renew(&lease, now), Renewal::Renewed);
        assert_eq!(expiry.looks.len(), 1, "renewals leave nothing behind");
    }
    let end = start + secs(297 + 10);
    assert_eq!(expiry.renew(&lease, end), Renewal::Expired);
    assert_eq!(ids(&expiry.due(end, ALL)), [1]);
    assert_eq!(expiry.remaining(1, end), Some(Duration::ZERO));
    assert_eq!(expiry.renew(&lease, end - secs(1)), Renewal::Expired);
}

#[test]
fn an_end_without_effect_is_due_again_and_limits_hold_the_rest_back() {
    let start = Instant::now();
    let mut expiry = Expiry::default();
    for id in 1..=5 {
        expiry.update(&lease(id, 10), start);
    }
    let limits = Limits {
        expired: 2,
        left: 2,
    };
    let now = start + secs(10);
    assert_eq!(ids(&expiry.due(now, limits)), [1, 2]);
    assert_eq!(ids(&expiry.due(now, limits)), [3, 4]);
    assert_eq!(ids(&expiry.due(now, limits)), [5]);
    assert!(expiry.due(now, limits).expired.is_empty());
    expiry.remove(1);
    assert_eq!(ids(&expiry.due(now + RETRY_INTERVAL, ALL)), [2, 3, 4, 5]);
}

#[test]
fn a_lease_granted_anew_lives_its_own_time() {
    let start = Instant::now();
    let mut expiry = Expiry::default();
    expiry.update(&lease(1, 100), start);
    let again = LeaseRecord {
        generation: 2,
        ..lease(1, 20)
    };
    expiry.update(&again, start + secs(99));
    assert!(expiry.due(start + secs(100), ALL).expired.is_empty());
    let due = expiry.due(start + secs(119), ALL);
    assert_eq!((due.expired[0].id, due.expired[0].generation), (1, 2));
    assert_eq!(expiry.looks.len(), 1);
}

#[test]
fn a_new_leader_grants_what_the_log_says_and_more_and_spreads_piles() {
    let start = Instant::now();
    let mut leases: Vec<_> = (1..=3000).map(|id| lease(id, 10)).collect();
    leases.push(LeaseRecord {
        remaining: 40,
        ..lease(9999, 600)
    });
    let extend = secs(1);
    let mut expiry = Expiry::of_a_new_leader(&leases, start, extend);
    assert_eq!(expiry.remaining(9999, start), Some(secs(41)));
    let mut ended = 0;
    assert!(
        expiry
            .due(start + secs(11) - Duration::from_nanos(1), ALL)
            .expired
            .is_empty()
    );
    for second in 11..15 {
        let due = expiry.due(start + secs(second), ALL);
        assert_eq!(due.expired.len(), ENDS_PER_SECOND_MAX, "in second {second}");
        ended += due.expired.len();
        for expired in due.expired {
            expiry.remove(expired.id);
        }
    }
    assert_eq!(ended, 3000);
    assert!(expiry.deadlines().map(|(_, id)| id).eq([9999]));
}

#[test]
fn what_is_left_is_logged_for_leases_that_outlive_the_interval_and_for_no_others() {
    let start = Instant::now();
    let mut expiry = Expiry::default();
    expiry.update(&lease(1, 60), start);
    expiry.update(&lease(2, 300), start);
    expiry.update(&lease(3, 100_000), start);
    let mut logged = Vec::new();
    for second in 0..=299 {
        let now = start + secs(second);
        let due = expiry.due(now, ALL);
        due.expired.iter().for_each(|lease| expiry.remove(lease.id));
        for left in due.left {
            logged.push((second, left.id, left.remaining));
            let seen = LeaseRecord {
                remaining: left.remaining,
                ..lease(left.id, if left.id == 2 { 300 } else { 100_000 })
            };
            expiry.update(&seen, now);
        }
    }
    let expected = [(60, 2, 240), (120, 2, 180), (180, 2, 120)];
    assert_eq!(
        logged, expected,
        "a tenth of lease 3 is far more than a minute"
    );
}

#[test]
fn leases_that_are_kept_alive_are_not_logged() {
    let start = Instant::now();
    let mut expiry = Expiry::default();
    let lease = lease(1, 3600);
    for half_minute in 0..500 {
        let now = start + secs(30 * half_minute);
        assert_eq!(expiry.renew(&lease, now), Renewal::Renewed);
        assert_eq!(expiry.due(now, ALL), Due::default());
    }
}

#[test]
fn a_renewal_after_a_checkpoint_or_during_one_takes_it_back_first() {
    let start = Instant::now();
    let mut expiry = Expiry::default();
    let fresh = lease(1, 300);
    expiry.update(&fresh, start);
    let now = start + secs(60);
    let due = expiry.due(now, ALL);
    assert_eq!(due.left[0].remaining, 240);
    assert_eq!(expiry.renew(&fresh, now), Renewal::Shortened, "on its way");
    let logged = LeaseRecord {
        remaining: 240,
        ..fresh
    };
    expiry.update(&logged, now);
    assert_eq!(expiry.renew(&logged, now), Renewal::Shortened, "in the log");
    assert_eq!(expiry.remaining(1, now), Some(secs(240)));
    let whole = LeaseRecord {
        generation: 2,
        ..fresh
    };
    expiry.update(&whole, now);
    assert_eq!(expiry.renew(&whole, now), Renewal::Renewed);
    assert_eq!(expiry.remaining(1, now), Some(secs(300)));
}
