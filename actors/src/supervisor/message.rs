//! What the supervisor is told.

use std::borrow::Cow;
use std::fmt;

use actix::Message;

use super::death_watch::{DeathWatch, Exit};
use super::policy::Policy;

/// Starts a new value of a child; given the guard that it has to carry.
pub type Respawn = Box<dyn FnMut(DeathWatch) + Send>;

/// From now on the death of `child` is answered by `policy`.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Supervise {
    /// Its name, unique under this supervisor.
    pub child: Cow<'static, str>,
    /// What its death means.
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

/// The death of `child` is intended from now on.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct Retire {
    /// Its name.
    pub child: Cow<'static, str>,
}

/// The death of any child is intended from now on.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct RetireAll;

/// A child ended.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct Terminated {
    /// Which.
    pub child: Cow<'static, str>,
    /// How.
    pub exit: Exit,
}

/// The delay after a death is over.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub(super) struct StartAgain(pub(super) Cow<'static, str>);
