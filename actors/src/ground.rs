//! What a node's code stands on besides disk and network: threads for blocking work, and chance.
//!
//! In a simulation there is one thread and no chance. Each node's tasks live in a set of their own,
//! so that a crash is the end of that set; blocking work runs where it is asked for; and what
//! chance decides follows from a seed. A thread is a simulation or it is not, for good.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::Sleep;

/// The longest time that a simulated disk takes to flush the log, in milliseconds.
const SIMULATED_FLUSH_MAX_MS: u64 = 6;
/// A simulated thread stands still once in this many times that it could run.
const TURNS_PER_STANDSTILL: u64 = 30;
/// The longest time that it stands still, in milliseconds.
const STANDSTILL_MAX_MS: u64 = 12;

thread_local! {
    static IS_SIMULATED: Cell<bool> = const { Cell::new(false) };
    /// State of the generator that this thread draws from.
    static CHANCE: Cell<u64> = Cell::new(RandomState::new().hash_one(0_u8));
}

/// Makes this thread a simulation with this seed.
#[cfg(any(test, feature = "testing"))]
pub(crate) fn simulate(seed: u64) {
    IS_SIMULATED.set(true);
    CHANCE.set(seed);
}

/// Whether this thread is a simulation.
pub(crate) fn is_simulated() -> bool {
    IS_SIMULATED.get()
}

/// A random number: good enough to spread timeouts, not for secrets (SplitMix64).
pub(crate) fn chance() -> u64 {
    let state = CHANCE.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
    CHANCE.set(state);
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Does work that may block, away from the thread's other tasks. Errors: the work panicked, or the
/// node ends.
pub(crate) async fn offload<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    if is_simulated() {
        return Ok(work());
    }
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(io::Error::other)
}

/// Like `offload`, for work that nobody waits for: it has begun when this returns.
pub(crate) fn detach(work: impl FnOnce() + Send + 'static) {
    if is_simulated() {
        return work();
    }
    tokio::task::spawn_blocking(work);
}

/// When a simulated disk begins the next flush of the log; its thread cannot wait for it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum FlushTime {
    /// After this time, behind the messages that come meanwhile.
    Behind(Duration),
    /// Before those messages: the thread had looked for messages, and then did not run for this
    /// long.
    Before(Duration),
}

/// When the next flush begins; `None` if the disk is real and takes the time itself.
pub(crate) fn flush_time() -> Option<FlushTime> {
    if !is_simulated() {
        return None;
    }
    let delay = Duration::from_millis(chance() % (SIMULATED_FLUSH_MAX_MS + 1));
    match chance() % 2 {
        0 => Some(FlushTime::Before(delay)),
        _ => Some(FlushTime::Behind(delay)),
    }
}

/// A task that has a thread of its own outside of simulations. In a simulation it stands still now
/// and then, as such a thread does while the system lets others run, and its messages wait.
#[derive(Debug)]
pub(crate) struct Unsteady<T> {
    task: T,
    stands: Option<Pin<Box<Sleep>>>,
}

impl<T> Unsteady<T> {
    pub(crate) fn new(task: T) -> Unsteady<T> {
        Unsteady { task, stands: None }
    }
}

impl<T: Future<Output = ()> + Unpin> Future for Unsteady<T> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.stands.is_none() && chance().is_multiple_of(TURNS_PER_STANDSTILL) {
            let time = Duration::from_millis(1 + chance() % STANDSTILL_MAX_MS);
            self.stands = Some(Box::pin(tokio::time::sleep(time)));
        }
        if let Some(stands) = &mut self.stands {
            ready!(stands.as_mut().poll(cx));
            self.stands = None;
        }
        Pin::new(&mut self.task).poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_decides_what_chance_says_and_other_threads_are_not_concerned() {
        let rolls = |seed| {
            let thread = std::thread::spawn(move || {
                simulate(seed);
                (is_simulated(), [chance(), chance(), chance()])
            });
            thread.join().unwrap()
        };
        assert_eq!(rolls(7), rolls(7));
        assert_ne!(rolls(7), rolls(8));
        assert!(rolls(7).0 && !is_simulated());
    }
}
