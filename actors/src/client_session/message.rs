//! What ClientSession is told.

use actix::Message;

/// Let the streams end and take no new ones: the member shuts down.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Drain;

/// The connection is gone.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Disconnected;
