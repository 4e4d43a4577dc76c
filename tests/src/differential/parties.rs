//! One side's callers of the lock and election services: calls that wait for their turn, and
//! streams of leaders. The create revisions of the keys below a name decide whose turn it is, so
//! the harness knows which calls must have returned and what each stream must have shown.

use std::collections::BTreeMap;

use althing_api::etcdserverpb as pb;
use althing_api::mvccpb::KeyValue;
use althing_api::range::prefix_end;
use althing_api::v3electionpb as election;
use bytes::Bytes;
use pb::range_request::{SortOrder, SortTarget};
use serde_json::{Map, Value, json};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use super::feed::{Feed, Frame, PATIENCE};
use crate::grpc::{Grpc, path};

/// The callers of one side.
#[derive(Debug)]
pub struct Parties {
    grpc: Grpc,
    waiting: Vec<Waiting>,
    observers: BTreeMap<usize, Observer>,
}

/// A call that has not returned yet.
#[derive(Debug)]
struct Waiting {
    name: Bytes,
    key: Bytes,
    /// The create revision of its key.
    place: i64,
    /// The store's revision when it began to wait.
    since: i64,
    call: JoinHandle<Value>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.call.abort();
    }
}

/// A stream of a name's leaders.
#[derive(Debug)]
struct Observer {
    name: Bytes,
    feed: Feed,
    /// The last leader's record that it showed.
    shown: i64,
    /// The last revision at which it is known to have kept up.
    since: i64,
    ended: bool,
}

impl Parties {
    /// Parties without a waiting call; `grpc` is for looking at keys.
    pub fn new(grpc: Grpc) -> Parties {
        Parties {
            grpc,
            waiting: Vec::new(),
            observers: BTreeMap::new(),
        }
    }

    /// Whether a call for `key` below `name` has a certain outcome: its key is new, or it is the
    /// first and no call waits with it. A second call behind others could come too late to wait.
    ///
    /// # Errors
    /// The member's refusal to show its keys.
    pub async fn may_begin(&mut self, name: &[u8], key: &[u8]) -> Result<bool, String> {
        let keys = self.keys(name).await?;
        let place = keys.iter().position(|record| record.key == key);
        let waits = self.waiting.iter().any(|waiting| waiting.key == key);
        Ok(!waits && place.is_none_or(|place| place == 0))
    }

    /// Follows a call until it has returned or waits behind others.
    ///
    /// # Errors
    /// The call neither returned nor got into the queue.
    pub async fn begin(
        &mut self,
        name: &Bytes,
        key: &Bytes,
        mut call: JoinHandle<Value>,
        since: i64,
    ) -> Result<Value, String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let keys = self.keys(name).await?;
            if call.is_finished() || keys.first().is_some_and(|first| first.key == *key) {
                let answer = timeout_at(deadline, &mut call).await;
                return answer
                    .map_err(|_| "the first in the queue still waits".to_owned())?
                    .map_err(|error| error.to_string());
            }
            if let Some(own) = keys.iter().find(|record| record.key == *key) {
                self.waiting.push(Waiting {
                    name: name.clone(),
                    key: key.clone(),
                    place: own.create_revision,
                    since,
                    call,
                });
                return Ok(json!({ "waits": keys.len() }));
            }
            if Instant::now() > deadline {
                return Err("a call neither returned nor got into the queue".to_owned());
            }
        }
    }

    /// Drops a waiting call, and waits until its key is gone.
    ///
    /// # Errors
    /// If the key stayed.
    pub async fn abandon(&mut self, key: &Bytes) -> Result<Value, String> {
        let Some(at) = self.waiting.iter().position(|waiting| waiting.key == *key) else {
            return Ok(json!({ "abandoned": false }));
        };
        let (name, place) = (self.waiting[at].name.clone(), self.waiting[at].place);
        let is_own = |record: &KeyValue| record.key == *key && record.create_revision == place;
        if !self.keys(&name).await?.iter().any(is_own) {
            return Ok(json!({ "abandoned": false }));
        }
        drop(self.waiting.remove(at));
        let deadline = Instant::now() + PATIENCE;
        while self.keys(&name).await?.iter().any(is_own) {
            if Instant::now() > deadline {
                return Err("the key of an abandoned call stayed".to_owned());
            }
        }
        Ok(json!({ "abandoned": true }))
    }

    /// Follows a stream of leaders.
    pub fn observe(&mut self, slot: usize, name: Bytes, feed: Feed, since: i64) {
        let observer = Observer {
            name,
            feed,
            shown: 0,
            since,
            ended: false,
        };
        self.observers.insert(slot, observer);
    }

    /// Ends a stream of leaders.
    pub fn close(&mut self, slot: usize) {
        self.observers.remove(&slot);
    }

    /// Waits until every call whose turn has come has returned, and every stream shows its leader.
    /// Returns the answers and what was shown.
    ///
    /// # Errors
    /// What did not come.
    pub async fn settle(&mut self, revision: i64) -> Result<Map<String, Value>, String> {
        let deadline = Instant::now() + PATIENCE;
        let mut came = Map::new();
        for mut waiting in std::mem::take(&mut self.waiting) {
            let keys = self.keys(&waiting.name).await?;
            let key = String::from_utf8_lossy(&waiting.key).into_owned();
            let blocked = keys
                .iter()
                .any(|record| record.create_revision < waiting.place);
            if blocked && !waiting.call.is_finished() {
                self.waiting.push(waiting);
                continue;
            }
            let answer = timeout_at(deadline, &mut waiting.call).await;
            let answer = answer
                .map_err(|_| format!("{key} has its turn and waits on"))?
                .map_err(|error| error.to_string())?;
            came.insert(format!("call {key}"), answer);
        }
        for (slot, mut observer) in std::mem::take(&mut self.observers) {
            let leader = self.keys(&observer.name).await?.into_iter().next();
            let shown = observer.settle(leader.as_ref(), revision, deadline).await?;
            if !shown.is_empty() {
                came.insert(format!("observer {slot}"), Value::Array(shown));
            }
            self.observers.insert(slot, observer);
        }
        Ok(came)
    }

    /// The revision above which a compaction might meet a caller that is still behind.
    pub fn floor(&self) -> i64 {
        let callers = self.waiting.iter().map(|waiting| waiting.since);
        let observers = self.observers.values().map(|observer| observer.since);
        callers.chain(observers).min().unwrap_or(i64::MAX)
    }

    /// The keys below a name, in the order of their creation.
    async fn keys(&mut self, name: &[u8]) -> Result<Vec<KeyValue>, String> {
        let prefix: Bytes = [name, b"/"].concat().into();
        let request = pb::RangeRequest {
            range_end: prefix_end(&prefix),
            key: prefix,
            sort_order: SortOrder::Ascend as i32,
            sort_target: SortTarget::Create as i32,
            ..pb::RangeRequest::default()
        };
        let answer: Result<pb::RangeResponse, _> = self.grpc.unary(path::RANGE, &request).await;
        answer
            .map(|answer| answer.kvs)
            .map_err(|status| status.to_string())
    }
}

impl Observer {
    async fn settle(
        &mut self,
        leader: Option<&KeyValue>,
        revision: i64,
        deadline: Instant,
    ) -> Result<Vec<Value>, String> {
        let mut frames = Vec::new();
        while let Some(frame) = self.feed.take() {
            frames.push(self.receive(frame)?);
        }
        while let Some(leader) = leader
            && leader.mod_revision != self.shown
            && !self.ended
        {
            match self.feed.next(deadline).await {
                Some(frame) => frames.push(self.receive(frame)?),
                None => return Err(format!("no stream showed the leader {leader:?}")),
            }
        }
        if leader.is_some() {
            self.since = revision;
        }
        Ok(frames)
    }

    fn receive(&mut self, frame: Frame) -> Result<Value, String> {
        match frame {
            Frame::Message(raw) => {
                let response: election::LeaderResponse = serde_json::from_value(raw.clone())
                    .map_err(|error| format!("{error}: {raw}"))?;
                self.shown = response.kv.unwrap_or_default().mod_revision;
                Ok(raw)
            }
            Frame::End(end) => {
                self.ended = true;
                Ok(json!({ "end": end }))
            }
        }
    }
}
