//! The connection to a cluster: picks an endpoint that answers, logs in, sends requests.
//!
//! States: not connected -> connected to one endpoint -> (unavailable) not connected. Endpoints
//! are tried in the order given, each started a moment after the one before or as soon as that
//! one fails, so that a dead first endpoint costs little. Requests that read are sent again to
//! another endpoint when a member is unavailable; requests that write are sent once, because
//! nobody knows whether the lost one took effect. Everything ends at the command's deadline.

use std::error::Error as _;
use std::future::Future;
use std::time::Duration;

use althing_api::error::Error as ApiError;
use althing_api::etcdserverpb::auth_client::AuthClient;
use althing_api::etcdserverpb::cluster_client::ClusterClient;
use althing_api::etcdserverpb::kv_client::KvClient;
use althing_api::etcdserverpb::maintenance_client::MaintenanceClient;
use althing_api::etcdserverpb::{
    AlarmRequest, AlarmResponse, AuthenticateRequest, CompactionRequest, CompactionResponse,
    DeleteRangeRequest, DeleteRangeResponse, HashKvRequest, HashKvResponse, MemberListRequest,
    MemberListResponse, PutRequest, PutResponse, RangeRequest, RangeResponse, StatusRequest,
    StatusResponse, TxnRequest, TxnResponse,
};
use prost::Message;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};

use crate::endpoint::{Target, cause, targets};
use crate::failure::{BAD_CONNECTION, ERROR, Failure, rpc_text};
use crate::flags::{Login, Settings};
use crate::password;

/// The metadata that carries the login, on every request.
const TOKEN_NAME: &str = "token";
/// How long an endpoint is waited for before the next one is tried as well.
const STAGGER: Duration = Duration::from_millis(250);
/// Pause before endpoints that all failed are tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// How often a read is sent again before its refusal is believed.
const ATTEMPTS_MAX: u32 = 100;
/// Pause before a read that a member could not answer is sent again.
const ATTEMPT_PAUSE: Duration = Duration::from_millis(25);

/// Whether a request may be sent a second time.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Repeat {
    Safe,
    Never,
}

/// A client of one cluster, for the time of one command.
pub struct Client {
    targets: Vec<Target>,
    channel: Option<Channel>,
    /// Where the search for an endpoint begins; moves on when one turns out unavailable.
    first: usize,
    token: Option<MetadataValue<Ascii>>,
    deadline: Instant,
    request_bytes_max: usize,
    receive_bytes_max: usize,
}

impl Client {
    /// Prepares a client and logs in when the settings say so; connects when it is first used.
    /// The command's time begins here.
    ///
    /// # Errors
    /// An unusable endpoint or TLS file, no endpoint at all, or a refused login.
    pub async fn open(settings: &Settings) -> Result<Client, Failure> {
        let targets = targets(settings)?;
        if targets.is_empty() {
            return Err(Failure::new(
                BAD_CONNECTION,
                "etcdclient: no available endpoints",
            ));
        }
        let mut client = Client {
            targets,
            channel: None,
            first: 0,
            token: None,
            deadline: Instant::now() + settings.command_timeout,
            request_bytes_max: settings.request_bytes_max,
            receive_bytes_max: settings.receive_bytes_max,
        };
        if let Some(login) = &settings.login {
            client.log_in(login, settings.dial_timeout).await?;
        } else if let Some(token) = &settings.token {
            client.token = Some(token_value(token)?);
        }
        Ok(client)
    }

    async fn log_in(&mut self, login: &Login, dial_timeout: Duration) -> Result<(), Failure> {
        let password = match &login.password {
            Some(password) => password.clone(),
            None => password::ask()?,
        };
        let request = AuthenticateRequest {
            name: login.name.clone(),
            password,
        };
        let command_deadline = self.deadline;
        self.deadline = command_deadline.min(Instant::now() + dial_timeout);
        let answer = self
            .call(Repeat::Safe, request, |channel, request| async move {
                AuthClient::new(channel).authenticate(request).await
            })
            .await;
        self.deadline = command_deadline;
        match answer {
            Ok(answer) => self.token = Some(token_value(&answer.token)?),
            // A cluster without authentication serves everybody, with or without a name.
            Err(failure) if failure.text == ApiError::AuthNotEnabled.text() => {}
            Err(failure) => {
                return Err(Failure {
                    exit: BAD_CONNECTION,
                    ..failure
                });
            }
        }
        Ok(())
    }

    /// Reads keys.
    ///
    /// # Errors
    /// The server's refusal, or the deadline.
    pub async fn range(&mut self, request: RangeRequest) -> Result<RangeResponse, Failure> {
        let bytes_max = self.receive_bytes_max;
        self.call(Repeat::Safe, request, |channel, request| async move {
            kv(channel, bytes_max).range(request).await
        })
        .await
    }

    /// Reads keys by the streaming call, and puts the parts together.
    ///
    /// # Errors
    /// The server's refusal, or the deadline.
    pub async fn range_stream(&mut self, request: RangeRequest) -> Result<RangeResponse, Failure> {
        let bytes_max = self.receive_bytes_max;
        self.call(Repeat::Safe, request, |channel, request| async move {
            let answer = kv(channel, bytes_max).range_stream(request).await?;
            let mut parts = answer.into_inner();
            let mut whole = RangeResponse::default();
            while let Some(part) = parts.message().await? {
                let Some(part) = part.range_response else {
                    continue;
                };
                whole.kvs.extend(part.kvs);
                // Only the last part knows the header, the count and whether there is more.
                whole.header = part.header.or(whole.header);
                whole.more |= part.more;
                whole.count = whole.count.max(part.count);
            }
            Ok(Response::new(whole))
        })
        .await
    }

    /// Writes a key.
    ///
    /// # Errors
    /// The server's refusal, or the deadline.
    pub async fn put(&mut self, request: PutRequest) -> Result<PutResponse, Failure> {
        self.call(Repeat::Never, request, |channel, request| async move {
            kv(channel, usize::MAX).put(request).await
        })
        .await
    }

    /// Deletes keys.
    ///
    /// # Errors
    /// The server's refusal, or the deadline.
    pub async fn delete_range(
        &mut self,
        request: DeleteRangeRequest,
    ) -> Result<DeleteRangeResponse, Failure> {
        let bytes_max = self.receive_bytes_max;
        self.call(Repeat::Never, request, |channel, request| async move {
            kv(channel, bytes_max).delete_range(request).await
        })
        .await
    }

    /// Runs a transaction.
    ///
    /// # Errors
    /// The server's refusal, or the deadline.
    pub async fn txn(&mut self, request: TxnRequest) -> Result<TxnResponse, Failure> {
        let bytes_max = self.receive_bytes_max;
        self.call(Repeat::Never, request, |channel, request| async move {
            kv(channel, bytes_max).txn(request).await
        })
        .await
    }

    /// Forgets old revisions.
    ///
    /// # Errors
    /// The server's refusal, or the deadline.
    pub async fn compact(
        &mut self,
        request: CompactionRequest,
    ) -> Result<CompactionResponse, Failure> {
        self.call(Repeat::Never, request, |channel, request| async move {
            kv(channel, usize::MAX).compact(request).await
        })
        .await
    }

    /// Lists the members.
    ///
    /// # Errors
    /// The server's refusal, or the deadline.
    pub async fn member_list(
        &mut self,
        request: MemberListRequest,
    ) -> Result<MemberListResponse, Failure> {
        self.call(Repeat::Safe, request, |channel, request| async move {
            ClusterClient::new(channel).member_list(request).await
        })
        .await
    }

    /// Asks a member how it is.
    ///
    /// # Errors
    /// The server's refusal, or the deadline.
    pub async fn status(&mut self) -> Result<StatusResponse, Failure> {
        self.call(
            Repeat::Safe,
            StatusRequest {},
            |channel, request| async move { MaintenanceClient::new(channel).status(request).await },
        )
        .await
    }

    /// Asks a member for the hash of its keys' history up to `revision` (0: all of it).
    ///
    /// # Errors
    /// The server's refusal, or the deadline.
    pub async fn hash_kv(&mut self, revision: i64) -> Result<HashKvResponse, Failure> {
        let request = HashKvRequest { revision };
        self.call(Repeat::Safe, request, |channel, request| async move {
            MaintenanceClient::new(channel).hash_kv(request).await
        })
        .await
    }

    /// Lists the alarms that are raised.
    ///
    /// # Errors
    /// The server's refusal, or the deadline.
    pub async fn alarms(&mut self) -> Result<AlarmResponse, Failure> {
        let request = AlarmRequest::default();
        self.call(Repeat::Safe, request, |channel, request| async move {
            MaintenanceClient::new(channel).alarm(request).await
        })
        .await
    }

    async fn call<Q, A, F, R>(&mut self, repeat: Repeat, request: Q, rpc: F) -> Result<A, Failure>
    where
        Q: Message + Clone,
        F: Fn(Channel, Request<Q>) -> R,
        R: Future<Output = Result<Response<A>, Status>>,
    {
        let (size, max) = (request.encoded_len(), self.request_bytes_max);
        if size > max {
            let text = format!("trying to send message larger than max ({size} vs. {max})");
            return Err(Failure::new(
                ERROR,
                rpc_text(Code::ResourceExhausted, &text),
            ));
        }
        let mut attempt = 1;
        loop {
            let channel = self.connected().await?;
            let request = self.signed(request.clone());
            let answer = match timeout_at(self.deadline, rpc(channel, request)).await {
                Ok(answer) => answer,
                Err(_) => return Err(Failure::deadline(Vec::new())),
            };
            let status = match answer {
                Ok(answer) => return Ok(answer.into_inner()),
                Err(status) => status,
            };
            // Only a status that was made here has a source: the connection broke.
            let (lost, refusal) = match status.source() {
                Some(source) => {
                    let text = rpc_text(Code::Unavailable, &cause(source));
                    (true, Failure::new(ERROR, text))
                }
                None => (false, Failure::rpc(&status)),
            };
            let absent = status.code() == Code::Unavailable && attempt < ATTEMPTS_MAX;
            if repeat == Repeat::Never || !(lost || absent) {
                return Err(refusal);
            }
            attempt += 1;
            self.channel = None;
            self.first = (self.first + 1) % self.targets.len();
            if timeout_at(self.deadline, sleep(ATTEMPT_PAUSE))
                .await
                .is_err()
            {
                return Err(Failure::deadline(vec![refusal.text]));
            }
        }
    }

    /// The request with the login and the time that is left.
    fn signed<Q>(&self, message: Q) -> Request<Q> {
        let mut request = Request::new(message);
        request.set_timeout(self.deadline.saturating_duration_since(Instant::now()));
        if let Some(token) = &self.token {
            request.metadata_mut().insert(TOKEN_NAME, token.clone());
        }
        request
    }

    /// A channel to an endpoint that answers; waits for one until the deadline.
    async fn connected(&mut self) -> Result<Channel, Failure> {
        if let Some(channel) = &self.channel {
            return Ok(channel.clone());
        }
        let mut notes = Vec::new();
        while Instant::now() < self.deadline {
            match timeout_at(self.deadline, self.race(&mut notes)).await {
                Ok(Some(channel)) => return Ok(self.channel.insert(channel).clone()),
                Ok(None) => sleep_until(self.deadline.min(Instant::now() + RETRY_PAUSE)).await,
                Err(_) => break,
            }
        }
        Err(Failure::deadline(notes))
    }

    /// Connects to every endpoint, one after the other, until one answers. When none does,
    /// `notes` tell why.
    async fn race(&self, notes: &mut Vec<String>) -> Option<Channel> {
        notes.clear();
        let mut attempts = JoinSet::new();
        let (before, from) = self.targets.split_at(self.first);
        let mut waiting = from.iter().chain(before).peekable();
        loop {
            if let Some(target) = waiting.next() {
                let target = target.clone();
                attempts.spawn(async move {
                    let channel = target.endpoint.connect().await;
                    channel.map_err(|error| format!("{}: {}", target.name, cause(&error)))
                });
            }
            let last = waiting.peek().is_none();
            tokio::select! {
                ended = attempts.join_next() => match ended {
                    Some(Ok(Ok(channel))) => return Some(channel),
                    Some(Ok(Err(note))) => notes.push(note),
                    Some(Err(error)) => notes.push(error.to_string()),
                    None => return None,
                },
                () = sleep(STAGGER), if !last => {}
            }
        }
    }
}

fn kv(channel: Channel, receive_bytes_max: usize) -> KvClient<Channel> {
    KvClient::new(channel).max_decoding_message_size(receive_bytes_max)
}

fn token_value(token: &str) -> Result<MetadataValue<Ascii>, Failure> {
    let refuse = |_| Failure::arguments("the token holds characters that no request can carry");
    token.parse().map_err(refuse)
}
