//! The messages that a ClientSession takes.

use actix::Message;

/// Let the streams end and take no new ones, because the member shuts down.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Drain;

/// The connection is gone.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Disconnected;
