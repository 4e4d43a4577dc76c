//! What follows when the connection of a leader ends: how often to knock at its door, and when this
//! member campaigns if nobody listens there. Pure.
//!
//! A connection may end for many reasons; that its host then refuses a new one means that the
//! process is gone. The survivors find this out within milliseconds of one another. They take turns
//! in the order of their ids, because two that campaign at once split the votes.

use std::time::Duration;

/// The waits before each knock. The listener of a process that dies closes a moment before or
/// after its connections, and a busy host takes longer.
const KNOCK_WAITS_MS: [u64; 6] = [0, 5, 15, 40, 90, 150];

/// The waits before each knock; if none is refused, the timer decides.
pub(super) fn knock_waits() -> impl Iterator<Item = Duration> {
    KNOCK_WAITS_MS.into_iter().map(Duration::from_millis)
}

/// When one of the survivors campaigns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turns {
    place: u32,
    survivors: u32,
    interval: Duration,
    patience: Duration,
}

impl Turns {
    /// The turns of `me` among `voters` without their dead `leader`, one each `interval`, until
    /// raft's own timer is due after `patience`. `None`: no voter.
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

    /// The waits before each of its campaigns.
    pub(super) fn waits(self) -> impl Iterator<Item = Duration> {
        let first = self.interval * self.place;
        let round = self.interval * self.survivors;
        let at = (0..).map(move |turn: u32| first + round * turn);
        let times = at.take_while(move |at| *at < self.patience);
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
    const PATIENCE: Duration = Duration::from_millis(500);

    fn turns(me: u64, voters: &[u64]) -> Vec<u128> {
        let voters = voters.iter().copied();
        let turns = Turns::new(me, 2, voters, INTERVAL, PATIENCE).expect("a voter");
        turns.waits().map(|wait| wait.as_millis()).collect()
    }

    #[test]
    fn survivors_take_turns_in_the_order_of_their_ids_until_the_timer_is_due() {
        assert_eq!(turns(1, &[3, 2, 1]), [0, 200, 200]);
        assert_eq!(turns(3, &[3, 2, 1]), [100, 200]);
        assert_eq!(turns(5, &[1, 2, 3, 4, 5]), [300]);
    }

    #[test]
    fn who_has_no_vote_does_not_campaign() {
        let voters = [1, 2].into_iter();
        assert_eq!(Turns::new(9, 2, voters, INTERVAL, PATIENCE), None);
    }

    #[test]
    fn knocks_end_well_before_the_default_election_timeout() {
        assert!(knock_waits().sum::<Duration>() < Duration::from_millis(500));
    }
}
