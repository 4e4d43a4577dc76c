//! What the holders of leases were promised, and whether it was kept. Pure: told the moments.
//!
//! An answer to a grant or to a renewal promises that the lease lives at least its whole time, from
//! the moment at which its holder asked. Until then it does not end by itself, no answer says that
//! it did, and a holder that locks with it holds the lock alone.

use std::collections::BTreeMap;

use bytes::Bytes;
use tokio::time::Instant;

#[derive(Debug, Default)]
pub struct Promises {
    leases: BTreeMap<i64, Lease>,
    /// The lease that each lock was last taken with.
    locks: BTreeMap<Bytes, i64>,
}

#[derive(Debug, Default)]
struct Lease {
    /// The lease lives at least until then.
    until: Option<Instant>,
    /// Whether its holder ends it.
    is_given_up: bool,
    /// When its end was first seen.
    ended: Option<Instant>,
}

impl Lease {
    fn must_live(&self, now: Instant) -> bool {
        !self.is_given_up && self.until.is_some_and(|until| now < until)
    }
}

impl Promises {
    /// Notes that lease `id` lives at least until then.
    pub fn promised(&mut self, id: i64, until: Instant) -> Result<(), String> {
        let lease = self.leases.entry(id).or_default();
        lease.until = lease.until.max(Some(until));
        match lease.ended {
            Some(ended) if lease.must_live(ended) => Err(format!(
                "lease {id} ended {:?} before the time that a renewal promised",
                until - ended
            )),
            _ => Ok(()),
        }
    }

    /// Notes that its holder asks for its end.
    pub fn gives_up(&mut self, id: i64) {
        self.leases.entry(id).or_default().is_given_up = true;
    }

    /// Notes that a member says, or shows, that the lease does not exist.
    pub fn is_gone(&self, id: i64, now: Instant) -> Result<(), String> {
        match self.leases.get(&id) {
            Some(lease) if lease.must_live(now) => {
                let early = lease.until.map(|until| until - now);
                Err(format!("lease {id} is gone {early:?} before its time"))
            }
            _ => Ok(()),
        }
    }

    /// Notes that the keys of a lease were deleted, as a watcher saw.
    pub fn ended(&mut self, id: i64, now: Instant) -> Result<(), String> {
        self.is_gone(id, now)?;
        self.leases.entry(id).or_default().ended.get_or_insert(now);
        Ok(())
    }

    /// Notes that a member said that this many seconds are left; the answer came now.
    pub fn is_left(&mut self, id: i64, seconds: i64, now: Instant) -> Result<(), String> {
        let lease = self.leases.entry(id).or_default();
        let promised = lease.until.map_or(0, |until| {
            until.saturating_duration_since(now).as_secs() as i64
        });
        if !lease.is_given_up && seconds < promised {
            return Err(format!(
                "lease {id} has {seconds} s left, though {promised} s were promised"
            ));
        }
        Ok(())
    }

    /// Notes that the holder of lease `id` was told now that `lock` is taken with it.
    pub fn takes(&mut self, lock: &Bytes, id: i64, now: Instant) -> Result<(), String> {
        let before = self.locks.insert(lock.clone(), id);
        match before.and_then(|before| Some((before, self.leases.get(&before)?))) {
            Some((other, lease)) if lease.must_live(now) => Err(format!(
                "the lock that lease {id} takes is held by lease {other}"
            )),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const LOCK: Bytes = Bytes::from_static(b"lock");

    fn moments() -> [Instant; 4] {
        let start = Instant::now();
        [0, 1, 2, 3].map(|seconds| start + Duration::from_secs(seconds))
    }

    #[test]
    fn a_lease_that_ends_in_its_time_or_by_its_holder_is_no_fault() {
        let [first, second, third, last] = moments();
        let mut promises = Promises::default();
        promises.promised(1, second).unwrap();
        promises.is_left(1, 1, first).unwrap();
        promises.promised(1, third).unwrap();
        promises.ended(1, third).unwrap();
        promises.is_gone(1, last).unwrap();
        promises.promised(2, last).unwrap();
        promises.gives_up(2);
        promises.ended(2, first).unwrap();
    }

    #[test]
    fn an_end_before_its_time_is_found_however_it_shows() {
        let [first, second, third, _] = moments();
        let mut promises = Promises::default();
        promises.promised(1, third).unwrap();
        assert!(promises.is_gone(1, second).is_err());
        assert!(promises.ended(1, second).is_err());
        assert!(promises.is_left(1, 1, first).is_err());
        promises.ended(2, second).unwrap();
        assert!(promises.promised(2, third).is_err(), "told afterwards");
    }

    #[test]
    fn a_lock_is_free_when_its_lease_may_have_ended_and_not_before() {
        let [first, second, third, last] = moments();
        let mut promises = Promises::default();
        promises.promised(1, second).unwrap();
        promises.takes(&LOCK, 1, first).unwrap();
        promises.promised(2, last).unwrap();
        promises.takes(&LOCK, 2, second).unwrap();
        promises.promised(3, last).unwrap();
        assert!(promises.takes(&LOCK, 3, third).is_err());
        promises.gives_up(3);
        promises.takes(&LOCK, 2, third).unwrap();
    }
}
