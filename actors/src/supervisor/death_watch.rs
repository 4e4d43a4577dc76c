//! How a child's death is noticed: a guard inside the actor, whose drop runs when the actor stops
//! and when it panics.

use std::borrow::Cow;
use std::fmt;

use actix::Recipient;

use super::message::Terminated;

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// A handler or a hook panicked.
    Panicked,
    /// The actor stopped, or its thread ended.
    Stopped,
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Exit::Panicked => "panicked",
            Exit::Stopped => "stopped",
        })
    }
}

/// Lives in an actor's value and reports to the supervisor when that value goes.
#[derive(Debug)]
pub struct DeathWatch {
    child: Cow<'static, str>,
    supervisor: Recipient<Terminated>,
}

impl DeathWatch {
    /// A guard for `child` that reports to `supervisor`.
    pub fn new(
        child: impl Into<Cow<'static, str>>,
        supervisor: Recipient<Terminated>,
    ) -> DeathWatch {
        DeathWatch {
            child: child.into(),
            supervisor,
        }
    }
}

impl Drop for DeathWatch {
    fn drop(&mut self) {
        // This also runs while a panic unwinds the actor, so it must not panic itself.
        let exit = if std::thread::panicking() {
            Exit::Panicked
        } else {
            Exit::Stopped
        };
        self.supervisor.do_send(Terminated {
            child: std::mem::take(&mut self.child),
            exit,
        });
    }
}
