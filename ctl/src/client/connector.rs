//! Finds an endpoint that answers. Endpoints are tried in the order given, each started a moment
//! after the one before or as soon as that one fails, so that a dead first endpoint costs little.
//! The system accepts connections for a process that is stopped or not ready yet, so that where
//! there is a choice an endpoint counts only once the server itself has answered.
//!
//! Owns the one connection of a client; clones share it until one of them loses it.

use std::error::Error as _;
use std::time::Duration;

use althing_api::healthpb::HealthCheckRequest;
use althing_api::healthpb::health_client::HealthClient;
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
    /// How long a server may take for its first answer.
    patience: Duration,
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
            patience: settings.dial_timeout,
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
        // The old notes stay until there are new ones: this future may be dropped before.
        let mut fresh = Vec::new();
        let mut attempts = JoinSet::new();
        let patience = (self.targets.len() > 1).then_some(self.patience);
        let mut order = self.targets.clone();
        order.rotate_left(self.first);
        let mut waiting = order.into_iter().peekable();
        loop {
            if let Some(target) = waiting.next() {
                attempts.spawn(connection(target, patience));
            }
            let last = waiting.peek().is_none();
            tokio::select! {
                ended = attempts.join_next() => match ended {
                    Some(Ok(Ok(channel))) => return Some(self.channel.insert(channel).clone()),
                    Some(Ok(Err(note))) => fresh.push(note),
                    Some(Err(error)) => fresh.push(error.to_string()),
                    None => {
                        *notes = fresh;
                        return None;
                    }
                },
                () = sleep(STAGGER), if !last => {}
            }
        }
    }
}

/// Connects to `target`. With `patience`, the server has to answer a request as well, in that time.
async fn connection(target: Target, patience: Option<Duration>) -> Result<Channel, String> {
    let note = |why: String| format!("{}: {why}", target.name);
    let channel = target.endpoint.connect().await;
    let channel = channel.map_err(|error| note(cause(&error)))?;
    if let Some(patience) = patience {
        hear(channel.clone(), patience).await.map_err(note)?;
    }
    Ok(channel)
}

/// Waits for an answer of the server; one that refuses the question is there as well.
async fn hear(channel: Channel, patience: Duration) -> Result<(), String> {
    let mut health = HealthClient::new(channel);
    let asked = health.check(HealthCheckRequest::default());
    match Deadline::after(patience).bound(asked).await {
        None => Err("connected, but no answer".to_owned()),
        // Only a status that was made here has a source: the connection broke.
        Some(Err(status)) => status.source().map_or(Ok(()), |source| Err(cause(source))),
        Some(Ok(_)) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use tonic::transport::Endpoint;

    use super::*;

    #[tokio::test]
    async fn endpoints_that_accept_and_say_nothing_are_given_up_with_a_note_each() {
        let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let addresses = listeners.each_ref().map(|one| one.local_addr().unwrap());
        let target = |name: String| Target {
            endpoint: Endpoint::from_shared(format!("http://{name}")).unwrap(),
            name,
        };
        let mut connector = Connector {
            targets: addresses.map(|one| target(one.to_string())).to_vec(),
            channel: None,
            first: 0,
            patience: Duration::from_millis(50),
        };
        let mut notes = Vec::new();
        assert!(connector.attempt(&mut notes).await.is_none());
        let expected = addresses.map(|one| format!("{one}: connected, but no answer"));
        assert_eq!(notes, expected);
    }
}
