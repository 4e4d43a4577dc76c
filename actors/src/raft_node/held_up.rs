//! What happens to raft's ticks while its core is held up.
//!
//! The core waits for the disk when it saves a vote, for as long as the disk is full or hangs. Its
//! ticks go on meanwhile, into a queue that the core alone empties and writes into as well: once
//! ticks had filled it, the core would wait for itself for ever. So RaftNode keeps one question to
//! the core under way, and stops the ticks until it is answered. A core that is held up misses no
//! tick: the next one shows it what is due.

use std::time::Duration;

use actix::{ActorFutureExt, AsyncContext, Context, WrapFuture};
use openraft::async_runtime::WatchReceiver;
use tokio::time::Instant;

use super::RaftNode;

/// What RaftNode knows of the core.
#[derive(Debug, Default)]
pub(super) struct HeldUp {
    /// When the question that is under way was asked.
    asked: Option<Instant>,
    /// Since when it is known that the core is held up; the ticks are stopped.
    since: Option<Instant>,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Ask,
    StopTicks,
    Wait,
}

impl HeldUp {
    /// Whether the core is known to be held up.
    pub(super) fn is_known(&self) -> bool {
        self.since.is_some()
    }

    #[must_use]
    fn look(&mut self, now: Instant, patience: Duration) -> Next {
        let Some(asked) = self.asked else {
            self.asked = Some(now);
            return Next::Ask;
        };
        if self.since.is_some() || now.saturating_duration_since(asked) <= patience {
            return Next::Wait;
        }
        self.since = Some(asked);
        Next::StopTicks
    }

    /// Notes the answer. Returns since when the core was held up: the ticks have to go on.
    #[must_use]
    fn answered(&mut self) -> Option<Instant> {
        self.asked = None;
        self.since.take()
    }
}

impl RaftNode {
    /// Looks whether the core answers.
    pub(super) fn look_at_the_core(&mut self, ctx: &mut Context<Self>) {
        if self.raft.metrics().borrow_watched().running_state.is_err() {
            return;
        }
        let patience = self.tuning().election_timeout;
        match self.held_up.look(Instant::now(), patience) {
            Next::Ask => self.ask_the_core(ctx),
            Next::StopTicks => {
                tracing::warn!("raft's core is held up, as when a vote waits for the disk");
                self.raft.runtime_config().tick(false);
            }
            Next::Wait => {}
        }
    }

    fn ask_the_core(&self, ctx: &mut Context<Self>) {
        let raft = self.raft.clone();
        let asking = async move { raft.with_raft_state(|_| ()).await };
        let asking = asking.into_actor(self);
        ctx.spawn(asking.map(|answer, node, _| {
            // An error means that the core ended.
            if answer.is_ok()
                && let Some(since) = node.held_up.answered()
            {
                tracing::info!(took = ?since.elapsed(), "raft's core goes on");
                node.raft.runtime_config().tick(true);
            }
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(1);
    const BEAT: Duration = Duration::from_millis(100);

    #[test]
    fn one_question_is_under_way_and_ticks_stop_when_it_is_not_answered_in_time() {
        let (mut core, start) = (HeldUp::default(), Instant::now());
        assert_eq!(core.look(start, PATIENCE), Next::Ask);
        assert_eq!(core.look(start + PATIENCE, PATIENCE), Next::Wait);
        assert!(!core.is_known());
        let late = start + PATIENCE + BEAT;
        assert_eq!(core.look(late, PATIENCE), Next::StopTicks);
        assert_eq!(core.look(late + PATIENCE, PATIENCE), Next::Wait);
        assert!(core.is_known());
        assert_eq!(core.answered(), Some(start), "ticks go on");
        assert!(!core.is_known());
        assert_eq!(core.look(late + 2 * PATIENCE, PATIENCE), Next::Ask);
    }

    #[test]
    fn a_core_that_answers_keeps_its_ticks() {
        let (mut core, start) = (HeldUp::default(), Instant::now());
        for beat in 0..100 {
            assert_eq!(core.look(start + beat * BEAT, PATIENCE), Next::Ask);
            assert_eq!(core.answered(), None);
        }
    }
}
