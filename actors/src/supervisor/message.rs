//! The messages that the supervisor takes.

use std::borrow::Cow;
use std::fmt;

use actix::Message;

use super::death_watch::{DeathWatch, Exit};
use super::policy::Policy;

/// Starts a new value of a child, which has to carry the given guard.
pub type Respawn = Box<dyn FnMut(DeathWatch) + Send>;

/// Answer the death of `child` by `policy` from now on.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Supervise {
    /// The child's name, unique under this supervisor.
    pub child: Cow<'static, str>,
    /// What the child's death means.
    pub policy: Policy,
    /// How a new one is started; needed by [`Policy::Restart`] only.
    pub respawn: Option<Respawn>,
}

impl fmt::Debug for Supervise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Supervise")
            .field("child", &self.child)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

/// Take the death of `child` as intended from now on.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct Retire {
    /// The child's name.
    pub child: Cow<'static, str>,
}

/// Take the death of any child as intended from now on.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct RetireAll;

/// A child ended.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct Terminated {
    /// The child's name.
    pub child: Cow<'static, str>,
    /// How the child ended.
    pub exit: Exit,
}

/// The delay after a death is over.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub(super) struct StartAgain(pub(super) Cow<'static, str>);
