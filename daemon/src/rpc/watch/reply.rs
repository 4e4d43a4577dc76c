//! A message to a watching client. Its events are shared with every other watcher that is told of
//! them, and so are their encoded bytes.

use std::ops::Range;
use std::sync::Arc;

use althing_actors::watch_hub::{Events, WatchedEvent};
use althing_api::etcdserverpb::WatchResponse;
use bytes::BufMut;
use prost::Message;

/// A `WatchResponse` with shared events.
#[derive(Clone, Debug)]
pub struct WatchReply {
    /// Everything but the events.
    head: WatchResponse,
    events: Option<(Events, Range<usize>)>,
}

impl From<WatchResponse> for WatchReply {
    fn from(head: WatchResponse) -> WatchReply {
        WatchReply { head, events: None }
    }
}

impl WatchReply {
    /// A message with events; those of `head` must be empty.
    pub(super) fn new(head: WatchResponse, events: Events) -> WatchReply {
        let all = 0..events.len();
        WatchReply {
            head,
            events: Some((events, all)),
        }
    }

    fn events(&self) -> &[Arc<WatchedEvent>] {
        match &self.events {
            Some((events, range)) => &events[range.clone()],
            None => &[],
        }
    }

    /// Bytes of the encoded message.
    pub fn encoded_len(&self) -> usize {
        let events = self.events().iter().map(|event| event.encoded_len());
        self.head.encoded_len() + events.sum::<usize>()
    }

    /// Appends the encoded message. Events have the highest field number, so they come last in any
    /// encoding.
    pub fn encode(&self, out: &mut impl BufMut) {
        self.head.encode_raw(out);
        for event in self.events() {
            event.encode(out);
        }
    }

    /// The message itself.
    pub fn into_message(self) -> WatchResponse {
        let events = self.events().iter().map(|event| event.event().clone());
        let events: Vec<_> = events.collect();
        let mut message = self.head;
        message.events.extend(events);
        message
    }

    /// Cuts a message of at least `bytes_max` between its events, as etcd does: each piece is below
    /// the limit unless one event alone is not, and all but the last say that there is more.
    pub(super) fn fragments(self, bytes_max: usize) -> Vec<WatchReply> {
        let Some((events, range)) = &self.events else {
            return vec![self];
        };
        if range.len() < 2 || self.encoded_len() < bytes_max {
            return vec![self];
        }
        let head = WatchResponse {
            fragment: true,
            ..self.head.clone()
        };
        let head_bytes = head.encoded_len();
        let mut pieces = Vec::new();
        let (mut start, mut bytes) = (range.start, head_bytes);
        for at in range.clone() {
            let event_bytes = events[at].encoded_len();
            if at > start && bytes + event_bytes >= bytes_max {
                pieces.push(start..at);
                (start, bytes) = (at, head_bytes);
            }
            bytes += event_bytes;
        }
        pieces.push(start..range.end);
        let last = pieces.len() - 1;
        let piece = |(number, range): (usize, Range<usize>)| WatchReply {
            head: if number == last {
                self.head.clone()
            } else {
                head.clone()
            },
            events: Some((Arc::clone(events), range)),
        };
        pieces.into_iter().enumerate().map(piece).collect()
    }
}

#[cfg(test)]
mod tests {
    use althing_api::etcdserverpb::ResponseHeader;
    use althing_api::mvccpb::{Event, KeyValue};
    use proptest::prelude::*;

    use super::*;

    fn reply(value_bytes: &[usize]) -> WatchReply {
        let event = |(n, bytes): (usize, &usize)| {
            let kv = KeyValue {
                key: format!("k{n}").into(),
                value: vec![b'v'; *bytes].into(),
                ..KeyValue::default()
            };
            Arc::new(WatchedEvent::new(Event {
                kv: Some(kv),
                ..Event::default()
            }))
        };
        let events: Events = value_bytes.iter().enumerate().map(event).collect();
        let head = WatchResponse {
            header: Some(ResponseHeader {
                revision: 300,
                ..ResponseHeader::default()
            }),
            watch_id: 5,
            ..WatchResponse::default()
        };
        WatchReply::new(head, events)
    }

    proptest! {
        #[test]
        fn fragments_joined_are_the_message_and_each_is_below_the_limit(
            value_bytes in prop::collection::vec(0usize..300, 1..20),
            bytes_max in 100usize..2_000,
        ) {
            let whole = reply(&value_bytes);
            let message = whole.clone().into_message();
            let pieces = whole.fragments(bytes_max);
            let count = pieces.len();
            let mut joined = Vec::new();
            for (number, piece) in pieces.into_iter().enumerate() {
                let mut bytes = Vec::new();
                piece.encode(&mut bytes);
                prop_assert_eq!(bytes.len(), piece.encoded_len());
                let decoded = WatchResponse::decode(bytes.as_slice()).unwrap();
                prop_assert_eq!(&decoded, &piece.into_message());
                prop_assert_eq!(decoded.fragment, number + 1 < count);
                prop_assert!(decoded.events.len() == 1 || bytes.len() < bytes_max);
                joined.extend(decoded.events);
            }
            prop_assert_eq!(joined, message.events);
        }
    }
}
