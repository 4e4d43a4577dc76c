//! One side's watch streams. Every watcher's events are checked against the member's own history,
//! which a watcher of everything brings, so the harness knows when all that must come has come:
//! nothing here depends on how events are batched, and nothing waits for time to pass.
//!
//! ```text
//! create --created--> following --cancel request--> gone
//!              \--start is compacted--> doomed --canceled--> gone
//! ```

use std::collections::{BTreeMap, VecDeque};

use althing_api::etcdserverpb as pb;
use bytes::Bytes;
use pb::watch_request::RequestUnion;
use prost::Message;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::feed::{Feed, Frame, PATIENCE};
use super::operation::as_json;
use super::watcher::{Change, Watcher};
use crate::grpc::{Grpc, path};

/// The first watch id of the marks that tell when a stream has answered everything before them.
pub const FIRST_MARK: i64 = 1_000_000;
/// A key that no sequence writes.
const UNTOUCHED: &[u8] = b"\x01untouched";

/// A stream and its watchers.
#[derive(Debug)]
pub struct WatchStream {
    feed: Feed,
    /// Creates that are not answered yet, in order.
    asked: VecDeque<pb::WatchCreateRequest>,
    watchers: BTreeMap<i64, Watcher>,
    /// Answers to requests since the last time, in order.
    control: Vec<Value>,
    /// The header of a progress response, if one came since it was awaited.
    progress: Option<i64>,
    marks: i64,
    /// Whether a watcher was told that its start is compacted; etcd counts it as one that is
    /// behind.
    compacted: bool,
    ended: Option<Value>,
}

/// The history of a member's store, as far as it matters to watchers.
#[derive(Debug, Default)]
pub struct History {
    /// Every change, in order.
    pub changes: Vec<Change>,
    /// The revision that was last compacted to.
    pub compacted: i64,
    /// The store's revision.
    pub revision: i64,
}

impl WatchStream {
    /// Opens a gRPC stream.
    pub fn grpc(grpc: &Grpc) -> WatchStream {
        let decode = as_json::<pb::WatchResponse>;
        WatchStream::on(Feed::grpc(grpc, path::WATCH, decode))
    }

    /// Opens a JSON stream whose body has all requests.
    pub fn json(port: u16, body: String) -> WatchStream {
        WatchStream::on(Feed::json(port, "/v3/watch", body))
    }

    fn on(feed: Feed) -> WatchStream {
        WatchStream {
            feed,
            asked: VecDeque::new(),
            watchers: BTreeMap::new(),
            control: Vec::new(),
            progress: None,
            marks: FIRST_MARK,
            compacted: false,
            ended: None,
        }
    }

    /// Whether requests can be sent.
    pub fn is_open(&self) -> bool {
        self.feed.is_open() && self.ended.is_none()
    }

    /// Ends the requests.
    pub fn half_close(&mut self) {
        self.feed.half_close();
    }

    /// Sends requests, and waits until the stream has answered all of them.
    ///
    /// # Errors
    /// What did not come.
    pub async fn ask(
        &mut self,
        requests: &[pb::WatchRequest],
        history: &History,
    ) -> Result<(), String> {
        let requests = with_mark(requests, self.marks);
        for request in &requests {
            self.feed.send(request.encode_to_vec().into());
        }
        self.answered(&requests, history).await
    }

    /// Waits until requests that were sent and end with a mark are answered.
    ///
    /// # Errors
    /// What did not come.
    pub async fn answered(
        &mut self,
        requests: &[pb::WatchRequest],
        history: &History,
    ) -> Result<(), String> {
        for request in requests {
            if let Some(RequestUnion::CreateRequest(create)) = &request.request_union {
                self.asked.push_back(create.clone());
            }
        }
        let mark = self.marks;
        self.marks += 1;
        let deadline = Instant::now() + PATIENCE;
        while self.watchers.contains_key(&mark) || !self.asked.is_empty() {
            self.next(deadline, history, "answer to a request").await?;
        }
        Ok(())
    }

    /// Asks until the member says how far the stream is, or only once if it will not say.
    ///
    /// # Errors
    /// What did not come.
    pub async fn ask_progress(&mut self, history: &History) -> Result<Option<i64>, String> {
        let request = pb::WatchRequest {
            request_union: Some(RequestUnion::ProgressRequest(pb::WatchProgressRequest {})),
        };
        let will_say = !self.compacted
            && !self.watchers.is_empty()
            && self
                .watchers
                .values()
                .all(|watcher| watcher.asked_start() <= history.revision);
        self.progress = None;
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.ask(std::slice::from_ref(&request), history).await?;
            if !will_say || self.progress.is_some() {
                return Ok(self.progress.filter(|_| will_say));
            }
            if Instant::now() > deadline {
                return Err("no progress response".to_owned());
            }
        }
    }

    /// Waits until every watcher has what the history owes it; returns what came, by watcher.
    ///
    /// # Errors
    /// What did not come, or should not have come.
    pub async fn settle(&mut self, history: &History, exact: bool) -> Result<Value, String> {
        while let Some(frame) = self.feed.take() {
            self.receive(frame, history)?;
        }
        let deadline = Instant::now() + PATIENCE;
        while let Some(owed) = self.owed(history) {
            self.next(deadline, history, &owed).await?;
        }
        let mut watchers = serde_json::Map::new();
        for (id, watcher) in &mut self.watchers {
            let came = watcher.settle(history, exact)?;
            if !came.is_null() {
                watchers.insert(id.to_string(), came);
            }
        }
        let gone = |watcher: &Watcher| watcher.is_gone();
        self.watchers.retain(|_, watcher| !gone(watcher));
        let control = std::mem::take(&mut self.control);
        let mut came = serde_json::Map::new();
        if !control.is_empty() {
            came.insert("control".to_owned(), Value::Array(control));
        }
        if !watchers.is_empty() {
            came.insert("watchers".to_owned(), Value::Object(watchers));
        }
        Ok(if came.is_empty() {
            Value::Null
        } else {
            Value::Object(came)
        })
    }

    /// The revision above which a compaction might meet a watcher that is still behind.
    pub fn floor(&self) -> i64 {
        let starts = self.watchers.values().filter_map(Watcher::behind);
        starts.min().unwrap_or(i64::MAX)
    }

    fn owed(&self, history: &History) -> Option<String> {
        if self.ended.is_some() {
            return None;
        }
        self.watchers.iter().find_map(|(id, watcher)| {
            let owed = watcher.owed(history)?;
            Some(format!("{owed} for watcher {id}"))
        })
    }

    async fn next(
        &mut self,
        deadline: Instant,
        history: &History,
        what: &str,
    ) -> Result<(), String> {
        match self.feed.next(deadline).await {
            Some(frame) => self.receive(frame, history),
            None => Err(format!(
                "no {what} came; the stream ended: {:?}",
                self.ended
            )),
        }
    }

    fn receive(&mut self, frame: Frame, history: &History) -> Result<(), String> {
        let raw = match frame {
            Frame::Message(raw) => raw,
            Frame::End(end) => {
                self.ended = Some(end.clone());
                self.asked.clear();
                self.watchers.clear();
                self.control.push(json!({ "end": end }));
                return Ok(());
            }
        };
        let response: pb::WatchResponse =
            serde_json::from_value(raw.clone()).map_err(|error| format!("{error}: {raw}"))?;
        let id = response.watch_id;
        if response.created {
            let Some(create) = self.asked.pop_front() else {
                return Err(format!("a watcher that nobody asked for: {raw}"));
            };
            if !response.canceled {
                self.watchers
                    .insert(id, Watcher::new(create, &response, history));
            }
            self.note(id, raw);
            return Ok(());
        }
        if response.canceled && response.compact_revision == 0 {
            self.watchers.remove(&id);
            self.note(id, raw);
            return Ok(());
        }
        if response.events.is_empty() && !response.canceled {
            let told = response.header.unwrap_or_default().revision;
            let behind = self
                .watchers
                .values()
                .find_map(|one| one.owed_to(history, told));
            self.progress = Some(told);
            return match behind {
                Some(owed) => Err(format!("progress {told} runs ahead of {owed}")),
                None => Ok(()),
            };
        }
        self.compacted |= response.canceled;
        match self.watchers.get_mut(&id) {
            Some(watcher) => watcher.receive(raw, response),
            None => Err(format!("a message for no watcher: {raw}")),
        }
    }

    /// Keeps an answer, unless it belongs to a mark.
    fn note(&mut self, id: i64, raw: Value) {
        if id < FIRST_MARK {
            self.control.push(raw);
        }
    }
}

/// The requests, followed by a watcher that is created and cancelled: its answers come last.
pub fn with_mark(requests: &[pb::WatchRequest], mark: i64) -> Vec<pb::WatchRequest> {
    let create = pb::WatchCreateRequest {
        key: Bytes::from_static(UNTOUCHED),
        watch_id: mark,
        ..pb::WatchCreateRequest::default()
    };
    let cancel = pb::WatchCancelRequest { watch_id: mark };
    let unions = [
        RequestUnion::CreateRequest(create),
        RequestUnion::CancelRequest(cancel),
    ];
    let marks = unions.map(|union| pb::WatchRequest {
        request_union: Some(union),
    });
    requests.iter().cloned().chain(marks).collect()
}
