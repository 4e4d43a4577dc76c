//! A watch that outlives its connections: lost, it is taken up at the next endpoint that answers,
//! right behind the last event that was delivered.
//!
//! States: idle -> open -> (connection lost) idle -> ... -> canceled. `course` decides what an
//! answer means; nothing here is buffered beyond what the transport holds.

use althing_api::etcdserverpb::watch_client::WatchClient;
use althing_api::etcdserverpb::watch_request::RequestUnion;
use althing_api::etcdserverpb::{
    WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
};
use tokio::sync::mpsc;
use tokio::time::sleep;
use tonic::{Status, Streaming};

use crate::client::connector::RETRY_PAUSE;
use crate::client::course::{Course, Step};
use crate::client::{Client, passes, refusal};

/// Requests on their way to the server: the creation, and then one request for progress at a time.
const REQUESTS_MAX: usize = 2;
/// Requests for progress that wait to be sent; more would be of no use.
const WISHES_MAX: usize = 16;

/// What a watch reports.
#[derive(Clone, Debug, PartialEq)]
pub enum Watched {
    /// Events, or a progress notification when there are none.
    Answer(WatchResponse),
    /// The end of the watch, and why.
    Canceled(WatchResponse, String),
    /// The connection is lost, for this reason; the watch goes on as soon as it can.
    Lost(String),
}

/// Asks the server of a watch how far it is.
#[derive(Clone)]
pub struct ProgressBell(mpsc::Sender<()>);

impl ProgressBell {
    /// Asks once.
    pub fn ring(&self) {
        // A watch that is over, or has enough requests waiting, needs no further one.
        _ = self.0.try_send(());
    }
}

struct Open {
    requests: mpsc::Sender<WatchRequest>,
    answers: Streaming<WatchResponse>,
}

/// A watch.
pub struct Watcher {
    client: Client,
    request: WatchCreateRequest,
    course: Course,
    open: Option<Open>,
    /// Whether the loss of this connection was reported; the next loss counts after an answer.
    told: bool,
    renewed: bool,
    bell: ProgressBell,
    wishes: mpsc::Receiver<()>,
}

impl Client {
    /// Prepares a watch; it begins with its first [`Watcher::next`].
    pub fn watch(&self, request: WatchCreateRequest) -> Watcher {
        let (sender, wishes) = mpsc::channel(WISHES_MAX);
        Watcher {
            client: self.clone(),
            course: Course::new(request.start_revision),
            request,
            open: None,
            told: false,
            renewed: false,
            bell: ProgressBell(sender),
            wishes,
        }
    }
}

impl Watcher {
    /// The bell of this watch.
    pub fn bell(&self) -> ProgressBell {
        self.bell.clone()
    }

    /// Waits for what comes next. Nothing comes after [`Watched::Canceled`].
    pub async fn next(&mut self) -> Watched {
        loop {
            let status = match self.answer().await {
                Ok(Some(answer)) => {
                    if let Some(watched) = self.judge(answer).await {
                        return watched;
                    }
                    continue;
                }
                // The server has ended the stream without a word: it is going away.
                Ok(None) => Status::unavailable("the server ended the stream"),
                Err(Lost::Stream(status)) => status,
                Err(Lost::Endpoints(notes)) => Status::unavailable(notes.join("; ")),
            };
            let failure = refusal(&status);
            if !passes(&status) {
                let nothing = WatchResponse {
                    canceled: true,
                    ..WatchResponse::default()
                };
                return Watched::Canceled(nothing, failure.text);
            }
            self.open = None;
            self.client.connector.lose();
            sleep(RETRY_PAUSE).await;
            if !self.told {
                self.told = true;
                return Watched::Lost(failure.text);
            }
        }
    }

    async fn judge(&mut self, answer: WatchResponse) -> Option<Watched> {
        match self.course.take(answer) {
            Step::Silent => {
                self.told = false;
                None
            }
            Step::Show(answer) => {
                (self.told, self.renewed) = (false, false);
                Some(Watched::Answer(answer))
            }
            Step::Canceled(answer, reason) => Some(Watched::Canceled(answer, reason)),
            Step::Renew => {
                self.open = None;
                let nothing = WatchResponse {
                    canceled: true,
                    ..WatchResponse::default()
                };
                if self.client.login.is_none() || self.renewed {
                    let text = "the login has lapsed".to_owned();
                    return Some(Watched::Canceled(nothing, text));
                }
                let refused = self.client.log_in().await.err();
                // Only now: the future may have been dropped in the meantime.
                self.renewed = true;
                Some(Watched::Canceled(nothing, refused?.text))
            }
        }
    }

    async fn answer(&mut self) -> Result<Option<WatchResponse>, Lost> {
        if self.open.is_none() {
            self.open = Some(self.start().await?);
        }
        let open = self.open.as_mut().expect("it was opened above");
        loop {
            tokio::select! {
                answer = open.answers.message() => return answer.map_err(Lost::Stream),
                Some(()) = self.wishes.recv() => {
                    let progress = RequestUnion::ProgressRequest(WatchProgressRequest {});
                    // A stream that takes no more requests is about to deliver its end.
                    _ = open.requests.send(request(progress)).await;
                }
            }
        }
    }

    async fn start(&mut self) -> Result<Open, Lost> {
        let mut notes = Vec::new();
        let attempt = self.client.connector.attempt(&mut notes).await;
        let channel = attempt.ok_or(Lost::Endpoints(notes))?;
        let (requests, receiver) = mpsc::channel(REQUESTS_MAX);
        let create = RequestUnion::CreateRequest(WatchCreateRequest {
            start_revision: self.course.next(),
            ..self.request.clone()
        });
        // The answer begins only when the server has read a request.
        let sent = requests.try_send(request(create));
        sent.expect("the channel is new and has room");
        let answer = WatchClient::new(channel)
            .max_decoding_message_size(self.client.receive_bytes_max)
            .watch(self.client.streamed(receiver))
            .await;
        Ok(Open {
            requests,
            answers: answer.map_err(Lost::Stream)?.into_inner(),
        })
    }
}

enum Lost {
    Stream(Status),
    Endpoints(Vec<String>),
}

fn request(union: RequestUnion) -> WatchRequest {
    WatchRequest {
        request_union: Some(union),
    }
}
