//! What a member holds: every change since the first, as a watcher is told.

use std::net::SocketAddr;

use althing_api::etcdserverpb as pb;
use althing_api::mvccpb::event::EventType;
use bytes::Bytes;
use prost::Message;
use tokio::sync::mpsc;

use crate::grpc::{Grpc, path};
use crate::linear::history::Event;
use crate::process::DEADLINE;

use super::clients::read_record;

/// Everything up to revision `last`.
///
/// # Panics
/// When the member does not tell it in time.
pub async fn read(address: SocketAddr, last: i64) -> Vec<Event> {
    let reading = tokio::time::timeout(DEADLINE, watch(address, last));
    let read = reading.await;
    let read = read.unwrap_or_else(|_| panic!("revision {last} does not come to {address}"));
    read.unwrap_or_else(|what| panic!("the log of the member at {address}: {what}"))
}

async fn watch(address: SocketAddr, last: i64) -> Result<Vec<Event>, String> {
    let connected = Grpc::connect_to(address).await;
    let mut grpc = connected.map_err(|error| error.to_string())?;
    let (requests, queue) = mpsc::unbounded_channel();
    let create = pb::WatchCreateRequest {
        key: Bytes::from_static(b"\0"),
        range_end: Bytes::from_static(b"\0"),
        start_revision: 1,
        ..Default::default()
    };
    let request = pb::WatchRequest {
        request_union: Some(pb::watch_request::RequestUnion::CreateRequest(create)),
    };
    // The receiver is alive.
    let _ = requests.send(request.encode_to_vec().into());
    let mut responses = grpc
        .open(path::WATCH, queue)
        .await
        .map_err(|status| status.to_string())?;
    let mut events = Vec::new();
    while let Some(bytes) = responses
        .message()
        .await
        .map_err(|status| status.to_string())?
    {
        let response = pb::WatchResponse::decode(bytes).map_err(|error| error.to_string())?;
        if response.canceled {
            return Err(response.cancel_reason);
        }
        for event in response.events {
            let record = event.kv.clone().unwrap_or_default();
            let (key, value) = read_record(&record);
            events.push(Event {
                revision: record.mod_revision,
                key,
                value: match event.r#type() {
                    EventType::Put => value,
                    EventType::Delete => None,
                },
            });
        }
        if events.last().is_some_and(|event| event.revision >= last) {
            return Ok(events);
        }
    }
    Err("the stream ended".to_owned())
}

/// The hash of all that a member holds at revision `last`, history included.
///
/// # Panics
/// When the member does not tell it.
pub async fn hash(address: SocketAddr, last: i64) -> u32 {
    let connected = Grpc::connect_to(address).await;
    let mut grpc = connected.unwrap_or_else(|error| panic!("{address}: {error}"));
    let request = pb::HashKvRequest { revision: last };
    let told = grpc.unary::<pb::HashKvResponse>(path::HASH_KV, &request);
    let told = told.await;
    told.unwrap_or_else(|status| panic!("{address}: {status}"))
        .hash
}

/// Where members do not hold the same.
pub fn differences(logs: &[Vec<Event>]) -> Vec<String> {
    let mut faults = Vec::new();
    for (position, log) in logs.iter().enumerate().skip(1) {
        let first = &logs[0];
        let differs = first.iter().zip(log).find(|(one, other)| one != other);
        if let Some((one, other)) = differs {
            faults.push(format!("member 0 has {one:?}, member {position} {other:?}"));
        } else if first.len() != log.len() {
            faults.push(format!(
                "member 0 has {} events, member {position} {}",
                first.len(),
                log.len()
            ));
        }
    }
    faults
}
