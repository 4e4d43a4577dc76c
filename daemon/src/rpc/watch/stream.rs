//! One watch stream: requests in, replies out, until either side ends.

use std::task::{Context, Poll, ready};
use std::time::Duration;

use althing_actors::watch_hub::{Deliveries, Events, Notice, ProgressOf, Watches};
use althing_api::error::Error;
use althing_api::etcdserverpb::watch_request::RequestUnion;
use althing_api::etcdserverpb::{
    WatchCancelRequest, WatchCreateRequest, WatchRequest, WatchResponse,
};
use futures_util::StreamExt;
use futures_util::future::FutureExt;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tonic::{Status, Streaming};

use super::super::guard::LeaderLost;
use super::super::{Rpc, status};
use super::create::{NO_WATCHER, Watchers};
use super::reply::WatchReply;

/// Most requests that the hub has not answered yet; at this many the next one is not read.
const UNANSWERED_MAX: usize = 64;
/// The same for questions about progress, whose answers wait for what is committed.
const PROGRESS_UNANSWERED_MAX: usize = 64;
/// Notices before the client is listened to and other streams have their turn.
const NOTICES_IN_A_ROW_MAX: u32 = 64;
/// What etcd adds to the largest request to get the size at which messages are cut.
const FRAGMENT_OVERHEAD_BYTES: usize = 512 * 1024;
/// The timer's interval is longer by up to this part, so that streams do not tick together.
const JITTER: f64 = 0.1;

/// The state of a stream.
pub(super) struct WatchStream {
    rpc: Rpc,
    requests: Streaming<WatchRequest>,
    /// Whether the client sends no more; its watchers go on.
    requests_ended: bool,
    leader_lost: LeaderLost,
    watches: Watches,
    watchers: Watchers,
    unanswered: usize,
    progress_unanswered: usize,
    /// Notices since the client was last listened to.
    notices_in_a_row: u32,
    /// A request that has to wait until those before it are answered.
    held: Option<WatchRequest>,
    /// The rest of a notice.
    deliveries: std::vec::IntoIter<(i64, Events)>,
    /// The store's revision when `deliveries` were read; `None` if they are new.
    deliveries_revision: Option<i64>,
    /// The rest of a message that was cut.
    pieces: std::vec::IntoIter<WatchReply>,
    /// Runs while a watcher wants to be told how far it is.
    timer: Option<Interval>,
}

/// What happened on a stream.
enum Happening {
    Notice(Option<Notice>),
    Request(Option<WatchRequest>),
    Tick,
}

impl WatchStream {
    pub(super) fn new(
        rpc: Rpc,
        requests: Streaming<WatchRequest>,
        leader_lost: LeaderLost,
    ) -> WatchStream {
        WatchStream {
            watches: rpc.handles.watches(),
            rpc,
            requests,
            requests_ended: false,
            leader_lost,
            watchers: Watchers::default(),
            unanswered: 0,
            progress_unanswered: 0,
            notices_in_a_row: 0,
            held: None,
            deliveries: Vec::new().into_iter(),
            deliveries_revision: None,
            pieces: Vec::new().into_iter(),
            timer: None,
        }
    }

    /// The next reply. Error: the status that the stream ends with.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<WatchReply, Status>> {
        loop {
            if let Some(piece) = self.pieces.next() {
                return Poll::Ready(Ok(piece));
            }
            if let Some((watch_id, events)) = self.deliveries.next() {
                if let Some(reply) = self.deliver(watch_id, events) {
                    return Poll::Ready(Ok(reply));
                }
                continue;
            }
            if self.unanswered == 0
                && let Some(request) = self.held.take()
            {
                if let Some(reply) = self.request(request) {
                    return Poll::Ready(Ok(reply));
                }
                continue;
            }
            let reply = match ready!(self.poll_happening(cx))? {
                Happening::Notice(None) => return Poll::Ready(Err(status::of(Error::Stopped))),
                Happening::Notice(Some(notice)) => self.notice(notice),
                Happening::Request(Some(request)) => self.request(request),
                Happening::Request(None) => {
                    self.requests_ended = true;
                    None
                }
                Happening::Tick => {
                    let watchers = self.watchers.tick();
                    if !watchers.is_empty() {
                        let of = ProgressOf::Watchers(watchers);
                        self.watches.request_progress(of);
                    }
                    None
                }
            };
            if let Some(reply) = reply {
                return Poll::Ready(Ok(reply));
            }
        }
    }

    /// What happens next. Notices are the most frequent and so are looked at first; but not
    /// forever, or a client that is told much would not be heard, and its other streams would not
    /// have their turn.
    fn poll_happening(&mut self, cx: &mut Context<'_>) -> Poll<Result<Happening, Status>> {
        if self.notices_in_a_row == NOTICES_IN_A_ROW_MAX {
            self.notices_in_a_row = 0;
            cx.waker().wake_by_ref();
        } else if let Poll::Ready(notice) = self.watches.poll_next(cx) {
            self.notices_in_a_row += 1;
            return Poll::Ready(Ok(Happening::Notice(notice)));
        }
        if let Poll::Ready(status) = self.leader_lost.poll_unpin(cx) {
            return Poll::Ready(Err(status));
        }
        if self.listens()
            && let Poll::Ready(request) = self.requests.poll_next_unpin(cx)
        {
            return Poll::Ready(request.transpose().map(Happening::Request));
        }
        match &mut self.timer {
            Some(timer) => timer.poll_tick(cx).map(|_| Ok(Happening::Tick)),
            None => Poll::Pending,
        }
    }

    /// Whether another request is read.
    fn listens(&self) -> bool {
        !self.requests_ended
            && self.held.is_none()
            && self.unanswered < UNANSWERED_MAX
            && self.progress_unanswered < PROGRESS_UNANSWERED_MAX
    }

    fn request(&mut self, request: WatchRequest) -> Option<WatchReply> {
        match request.request_union? {
            RequestUnion::CreateRequest(request) => return self.create(request),
            RequestUnion::CancelRequest(request) => {
                let known = self.watchers.known.get_mut(&request.watch_id)?;
                if known.is_over {
                    return self.let_go(request);
                }
                if !std::mem::replace(&mut known.is_cancelled, true) {
                    self.watches.cancel(request.watch_id);
                    self.unanswered += 1;
                }
            }
            RequestUnion::ProgressRequest(_) => {
                self.progress_unanswered += 1;
                self.watches.request_progress(ProgressOf::Stream);
            }
        }
        None
    }

    /// Confirms the cancellation of a watcher that has ended, of which the hub knows nothing more.
    fn let_go(&mut self, request: WatchCancelRequest) -> Option<WatchReply> {
        if self.unanswered > 0 {
            self.hold(RequestUnion::CancelRequest(request));
            return None;
        }
        self.watchers.forget(request.watch_id);
        let revision = self.rpc.handles.store().revisions().current;
        let message = WatchResponse {
            canceled: true,
            ..self.head(request.watch_id, revision)
        };
        Some(message.into())
    }

    fn hold(&mut self, request: RequestUnion) {
        self.held = Some(WatchRequest {
            request_union: Some(request),
        });
    }

    /// Asks the hub for a watcher, or refuses. What the hub does not answer must not overtake what
    /// it does, so that replies come in the order of requests.
    fn create(&mut self, request: WatchCreateRequest) -> Option<WatchReply> {
        if self.unanswered > 0 && self.watchers.waits_for_id(request.watch_id) {
            self.hold(RequestUnion::CreateRequest(request));
            return None;
        }
        match self.watchers.create(request.clone()) {
            Ok(creation) => {
                self.unanswered += 1;
                self.watches.watch(
                    creation.watch_id,
                    creation.range,
                    creation.start_revision,
                    creation.options,
                );
                if self.timer.is_none() && self.watchers.want_progress() {
                    self.timer = Some(timer(self.rpc.limits().watch_progress_interval));
                }
                None
            }
            Err(_) if self.unanswered > 0 => {
                self.hold(RequestUnion::CreateRequest(request));
                None
            }
            Err(reason) => {
                let revision = self.rpc.handles.store().revisions().current;
                Some(self.refusal(reason, revision))
            }
        }
    }

    fn refusal(&self, reason: &str, revision: i64) -> WatchReply {
        let refusal = WatchResponse {
            created: true,
            canceled: true,
            cancel_reason: reason.to_owned(),
            ..self.head(NO_WATCHER, revision)
        };
        refusal.into()
    }

    fn head(&self, watch_id: i64, revision: i64) -> WatchResponse {
        let term = self.rpc.handles.term();
        WatchResponse {
            header: Some(self.rpc.state.identity.header(term, revision)),
            watch_id,
            ..WatchResponse::default()
        }
    }

    fn notice(&mut self, notice: Notice) -> Option<WatchReply> {
        let message = match notice {
            Notice::Created { watch_id, revision } => {
                self.unanswered -= 1;
                WatchResponse {
                    created: true,
                    ..self.head(watch_id, revision)
                }
            }
            Notice::Events(Deliveries { revision, to }) => {
                self.deliveries = to.into_iter();
                self.deliveries_revision = revision;
                return None;
            }
            Notice::Progress { watch_id, revision } => {
                self.progress_unanswered -= usize::from(watch_id.is_none());
                self.head(watch_id.unwrap_or(NO_WATCHER), revision)
            }
            // As in etcd, the client has to ask again.
            Notice::NoProgress => {
                self.progress_unanswered -= 1;
                return None;
            }
            Notice::Cancelled { watch_id, revision } => {
                self.unanswered -= 1;
                self.forget(watch_id);
                WatchResponse {
                    canceled: true,
                    ..self.head(watch_id, revision)
                }
            }
            Notice::Compacted {
                watch_id,
                compact_revision,
            } => {
                // Then the hub has no answer to a cancellation on its way.
                self.unanswered -= usize::from(self.watchers.is_being_freed(watch_id));
                self.watchers.end(watch_id);
                self.stop_timer();
                WatchResponse {
                    canceled: true,
                    compact_revision,
                    ..self.head(watch_id, 0)
                }
            }
            Notice::Refused { watch_id, revision } => {
                self.unanswered -= 1 + usize::from(self.watchers.is_being_freed(watch_id));
                self.forget(watch_id);
                return Some(self.refusal(Error::TooManyRequests.text(), revision));
            }
        };
        Some(message.into())
    }

    fn forget(&mut self, watch_id: i64) {
        self.watchers.forget(watch_id);
        self.stop_timer();
    }

    /// Stops the timer once no watcher wants to be told how far it is.
    fn stop_timer(&mut self) {
        if self.timer.is_some() && !self.watchers.want_progress() {
            self.timer = None;
        }
    }

    /// A reply with events, or the first piece of it; nothing for a watcher that has ended.
    fn deliver(&mut self, watch_id: i64, events: Events) -> Option<WatchReply> {
        let known = self.watchers.known.get_mut(&watch_id)?;
        known.is_silent = false;
        let fragment = known.fragment;
        let newest = events.last().map_or(0, |event| event.revision());
        let revision = self.deliveries_revision.unwrap_or(newest);
        let reply = WatchReply::new(self.head(watch_id, revision), events);
        if !fragment {
            return Some(reply);
        }
        let bytes_max = self.rpc.limits().request_bytes_max + FRAGMENT_OVERHEAD_BYTES;
        self.pieces = reply.fragments(bytes_max).into_iter();
        self.pieces.next()
    }
}

/// A timer that first ticks after an interval.
fn timer(interval: Duration) -> Interval {
    let interval = interval.mul_f64(1.0 + rand::random::<f64>() * JITTER);
    let mut timer = tokio::time::interval_at(Instant::now() + interval, interval);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    timer
}
