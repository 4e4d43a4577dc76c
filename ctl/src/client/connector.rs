//! Finds an endpoint that answers. Endpoints are tried in the order given, each started a moment
//! after the one before or as soon as that one fails, so that a dead first endpoint costs little.
//!
//! Owns the one connection of a client; clones share it until one of them loses it.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::sleep;
use tonic::transport::Channel;

use crate::client::deadline::Deadline;
use crate::endpoint::{Target, cause, targets};
use crate::failure::{BAD_CONNECTION, Failure};
use crate::flags::Settings;

/// How long to wait for an endpoint before the next one is tried as well.
const STAGGER: Duration = Duration::from_millis(250);
/// Pause before endpoints that all failed are tried again.
pub const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// The endpoints of a cluster, and the connection to one of them, if there is one.
#[derive(Clone)]
pub struct Connector {
    targets: Vec<Target>,
    channel: Option<Channel>,
    /// Where the search for an endpoint begins; moves on when one turns out to be unavailable.
    first: usize,
}

impl Connector {
    /// Reads the endpoints of `settings`; connects when it is first used.
    ///
    /// # Errors
    /// An unusable endpoint or TLS file, or no endpoint at all.
    pub fn new(settings: &Settings) -> Result<Connector, Failure> {
        let targets = targets(settings)?;
        if targets.is_empty() {
            let text = "etcdclient: no available endpoints";
            return Err(Failure::new(BAD_CONNECTION, text));
        }
        Ok(Connector {
            targets,
            channel: None,
            first: 0,
        })
    }

    /// Gives the connection up; the search for another begins at the next endpoint.
    pub fn lose(&mut self) {
        self.channel = None;
        self.first = (self.first + 1) % self.targets.len();
    }

    /// As [`Connector::lose`], unless the connection is lost already.
    pub fn leave(&mut self) {
        if self.channel.is_some() {
            self.lose();
        }
    }

    /// A channel to an endpoint that answers; waits for one until `deadline`.
    ///
    /// # Errors
    /// The deadline, with what each endpoint said last.
    pub async fn connected(&mut self, deadline: Deadline) -> Result<Channel, Failure> {
        let mut notes = Vec::new();
        while !deadline.is_over() {
            match deadline.bound(self.attempt(&mut notes)).await {
                Some(Some(channel)) => return Ok(channel),
                Some(None) => _ = deadline.pause(RETRY_PAUSE).await,
                None => break,
            }
        }
        Err(Failure::deadline(notes))
    }

    /// The channel, or one attempt at every endpoint. When none answers, `notes` say why.
    pub async fn attempt(&mut self, notes: &mut Vec<String>) -> Option<Channel> {
        if let Some(channel) = &self.channel {
            return Some(channel.clone());
        }
        notes.clear();
        let mut attempts = JoinSet::new();
        let mut order = self.targets.clone();
        order.rotate_left(self.first);
        let mut waiting = order.into_iter().peekable();
        loop {
            if let Some(target) = waiting.next() {
                attempts.spawn(async move {
                    let channel = target.endpoint.connect().await;
                    channel.map_err(|error| format!("{}: {}", target.name, cause(&error)))
                });
            }
            let last = waiting.peek().is_none();
            tokio::select! {
                ended = attempts.join_next() => match ended {
                    Some(Ok(Ok(channel))) => return Some(self.channel.insert(channel).clone()),
                    Some(Ok(Err(note))) => notes.push(note),
                    Some(Err(error)) => notes.push(error.to_string()),
                    None => return None,
                },
                () = sleep(STAGGER), if !last => {}
            }
        }
    }
}
