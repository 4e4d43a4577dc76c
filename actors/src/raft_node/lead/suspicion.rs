//! What follows when the connection of a leader ends: how often to knock at its door, and when this
//! member campaigns if nobody listens there. Pure.
//!
//! A connection may end for many reasons; if its host then refuses a new one, the process is gone.
//! The survivors find this out within milliseconds of one another. They take turns in the order of
//! their ids, because two that campaign at once split the votes; and each round of turns is twice
//! as long as the one before, because a vote must be durable before it counts: on slow disks one
//! turn would forever overtake the other.

use std::time::Duration;

/// The first waits before a knock. The listener of a process that dies closes a moment before or
/// after its connections, and a busy host takes longer.
const KNOCK_WAITS_MS: [u64; 6] = [0, 5, 15, 40, 90, 150];

/// The waits before each knock, with `patience` for the election timeout: the first ones, and then
/// each twice the one before, as long as all of them take less than half of it. If none is refused,
/// raft's timer decides.
pub(super) fn knock_waits(patience: Duration) -> impl Iterator<Item = Duration> {
    let first = KNOCK_WAITS_MS.into_iter();
    let further = (1..u64::BITS).map_while(|doubled| 150_u64.checked_mul(1 << doubled));
    let mut sum = Duration::ZERO;
    let waits = first.chain(further).map(Duration::from_millis);
    waits.take_while(move |wait| {
        sum = sum.saturating_add(*wait);
        sum < patience / 2
    })
}

/// When a survivor campaigns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turns {
    place: u32,
    survivors: u32,
    interval: Duration,
    patience: Duration,
}

impl Turns {
    /// The turns of `me` among `voters` without their dead `leader`, one each `interval`, until
    /// raft's own timer is due after `patience`. `None` if `me` is not a voter.
    pub(super) fn new(
        me: u64,
        leader: u64,
        voters: impl Iterator<Item = u64>,
        interval: Duration,
        patience: Duration,
    ) -> Option<Turns> {
        let mut survivors: Vec<u64> = voters.filter(|voter| *voter != leader).collect();
        survivors.sort_unstable();
        let place = survivors.iter().position(|voter| *voter == me)?;
        Some(Turns {
            place: u32::try_from(place).ok()?,
            survivors: u32::try_from(survivors.len()).ok()?,
            interval,
            patience,
        })
    }

    /// The wait before each of its campaigns.
    pub(super) fn waits(self) -> impl Iterator<Item = Duration> {
        let Turns {
            place,
            survivors,
            interval,
            patience,
        } = self;
        let at = (0..u32::BITS).map_while(move |round| {
            let turns_before = survivors.checked_mul((1 << round) - 1)?;
            let turns = turns_before.checked_add(place.checked_mul(1 << round)?)?;
            interval.checked_mul(turns)
        });
        let times = at.take_while(move |at| *at < patience);
        times.scan(Duration::ZERO, |before, at| {
            let wait = at - *before;
            *before = at;
            Some(wait)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_millis(100);
    const PATIENCE: Duration = Duration::from_millis(700);

    fn turns(me: u64, voters: &[u64]) -> Vec<u128> {
        let voters = voters.iter().copied();
        let turns = Turns::new(me, 2, voters, INTERVAL, PATIENCE).expect("a voter");
        turns.waits().map(|wait| wait.as_millis()).collect()
    }

    #[test]
    fn survivors_take_turns_in_the_order_of_their_ids_until_the_timer_is_due() {
        // One at 0, 200 and 600 ms, the other at 100 and 400 ms.
        assert_eq!(turns(1, &[3, 2, 1]), [0, 200, 400]);
        assert_eq!(turns(3, &[3, 2, 1]), [100, 300]);
        assert_eq!(turns(5, &[1, 2, 3, 4, 5]), [300]);
    }

    #[test]
    fn who_has_no_vote_does_not_campaign() {
        let voters = [1, 2].into_iter();
        assert_eq!(Turns::new(9, 2, voters, INTERVAL, PATIENCE), None);
    }

    #[test]
    fn knocks_go_on_for_less_than_half_of_an_election_timeout() {
        let waits = |patience_ms| knock_waits(Duration::from_millis(patience_ms));
        assert_eq!(waits(1_000).count(), KNOCK_WAITS_MS.len());
        assert_eq!(waits(10_000).last(), Some(Duration::from_millis(2_400)));
        for patience_ms in [50, 100, 1_000, 10_000, 50_000] {
            let sum = waits(patience_ms).sum::<Duration>();
            assert!(
                sum < Duration::from_millis(patience_ms / 2),
                "{patience_ms}"
            );
        }
    }
}
