//! The messages that the Applier takes.

use std::io;

use actix::Message;
use althing_api::error::Error;
use althing_storage::apply::Response;
use althing_storage::entry::Entry;

use crate::raft_node::types::Waiter;

/// The outcome of a command.
#[derive(Debug)]
pub struct Outcome {
    /// The state machine's answer, or its refusal.
    pub response: Result<Response, Error>,
    /// The store's revision after the command.
    pub revision: i64,
}

/// Apply committed entries, in order, and answer the clients that wait for them. The message is
/// answered when all are visible in the store.
#[derive(Message)]
#[rtype(result = "io::Result<()>")]
pub(crate) struct Apply {
    pub(crate) entries: Vec<(Entry, Option<Waiter>)>,
}
