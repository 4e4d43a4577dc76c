//! What a command is told of an event, and how events are counted.

use althing_api::etcdserverpb::ResponseHeader;
use althing_api::mvccpb::KeyValue;
use althing_api::mvccpb::event::EventType;

use super::*;

#[test]
fn a_command_sees_the_event_as_go_quotes_it() {
    let answer = WatchResponse {
        header: Some(ResponseHeader {
            revision: 42,
            ..ResponseHeader::default()
        }),
        ..WatchResponse::default()
    };
    let event = Event {
        r#type: EventType::Delete.into(),
        kv: Some(KeyValue {
            key: Bytes::from_static(b"a \"b\"\n\xff"),
            ..KeyValue::default()
        }),
        prev_kv: None,
    };
    let expected = [
        ("ETCD_WATCH_REVISION", "42"),
        ("ETCD_WATCH_EVENT_TYPE", "\"DELETE\""),
        ("ETCD_WATCH_KEY", "\"a \\\"b\\\"\\n\\xff\""),
        ("ETCD_WATCH_VALUE", "\"\""),
    ];
    let expected = expected.map(|(name, value)| (name, OsString::from(value)));
    assert_eq!(variables(&answer, &event), expected);
}

#[test]
fn no_more_events_are_shown_than_asked_for() {
    let mut left = Some(3);
    let mut counts = Vec::new();
    for arriving in [0, 2, 5, 1] {
        let mut events = vec![Event::default(); arriving];
        take(&mut events, &mut left);
        counts.push(events.len());
    }
    assert_eq!((counts, left), (vec![0, 2, 1, 0], Some(0)));
}

#[test]
fn without_a_count_every_event_is_shown() {
    let mut events = vec![Event::default(); 5];
    take(&mut events, &mut None);
    assert_eq!(events.len(), 5);
}
