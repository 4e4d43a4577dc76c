//! The connection to a cluster: picks an endpoint that answers, logs in, sends requests.
//!
//! States: not connected -> connected to one endpoint -> (unavailable) not connected. Requests
//! that read are sent again to another endpoint when a member is unavailable; requests that write
//! are sent once, because nobody knows whether the lost one took effect. Requests end at their
//! deadline; `watch` and `keep_alive` are streams that outlive connections and are resumed.
//!
//! `connector` owns the connection, `deadline` bounds the waiting, `course` decides where a watch
//! goes on, `pages` reads a range in parts, `metric` reads metrics over HTTP; the other files are
//! etcd's services.

mod auth;
mod connector;
mod course;
pub mod deadline;
mod keep_alive;
mod kv;
mod lease;
mod members;
pub mod metric;
pub mod pages;
mod snapshot;
mod watch;

use std::error::Error as _;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use althing_api::error::Error as ApiError;
use althing_api::etcdserverpb::AuthenticateRequest;
use althing_api::etcdserverpb::auth_client::AuthClient;
use futures_util::{Stream, stream};
use prost::Message;
use tokio::sync::mpsc;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status, TimeoutExpired};

pub use watch::{ProgressBell, Watched, Watcher};

use crate::client::connector::Connector;
use crate::client::deadline::Deadline;
use crate::endpoint::cause;
use crate::failure::{BAD_CONNECTION, ERROR, Failure, rpc_text};
use crate::flags::Settings;
use crate::password;

/// The metadata that carries the login, on every request.
const TOKEN_NAME: &str = "token";
/// The metadata that asks a member without a leader to end a stream.
const LEADER_NAME: &str = "hasleader";
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

/// A client of one cluster. Clones share the connection until one of them loses it.
#[derive(Clone)]
pub struct Client {
    connector: Connector,
    /// The request that logs in, with the password; sent again when a token has lapsed.
    login: Option<AuthenticateRequest>,
    token: Option<MetadataValue<Ascii>>,
    dial_timeout: Duration,
    command_timeout: Duration,
    /// The command's end; `None` if each request has the command's time for itself.
    deadline: Option<Deadline>,
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
        let deadline = Some(Deadline::after(settings.command_timeout));
        Client::with_deadline(settings, deadline).await
    }

    /// Like [`Client::open`], for a command that lasts: each of its requests has the command's
    /// time for itself.
    ///
    /// # Errors
    /// As [`Client::open`].
    pub async fn open_lasting(settings: &Settings) -> Result<Client, Failure> {
        Client::with_deadline(settings, None).await
    }

    async fn with_deadline(
        settings: &Settings,
        deadline: Option<Deadline>,
    ) -> Result<Client, Failure> {
        let mut client = Client {
            connector: Connector::new(settings)?,
            login: None,
            token: None,
            dial_timeout: settings.dial_timeout,
            command_timeout: settings.command_timeout,
            deadline,
            request_bytes_max: settings.request_bytes_max,
            receive_bytes_max: settings.receive_bytes_max,
        };
        if let Some(login) = &settings.login {
            let password = match &login.password {
                Some(password) => password.clone(),
                None => password::ask()?,
            };
            client.login = Some(AuthenticateRequest {
                name: login.name.clone(),
                password,
            });
            client.log_in().await?;
        } else if let Some(token) = &settings.token {
            client.token = Some(token_value(token)?);
        }
        Ok(client)
    }

    /// Fetches a token, if there is a login. The future's type is spelled out because a request may
    /// log in again, and logging in is a request.
    fn log_in(&mut self) -> Pin<Box<dyn Future<Output = Result<(), Failure>> + Send + '_>> {
        Box::pin(async move {
            let Some(request) = self.login.clone() else {
                return Ok(());
            };
            let deadline = self.request_deadline();
            // A client of its own, so that its deadline is gone with it if the future is dropped.
            let mut asking = self.clone();
            asking.deadline = Some(deadline.or_earlier(Deadline::after(self.dial_timeout)));
            let answer = asking
                .call(Repeat::Safe, request, |channel, request| async move {
                    AuthClient::new(channel).authenticate(request).await
                })
                .await;
            self.connector = asking.connector;
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
        })
    }

    /// Gives up the current member; the next request goes to the next endpoint.
    pub fn go_elsewhere(&mut self) {
        self.connector.leave();
    }

    fn request_deadline(&self) -> Deadline {
        let fresh = || Deadline::after(self.command_timeout);
        self.deadline.unwrap_or_else(fresh)
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
        let deadline = self.request_deadline();
        let mut attempt = 1;
        let mut login_is_fresh = false;
        loop {
            let channel = self.connector.connected(deadline).await?;
            let mut signed = self.signed(request.clone());
            signed.set_timeout(deadline.left().unwrap_or(self.command_timeout));
            let Some(answer) = deadline.bound(rpc(channel, signed)).await else {
                return Err(Failure::deadline(Vec::new()));
            };
            let status = match answer {
                Ok(answer) => return Ok(answer.into_inner()),
                Err(status) => status,
            };
            let (lost, refusal) = (is_lost(&status), refusal(&status));
            if refusal.text == ApiError::InvalidAuthToken.text() && !login_is_fresh {
                // A refused request has changed nothing, so that it may be sent again.
                login_is_fresh = true;
                if self.login.is_some() {
                    self.log_in().await?;
                    continue;
                }
            }
            let absent = status.code() == Code::Unavailable && attempt < ATTEMPTS_MAX;
            if repeat == Repeat::Never || !(lost || absent) {
                if lost {
                    self.connector.lose();
                }
                return Err(refusal);
            }
            attempt += 1;
            self.connector.lose();
            if !deadline.pause(ATTEMPT_PAUSE).await {
                return Err(Failure::deadline(vec![refusal.text]));
            }
        }
    }

    /// The request with the login.
    fn signed<Q>(&self, message: Q) -> Request<Q> {
        let mut request = Request::new(message);
        if let Some(token) = &self.token {
            request.metadata_mut().insert(TOKEN_NAME, token.clone());
        }
        request
    }

    /// The beginning of a stream: what `receiver` yields is sent, with the login, to a member that
    /// has a leader.
    fn streamed<Q: Send + 'static>(
        &self,
        receiver: mpsc::Receiver<Q>,
    ) -> Request<impl Stream<Item = Q> + Send + use<Q>> {
        let requests = stream::unfold(receiver, |mut receiver| async move {
            let request = receiver.recv().await?;
            Some((request, receiver))
        });
        let mut request = self.signed(requests);
        let yes = MetadataValue::from_static("true");
        request.metadata_mut().insert(LEADER_NAME, yes);
        request
    }
}

/// Whether the connection broke: only a status that was made here has a source.
fn is_lost(status: &Status) -> bool {
    status.source().is_some()
}

/// Whether a stream that ended with `status` may be opened again, here or at another member.
fn passes(status: &Status) -> bool {
    let temporary = matches!(
        status.code(),
        Code::Unavailable
            | Code::Internal
            | Code::Cancelled
            | Code::Unknown
            | Code::Aborted
            | Code::DeadlineExceeded
            | Code::ResourceExhausted
    );
    temporary || is_lost(status)
}

/// Whether the client's own clock ended the request, a moment before the deadline did.
fn is_over(status: &Status) -> bool {
    let mut cause = status.source();
    while let Some(found) = cause {
        if found.is::<TimeoutExpired>() {
            return true;
        }
        cause = found.source();
    }
    false
}

fn refusal(status: &Status) -> Failure {
    match status.source() {
        _ if is_over(status) => Failure::deadline(Vec::new()),
        Some(source) => {
            let text = rpc_text(Code::Unavailable, &cause(source));
            Failure::new(ERROR, text)
        }
        None => Failure::rpc(status),
    }
}

fn token_value(token: &str) -> Result<MetadataValue<Ascii>, Failure> {
    let refuse = |_| Failure::arguments("the token holds characters that no request can carry");
    token.parse().map_err(refuse)
}
