//! What a side does besides single requests: streams that stay open, calls that wait, and the
//! moment when everything that must arrive has arrived.

use std::collections::BTreeMap;

use althing_api::etcdserverpb as pb;
use althing_api::v3electionpb as election;
use bytes::Bytes;
use prost::Message;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::feed::{Feed, Frame, PATIENCE};
use super::operation::{Call, Operation, Step, Transport, as_json};
use super::parties::Parties;
use super::play::{messages_as_json, status_as_json};
use super::watcher::Change;
use super::watching::{FIRST_MARK, History, WatchStream, with_mark};
use crate::grpc::{Grpc, path};
use crate::json::Json;

/// Everything of one side that outlives a step.
#[derive(Debug)]
pub struct LongLived {
    port: u16,
    grpc: Grpc,
    /// A watcher of everything.
    witness: Feed,
    history: History,
    settled: i64,
    streams: BTreeMap<usize, WatchStream>,
    parties: Parties,
}

impl LongLived {
    /// Begins to follow an empty member.
    ///
    /// # Panics
    /// When the member cannot be watched.
    pub async fn start(port: u16, grpc: Grpc) -> LongLived {
        let mut witness = Feed::grpc(&grpc, path::WATCH, as_json::<pb::WatchResponse>);
        let create = pb::WatchCreateRequest {
            key: Bytes::from_static(b"\0"),
            range_end: Bytes::from_static(b"\0"),
            ..pb::WatchCreateRequest::default()
        };
        let request = pb::WatchRequest {
            request_union: Some(pb::watch_request::RequestUnion::CreateRequest(create)),
        };
        witness.send(request.encode_to_vec().into());
        let created = witness.next(Instant::now() + PATIENCE).await;
        assert!(
            matches!(&created, Some(Frame::Message(message)) if message["created"] == true),
            "no watcher was created: {created:?}"
        );
        LongLived {
            port,
            parties: Parties::new(grpc.clone()),
            grpc,
            witness,
            history: History::default(),
            settled: 1,
            streams: BTreeMap::new(),
        }
    }

    /// Plays a step that is more than a request and its answer; `None` for any other.
    pub async fn play(&mut self, step: &Step) -> Option<Value> {
        let answer = match &step.operation {
            Operation::KeepAlive(requests) => self.keep_alive(requests, &step.transport).await,
            Operation::Call(call) => self.call(step, call).await,
            Operation::Abandon(key) => self.parties.abandon(key).await,
            Operation::Observe { slot, .. } => self.observe(step, *slot),
            Operation::CloseObserve { slot } => {
                self.parties.close(*slot);
                Ok(Value::Null)
            }
            Operation::Watch { slot, requests } => {
                self.watch(*slot, requests, &step.transport).await
            }
            Operation::Progress { slot } => match self.streams.get_mut(slot) {
                Some(stream) if stream.is_open() => {
                    let told = stream.ask_progress(&self.history).await;
                    told.map(|told| json!({ "progress": told }))
                }
                _ => Ok(json!({ "progress": "not asked" })),
            },
            Operation::HalfCloseWatch { slot } => {
                self.streams.get_mut(slot).map(WatchStream::half_close);
                Ok(Value::Null)
            }
            Operation::CloseWatch { slot } => {
                self.streams.remove(slot);
                Ok(Value::Null)
            }
            Operation::Burst(requests) => self.burst(requests).await,
            Operation::Expiry { lease } => self.expiry(*lease).await,
            Operation::Settle => self.settle().await,
            _ => return None,
        };
        Some(answer.unwrap_or_else(|wrong| json!({ "wrong": wrong })))
    }

    /// The revision above which a compaction might meet something that is still behind.
    pub fn floor(&self) -> i64 {
        let streams = self.streams.values().map(WatchStream::floor);
        streams
            .chain([self.parties.floor()])
            .min()
            .unwrap_or(i64::MAX)
    }

    /// Learns that a compaction was accepted.
    pub fn compacted(&mut self, revision: i64) {
        self.history.compacted = revision;
    }

    async fn settle(&mut self) -> Result<Value, String> {
        let first = self.history.revision;
        let mut came = Map::new();
        // A call that returns may have waited for a key that is gone by now, and its going is a
        // change.
        self.catch_up().await?;
        came.extend(self.parties.settle(self.history.revision).await?);
        let exact = self.history.revision - self.settled <= 1;
        self.settled = self.history.revision;
        for (slot, stream) in &mut self.streams {
            let of_stream = stream
                .settle(&self.history, exact)
                .await
                .map_err(|wrong| format!("stream {slot}: {wrong}"))?;
            if !of_stream.is_null() {
                came.insert(format!("stream {slot}"), of_stream);
            }
        }
        if first != self.history.revision {
            came.insert("revision".to_owned(), json!(self.history.revision));
        }
        Ok(Value::Object(came))
    }

    /// Reads the witness up to the store's revision.
    async fn catch_up(&mut self) -> Result<(), String> {
        let request = pb::RangeRequest {
            key: Bytes::from_static(b"\x01"),
            count_only: true,
            ..pb::RangeRequest::default()
        };
        let answer: pb::RangeResponse = self
            .grpc
            .unary(path::RANGE, &request)
            .await
            .map_err(|status| status.to_string())?;
        let revision = answer.header.unwrap_or_default().revision;
        let deadline = Instant::now() + PATIENCE;
        while self
            .history
            .changes
            .last()
            .map_or(1, |change| change.revision)
            < revision
        {
            let Some(Frame::Message(raw)) = self.witness.next(deadline).await else {
                return Err(format!("the watcher of everything misses {revision}"));
            };
            let response: pb::WatchResponse =
                serde_json::from_value(raw).map_err(|error| error.to_string())?;
            self.history.changes.extend(Change::of(&response));
        }
        self.history.revision = revision;
        Ok(())
    }

    async fn keep_alive(
        &mut self,
        requests: &[pb::LeaseKeepAliveRequest],
        transport: &Transport,
    ) -> Result<Value, String> {
        let mut feed = match transport {
            Transport::Json(body) => Feed::json(self.port, "/v3/lease/keepalive", body.clone()),
            Transport::Grpc => {
                let decode = as_json::<pb::LeaseKeepAliveResponse>;
                let mut feed = Feed::grpc(&self.grpc, path::LEASE_KEEP_ALIVE, decode);
                for request in requests {
                    feed.send(request.encode_to_vec().into());
                }
                feed.half_close();
                feed
            }
        };
        let deadline = Instant::now() + PATIENCE;
        let mut messages = Vec::new();
        loop {
            match feed.next(deadline).await {
                Some(Frame::Message(message)) => messages.push(message),
                Some(Frame::End(end)) => return Ok(json!({ "messages": messages, "end": end })),
                None => return Err(format!("the stream did not end behind {messages:?}")),
            }
        }
    }

    async fn call(&mut self, step: &Step, call: &Call) -> Result<Value, String> {
        let (name, key) = (call.name(), call.key());
        if !self.parties.may_begin(name, &key).await? {
            return Ok(json!({ "skipped": "its outcome would be uncertain" }));
        }
        let (operation, port) = (step.operation.clone(), self.port);
        let handle = match &step.transport {
            Transport::Json(body) => {
                let body = body.clone();
                tokio::spawn(async move {
                    let (_, path) = operation.http().expect("calls have routes");
                    super::play::post(&mut Json::new(port), http::Method::POST, path, &body).await
                })
            }
            Transport::Grpc => {
                let mut grpc = self.grpc.clone();
                tokio::spawn(async move {
                    let (path, bytes) = operation.grpc().expect("calls have methods");
                    match grpc.raw(path, bytes).await {
                        Ok(message) => messages_as_json(&operation, &[message]),
                        Err(status) => status_as_json(&status),
                    }
                })
            }
        };
        self.parties
            .begin(name, &key, handle, self.history.revision)
            .await
    }

    fn observe(&mut self, step: &Step, slot: usize) -> Result<Value, String> {
        let Operation::Observe { request, .. } = &step.operation else {
            return Err("no Observe".to_owned());
        };
        let feed = match &step.transport {
            Transport::Json(body) => Feed::json(self.port, "/v3/election/observe", body.clone()),
            Transport::Grpc => {
                let decode = as_json::<election::LeaderResponse>;
                let mut feed = Feed::grpc(&self.grpc, path::OBSERVE, decode);
                feed.send(request.encode_to_vec().into());
                feed.half_close();
                feed
            }
        };
        let since = self.history.revision;
        self.parties
            .observe(slot, request.name.clone(), feed, since);
        Ok(Value::Null)
    }

    async fn watch(
        &mut self,
        slot: usize,
        requests: &[pb::WatchRequest],
        transport: &Transport,
    ) -> Result<Value, String> {
        match transport {
            Transport::Json(body) => {
                let mut stream = WatchStream::json(self.port, body.clone());
                let requests = with_mark(requests, FIRST_MARK);
                stream.answered(&requests, &self.history).await?;
                self.streams.insert(slot, stream);
            }
            Transport::Grpc => {
                let open = self.streams.get(&slot).is_some_and(WatchStream::is_open);
                if !open {
                    self.streams.insert(slot, WatchStream::grpc(&self.grpc));
                }
                let stream = self.streams.get_mut(&slot).expect("it was inserted above");
                stream.ask(requests, &self.history).await?;
            }
        }
        Ok(Value::Null)
    }

    async fn burst(&mut self, requests: &[pb::PutRequest]) -> Result<Value, String> {
        let mut answers = Vec::new();
        for request in requests {
            let request = Operation::Put(request.clone());
            let (path, bytes) = request.grpc().expect("a Put travels over gRPC");
            answers.push(match self.grpc.raw(path, bytes).await {
                Ok(message) => messages_as_json(&request, &[message]),
                Err(status) => status_as_json(&status),
            });
        }
        Ok(Value::Array(answers))
    }

    async fn expiry(&mut self, lease: i64) -> Result<Value, String> {
        let request = pb::LeaseTimeToLiveRequest {
            id: lease,
            keys: true,
        };
        let deadline = Instant::now() + PATIENCE;
        loop {
            // The list comes first: an expired lease has no time left before its keys are gone.
            let leases: pb::LeaseLeasesResponse = self
                .grpc
                .unary(path::LEASE_LEASES, &pb::LeaseLeasesRequest {})
                .await
                .map_err(|status| status.to_string())?;
            let answer: pb::LeaseTimeToLiveResponse = self
                .grpc
                .unary(path::LEASE_TIME_TO_LIVE, &request)
                .await
                .map_err(|status| status.to_string())?;
            if answer.ttl == -1 && leases.leases.iter().all(|one| one.id != lease) {
                let header = answer.header.unwrap_or_default();
                return Ok(json!({ "expired": true, "revision": header.revision }));
            }
            if Instant::now() > deadline {
                return Err(format!("lease {lease} does not expire"));
            }
        }
    }
}
