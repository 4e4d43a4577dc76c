//! Which process speaks for each member. Two that do at the same time are one member started twice,
//! perhaps on two machines. Each may vote in its name, so that two leaders may have a quorum.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use althing_api::id::MemberId;
use parking_lot::Mutex;

/// Members that are told apart; more than any cluster has.
const SENDERS_MAX: usize = 1_024;
/// How often the same is told.
const TOLD_INTERVAL: Duration = Duration::from_secs(10);

/// The processes that were heard.
#[derive(Debug, Default)]
pub(super) struct Senders(Mutex<HashMap<MemberId, Sender>>);

#[derive(Debug)]
struct Sender {
    process: u64,
    /// The process that spoke before.
    former: Option<u64>,
    told: Option<Instant>,
}

impl Senders {
    /// Notes that `process` speaks for `member` now. Returns whether it has to be told that another
    /// one does so too.
    pub(super) fn are_two(&self, member: MemberId, process: u64, now: Instant) -> bool {
        let mut senders = self.0.lock();
        if senders.len() >= SENDERS_MAX && !senders.contains_key(&member) {
            return false;
        }
        let sender = senders.entry(member).or_insert(Sender {
            process,
            former: None,
            told: None,
        });
        if sender.process == process {
            return false;
        }
        let former = std::mem::replace(&mut sender.process, process);
        // A process that was replaced by a new start never speaks again.
        let is_back = sender.former.replace(former) == Some(process);
        let is_due = sender.told.is_none_or(|told| now - told >= TOLD_INTERVAL);
        if is_back && is_due {
            sender.told = Some(now);
        }
        is_back && is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_processes_speak_for_a_member_if_one_speaks_again_after_the_other() {
        let (senders, start) = (Senders::default(), Instant::now());
        let hear = |member, process, seconds| {
            let now = start + Duration::from_secs(seconds);
            senders.are_two(MemberId(member), process, now)
        };
        assert!(!hear(1, 11, 0));
        assert!(!hear(2, 21, 0));
        // Started again, and again.
        assert!(!hear(1, 12, 1) && !hear(1, 13, 2) && !hear(1, 13, 3));
        assert!(hear(1, 12, 4));
        assert!(!hear(1, 13, 5), "it was told just now");
        assert!(hear(1, 12, 20));
        assert!(!hear(2, 21, 20));
    }
}
