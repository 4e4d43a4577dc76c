//! The power of a simulated machine: its node runs while there is power.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use rand::Rng;
use tokio::time::Instant;

use super::Machine;

/// A node that runs this often while no time passes would run forever. Some hundred are usual.
const TURNS_MAX: u64 = 50_000;

/// Runs a machine's node.
pub struct Power {
    machine: Rc<Machine>,
    /// The last moment at which the node ran, and how often it did.
    turns: (Instant, u64),
    /// The snapshots that it had taken over by then, and where its log ended.
    snapshots: u64,
    log_end: u64,
}

impl Power {
    pub fn new(machine: &Rc<Machine>) -> Power {
        Power {
            machine: Rc::clone(machine),
            turns: (Instant::now(), 0),
            snapshots: 0,
            log_end: 0,
        }
    }

    /// Often cuts the power when the log and the store do not match for a moment: a snapshot has
    /// just taken the store's place, or raft has cut off entries that another leader replaces.
    fn look_at_the_node(&mut self) {
        let live = self.machine.live.borrow();
        let Some(live) = &*live else {
            (self.snapshots, self.log_end) = (0, 0);
            return;
        };
        let snapshots = live.handles.snapshots_taken_over();
        let log_end = live.log.state().1.map_or(0, |last| last.index);
        if snapshots > self.snapshots || log_end < self.log_end {
            let mut dice = self.machine.dice.borrow_mut();
            if dice.random_range(0..3) == 0 {
                self.machine.power_off_soon(dice.random_range(1..=4));
            }
        }
        (self.snapshots, self.log_end) = (snapshots, log_end);
    }

    /// Whether the node may run once more.
    fn take_turn(&mut self) -> bool {
        let now = Instant::now();
        if self.turns.0 != now {
            self.turns = (now, 0);
        }
        self.turns.1 += 1;
        if self.turns.1 == TURNS_MAX {
            let number = self.machine.number;
            let what = format!("member {number} is busy without end");
            self.machine.record.violated(what);
        }
        self.turns.1 < TURNS_MAX
    }
}

impl Future for Power {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let power = self.get_mut();
        let machine = Rc::clone(&power.machine);
        machine.waker.replace(Some(cx.waker().clone()));
        let mut ran = false;
        if !machine.is_paused()
            && let Some(set) = machine.set.borrow_mut().as_mut()
            && power.take_turn()
        {
            machine.clock.borrow_mut().swap();
            // A node without tasks gets new ones, or crashes.
            let _ = Pin::new(set).poll(cx);
            machine.clock.borrow_mut().swap();
            ran = true;
        }
        if ran {
            power.look_at_the_node();
        }
        Poll::Pending
    }
}
