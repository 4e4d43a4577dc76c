//! Keeps a lease alive, over the endpoints, for as long as the server confirms it in time.
//!
//! A lease is believed to live for its TTL from the moment at which the confirmed renewal was
//! sent, never longer than the server believes it. Renewals are sent three times per TTL, so that
//! two may be lost; one that stays unanswered for that time is sent again to another endpoint.

use std::time::Duration;

use althing_api::etcdserverpb::lease_client::LeaseClient;
use althing_api::etcdserverpb::{LeaseKeepAliveRequest, LeaseKeepAliveResponse};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tonic::{Status, Streaming};

use crate::client::connector::RETRY_PAUSE;
use crate::client::deadline::Deadline;
use crate::client::{Client, passes, refusal};
use crate::failure::Failure;

/// How many renewals fit into a TTL.
const RENEWALS_PER_TTL: u32 = 3;

struct Open {
    requests: mpsc::Sender<LeaseKeepAliveRequest>,
    answers: Streaming<LeaseKeepAliveResponse>,
}

/// A lease that is kept alive as long as [`KeepAlive::next`] is called.
pub struct KeepAlive {
    client: Client,
    id: i64,
    open: Option<Open>,
    /// When the next renewal is sent.
    due: Instant,
    /// How long to wait for a renewal before another endpoint is asked.
    patience: Duration,
    /// Until when the lease certainly lives; at first, how long to wait for the first answer.
    end: Deadline,
    confirmed: bool,
}

impl Client {
    /// Keeps lease `id` alive; `ttl` is the rest of its life, if that is known.
    pub fn keep_alive(&self, id: i64, ttl: Option<Duration>) -> KeepAlive {
        KeepAlive {
            client: self.clone(),
            id,
            open: None,
            due: Instant::now(),
            patience: self.dial_timeout,
            end: ttl.map_or_else(|| self.request_deadline(), Deadline::after),
            confirmed: ttl.is_some(),
        }
    }
}

impl KeepAlive {
    /// Sends the next renewal when it is due. `None` if the lease has expired or was revoked.
    ///
    /// # Errors
    /// The server refuses, or nobody answered the first renewal in time.
    pub async fn next(&mut self) -> Result<Option<LeaseKeepAliveResponse>, Failure> {
        sleep_until(self.due).await;
        let end = self.end;
        let mut last = Vec::new();
        let Some(answer) = end.bound(self.renew(&mut last)).await else {
            return if self.confirmed {
                Ok(None)
            } else {
                Err(Failure::deadline(last))
            };
        };
        let (sent, answer) = answer?;
        let ttl = Duration::from_secs(u64::try_from(answer.ttl).unwrap_or(0));
        if ttl.is_zero() {
            return Ok(None);
        }
        self.confirmed = true;
        self.patience = ttl / RENEWALS_PER_TTL;
        self.due = sent + self.patience;
        self.end = Deadline::after(ttl.saturating_sub(sent.elapsed()));
        Ok(Some(answer))
    }

    /// Renews until the server answers; `last` says how the attempts failed.
    async fn renew(
        &mut self,
        last: &mut Vec<String>,
    ) -> Result<(Instant, LeaseKeepAliveResponse), Failure> {
        loop {
            let patience = Deadline::after(self.patience);
            let sent = Instant::now();
            let status = match patience.bound(self.exchange()).await {
                Some(Ok(answer)) => return Ok((sent, answer)),
                Some(Err(status)) => status,
                None => Status::unavailable("no answer to the renewal"),
            };
            let failure = refusal(&status);
            if !passes(&status) {
                return Err(failure);
            }
            *last = vec![failure.text];
            self.open = None;
            self.client.connector.lose();
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    async fn exchange(&mut self) -> Result<LeaseKeepAliveResponse, Status> {
        let request = LeaseKeepAliveRequest { id: self.id };
        if let Some(open) = &mut self.open {
            // A stream that takes no more requests delivers its end as an answer.
            _ = open.requests.send(request).await;
        } else {
            self.open = Some(self.start(request).await?);
        }
        let open = self.open.as_mut().expect("it was opened above");
        let answer = open.answers.message().await?;
        answer.ok_or_else(|| Status::unavailable("the server ended the stream"))
    }

    async fn start(&mut self, first: LeaseKeepAliveRequest) -> Result<Open, Status> {
        let mut notes = Vec::new();
        let attempt = self.client.connector.attempt(&mut notes).await;
        let channel = attempt.ok_or_else(|| Status::unavailable(notes.join("; ")))?;
        let (requests, receiver) = mpsc::channel(1);
        // The answer begins only when the server has read a request.
        let sent = requests.try_send(first);
        sent.expect("the channel is new and has room");
        let answer = LeaseClient::new(channel)
            .lease_keep_alive(self.client.streamed(receiver))
            .await?;
        Ok(Open {
            requests,
            answers: answer.into_inner(),
        })
    }
}
