//! Supervisor: notices that a child ended, and acts by the child's policy.
//!
//! ```text
//!            Supervise           Terminated, policy Restart            StartAgain
//!  (unknown) --------> watched ----------------------------> waiting -----------> watched
//!                         |
//!                         +-- Terminated, policy Halt, or too often --> the node halts
//! ```
//! Owns: the policy and the recent deaths of each child, and how to start a new one.
//! Waits for: nobody; it only sends notices.
//! Fails: it holds no state that matters; without it a death of the core is still noticed, because
//! any part that meets an error trips the halt switch.

mod actor_ref;
mod death_watch;
mod message;
mod policy;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Instant;

use actix::{Actor, AsyncContext, Context, Handler};

pub use self::actor_ref::ActorRef;
pub use self::death_watch::DeathWatch;
#[cfg(test)]
pub use self::death_watch::Exit;
use self::message::StartAgain;
pub use self::message::{Respawn, Retire, RetireAll, Supervise, Terminated};
pub use self::policy::{Deaths, Decision, Policy};
use crate::halt::Halt;

/// Supervises the children of one node.
#[derive(Debug)]
pub struct Supervisor {
    halt: Halt,
    children: BTreeMap<Cow<'static, str>, Child>,
    retired: bool,
    /// The guard of a supervisor that is itself a child.
    _death_watch: Option<DeathWatch>,
}

struct Child {
    deaths: Deaths,
    respawn: Option<Respawn>,
}

impl std::fmt::Debug for Child {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.deaths.fmt(f)
    }
}

impl Supervisor {
    /// A supervisor without children that stops the node by `halt`.
    pub fn new(halt: Halt) -> Supervisor {
        Supervisor {
            halt,
            children: BTreeMap::new(),
            retired: false,
            _death_watch: None,
        }
    }

    /// Like `new`, as a child of another supervisor.
    pub(crate) fn watched(halt: Halt, watch: DeathWatch) -> Supervisor {
        Supervisor {
            _death_watch: Some(watch),
            ..Supervisor::new(halt)
        }
    }
}

impl Actor for Supervisor {
    type Context = Context<Self>;
}

impl Handler<Supervise> for Supervisor {
    type Result = ();

    fn handle(&mut self, spec: Supervise, _: &mut Context<Self>) {
        assert!(
            spec.policy != Policy::Restart || spec.respawn.is_some(),
            "{} is to be restarted but nobody knows how",
            spec.child
        );
        let child = Child {
            deaths: Deaths::new(spec.policy),
            respawn: spec.respawn,
        };
        self.children.insert(spec.child, child);
    }
}

impl Handler<Retire> for Supervisor {
    type Result = ();

    fn handle(&mut self, Retire { child }: Retire, _: &mut Context<Self>) {
        self.children.remove(&child);
    }
}

impl Handler<RetireAll> for Supervisor {
    type Result = ();

    fn handle(&mut self, _: RetireAll, _: &mut Context<Self>) {
        self.retired = true;
    }
}

impl Handler<Terminated> for Supervisor {
    type Result = ();

    fn handle(&mut self, death: Terminated, ctx: &mut Context<Self>) {
        if self.retired {
            return;
        }
        let Terminated { child, exit } = death;
        let Some(known) = self.children.get_mut(&child) else {
            tracing::debug!(%child, %exit, "an actor without a supervisor's policy ended");
            return;
        };
        match known.deaths.died(Instant::now()) {
            Decision::Halt => self.halt.trip(format!("{child} {exit}")),
            Decision::RestartAfter(delay) => {
                tracing::warn!(%child, %exit, ?delay, "an actor ended and is started again");
                ctx.notify_later(StartAgain(child), delay);
            }
        }
    }
}

impl Handler<StartAgain> for Supervisor {
    type Result = ();

    fn handle(&mut self, StartAgain(name): StartAgain, ctx: &mut Context<Self>) {
        if self.retired {
            return;
        }
        // The child may have been retired while it waited.
        let Some(child) = self.children.get_mut(&name) else {
            return;
        };
        let respawn = child
            .respawn
            .as_mut()
            .expect("checked when supervision began");
        respawn(DeathWatch::new(name, ctx.address().recipient()));
    }
}

#[cfg(test)]
#[path = "supervisor_test.rs"]
mod tests;
