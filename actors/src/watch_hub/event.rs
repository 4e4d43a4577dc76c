//! An event on its way to watchers. Most events have one watcher, whose stream encodes it straight
//! into what it sends. When a second stream asks, the bytes are kept and shared from then on.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use althing_api::mvccpb::event::EventType;
use althing_api::mvccpb::{Event, KeyValue};
use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

/// The field of `WatchResponse` that holds events.
const EVENTS_FIELD: u32 = 11;

/// An event that several watchers share.
#[derive(Debug)]
pub struct WatchedEvent {
    event: Event,
    /// Whether some stream has encoded it already.
    was_encoded: AtomicBool,
    encoded: OnceLock<Bytes>,
}

/// What one watcher is told at once: events in order, in whole revisions.
pub type Events = Arc<[Arc<WatchedEvent>]>;

impl WatchedEvent {
    /// Wraps an event that is not encoded yet.
    pub fn new(event: Event) -> WatchedEvent {
        WatchedEvent {
            event,
            was_encoded: AtomicBool::new(false),
            encoded: OnceLock::new(),
        }
    }

    /// The event.
    pub fn event(&self) -> &Event {
        &self.event
    }

    /// The revision that made it.
    pub fn revision(&self) -> i64 {
        self.event.kv.as_ref().map_or(0, |kv| kv.mod_revision)
    }

    /// Appends the event as a field of a `WatchResponse`: tag, length, content.
    pub fn encode(&self, out: &mut impl BufMut) {
        if !self.was_encoded.swap(true, Ordering::Relaxed) {
            return self.encode_field(out);
        }
        let encoded = self.encoded.get_or_init(|| {
            let mut field = BytesMut::with_capacity(self.encoded_len());
            self.encode_field(&mut field);
            field.freeze()
        });
        out.put_slice(encoded);
    }

    fn encode_field(&self, out: &mut impl BufMut) {
        encode_key(EVENTS_FIELD, WireType::LengthDelimited, out);
        encode_varint(self.event.encoded_len() as u64, out);
        self.event.encode_raw(out);
    }

    /// How many bytes [`WatchedEvent::encode`] appends.
    pub fn encoded_len(&self) -> usize {
        let len = self.event.encoded_len();
        key_len(EVENTS_FIELD) + encoded_len_varint(len as u64) + len
    }

    /// Roughly the bytes that this event keeps in memory.
    pub(crate) fn cost(&self) -> usize {
        let bytes =
            |kv: &Option<KeyValue>| kv.as_ref().map_or(0, |kv| kv.key.len() + kv.value.len());
        size_of::<WatchedEvent>() + bytes(&self.event.kv) + bytes(&self.event.prev_kv)
    }
}

/// Whether the event created its key.
pub(crate) fn is_creation(event: &Event) -> bool {
    let made = |kv: &KeyValue| kv.create_revision == kv.mod_revision;
    event.r#type() == EventType::Put && event.kv.as_ref().is_some_and(made)
}

#[cfg(test)]
mod tests {
    use althing_api::etcdserverpb::WatchResponse;

    use super::*;

    #[test]
    fn every_encoding_is_what_a_response_with_the_event_holds() {
        let event = Event {
            r#type: EventType::Put.into(),
            kv: Some(KeyValue {
                key: "k".into(),
                value: vec![7; 300].into(),
                mod_revision: 5,
                ..KeyValue::default()
            }),
            prev_kv: None,
        };
        let response = WatchResponse {
            events: vec![event.clone()],
            ..WatchResponse::default()
        };
        let watched = WatchedEvent::new(event);
        for _ in 0..3 {
            let mut encoded = Vec::new();
            watched.encode(&mut encoded);
            assert_eq!(encoded, response.encode_to_vec());
        }
        assert_eq!(watched.encoded_len(), response.encoded_len());
        assert_eq!(watched.revision(), 5);
    }
}
