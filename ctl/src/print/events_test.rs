//! Every format of events and leases, against what etcdctl 3.5 printed for the same answer.

use althing_api::etcdserverpb::LeaseStatus;
use althing_api::mvccpb::event::EventType;
use althing_api::mvccpb::{Event, KeyValue};
use bytes::Bytes;

use super::*;

const HEADER_JSON: &str = r#""cluster_id":7,"member_id":8,"revision":42,"raft_term":2"#;
const HEADER_FIELDS: &str =
    "\"ClusterID\" : 7\n\"MemberID\" : 8\n\"Revision\" : 42\n\"RaftTerm\" : 2\n";

fn header() -> Option<ResponseHeader> {
    Some(ResponseHeader {
        cluster_id: 7,
        member_id: 8,
        revision: 42,
        raft_term: 2,
    })
}

fn written(
    format: Format,
    write: impl FnOnce(&Printer, &mut dyn Write) -> Result<(), Failure>,
) -> Vec<u8> {
    let printer = Printer {
        format,
        hex: false,
        value_only: false,
    };
    let mut out = Vec::new();
    write(&printer, &mut out).unwrap();
    out
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

fn record(revision: i64, value: &'static [u8]) -> KeyValue {
    KeyValue {
        key: Bytes::from_static(b"w"),
        create_revision: 41,
        mod_revision: revision,
        version: revision - 40,
        value: Bytes::from_static(value),
        lease: 0,
    }
}

fn changes() -> WatchResponse {
    WatchResponse {
        header: header(),
        watch_id: 5,
        events: vec![
            Event {
                r#type: EventType::Put.into(),
                kv: Some(record(42, b"2")),
                prev_kv: Some(record(41, b"1")),
            },
            Event {
                r#type: EventType::Delete.into(),
                kv: Some(KeyValue {
                    key: Bytes::from_static(b"x"),
                    mod_revision: 42,
                    ..KeyValue::default()
                }),
                prev_kv: None,
            },
        ],
        ..WatchResponse::default()
    }
}

fn watch(format: Format, answer: &WatchResponse) -> Vec<u8> {
    written(format, |printer, out| printer.watch(out, answer))
}

#[test]
fn an_event_shows_what_was_before_what_is() {
    let shown = text(watch(Format::Simple, &changes()));
    assert_eq!(shown, "PUT\nw\n1\nw\n2\nDELETE\nx\n\n");
}

#[test]
fn events_in_json_leave_the_put_unnamed() {
    let expected = [
        r#"{"Header":{"#,
        HEADER_JSON,
        r#"},"Events":[{"kv":{"key":"dw==","create_revision":41,"mod_revision":42,"version":2,"#,
        r#""value":"Mg=="},"prev_kv":{"key":"dw==","create_revision":41,"mod_revision":41,"#,
        r#""version":1,"value":"MQ=="}},{"type":1,"kv":{"key":"eA==","mod_revision":42}}],"#,
        r#""CompactRevision":0,"Canceled":false,"Created":false}"#,
        "\n",
    ];
    assert_eq!(text(watch(Format::Json, &changes())), expected.concat());
}

#[test]
fn events_in_fields_name_their_type() {
    let shown = text(watch(Format::Fields, &changes()));
    let body = shown.strip_prefix(HEADER_FIELDS).unwrap();
    let names: Vec<&str> = body
        .lines()
        .map(|line| line.split(' ').next().unwrap())
        .collect();
    let record = [
        "Key",
        "CreateRevision",
        "ModRevision",
        "Version",
        "Value",
        "Lease",
    ];
    let quoted = |prefix: &str| record.map(|name| format!("\"{prefix}{name}\""));
    let expected = [
        vec!["\"Type\"".to_owned()],
        quoted("Prev").to_vec(),
        quoted("").to_vec(),
        vec!["\"Type\"".to_owned()],
        quoted("").to_vec(),
    ];
    assert_eq!(names, expected.concat());
    assert!(body.contains("\"Type\" : PUT\n") && body.contains("\"Type\" : DELETE\n"));
}

#[test]
fn a_watch_that_never_came_to_be_has_no_events() {
    let refused = WatchResponse {
        canceled: true,
        ..WatchResponse::default()
    };
    let json = "{\"Header\":{},\"Events\":null,\"CompactRevision\":0,\"Canceled\":true,\
                \"Created\":false}\n";
    assert_eq!(text(watch(Format::Json, &refused)), json);
    assert_eq!(watch(Format::Protobuf, &refused), b"\n\0 \x01");
}

#[test]
fn protobuf_leaves_out_what_the_transport_needs() {
    let shown = WatchResponse {
        watch_id: 0,
        ..changes()
    };
    assert_eq!(watch(Format::Protobuf, &changes()), shown.encode_to_vec());
}

#[test]
fn a_lease_is_shown_by_its_hexadecimal_id() {
    let simple = |answer: &dyn Fn(&Printer, &mut dyn Write) -> Result<(), Failure>| {
        text(written(Format::Simple, answer))
    };
    let granted = LeaseGrantResponse {
        header: header(),
        id: 0x7a1e,
        ttl: 60,
        error: String::new(),
    };
    let renewed = LeaseKeepAliveResponse {
        header: header(),
        id: 0x7a1e,
        ttl: 60,
    };
    let revoked = Revoked {
        id: 0x7a1e,
        answer: LeaseRevokeResponse { header: header() },
    };
    let list = LeaseLeasesResponse {
        header: header(),
        leases: vec![LeaseStatus { id: 0x7a1e }],
    };
    assert_eq!(
        simple(&|printer, out| printer.lease(out, &granted)),
        "lease 0000000000007a1e granted with TTL(60s)\n"
    );
    assert_eq!(
        simple(&|printer, out| printer.lease(out, &renewed)),
        "lease 0000000000007a1e keepalived with TTL(60)\n"
    );
    assert_eq!(
        simple(&|printer, out| printer.lease(out, &revoked)),
        "lease 0000000000007a1e revoked\n"
    );
    assert_eq!(
        simple(&|printer, out| printer.lease(out, &list)),
        "found 1 leases\n0000000000007a1e\n"
    );
    let json = text(written(Format::Json, |printer, out| {
        printer.lease(out, &granted)
    }));
    let expected = format!("{{{HEADER_JSON},\"ID\":31262,\"TTL\":60,\"Error\":\"\"}}\n");
    assert_eq!(json, expected);
    // etcdctl's protobuf of an answer about leases is its header's.
    let protobuf = written(Format::Protobuf, |printer, out| {
        printer.lease(out, &granted)
    });
    assert_eq!(protobuf, header().unwrap().encode_to_vec());
}

#[test]
fn what_a_lease_has_left_is_shown_with_its_keys_if_asked() {
    let answer = LeaseTimeToLiveResponse {
        header: header(),
        id: 5,
        ttl: 9,
        granted_ttl: 10,
        keys: vec![Bytes::from_static(b"a"), Bytes::from_static(b"b c")],
    };
    let simple = |answer: LeaseTimeToLiveResponse, keys| {
        let found = TimeToLive { answer, keys };
        text(written(Format::Simple, |printer, out| {
            printer.lease(out, &found)
        }))
    };
    let line = "lease 0000000000000005 granted with TTL(10s), remaining(9s)";
    assert_eq!(simple(answer.clone(), false), format!("{line}\n"));
    let keys = format!("{line}, attached keys([a b c])\n");
    assert_eq!(simple(answer.clone(), true), keys);
    let gone = LeaseTimeToLiveResponse {
        ttl: -1,
        granted_ttl: 0,
        keys: vec![],
        ..answer.clone()
    };
    let text_of_gone = "lease 0000000000000005 already expired\n";
    assert_eq!(simple(gone.clone(), true), text_of_gone);
    let json = |answer| {
        let found = TimeToLive { answer, keys: true };
        text(written(Format::Json, |printer, out| {
            printer.lease(out, &found)
        }))
    };
    let expected = |rest: &str| format!("{{{HEADER_JSON},\"id\":5,{rest}}}\n");
    let with_keys = r#""ttl":9,"granted-ttl":10,"keys":["YQ==","YiBj"]"#;
    assert_eq!(json(answer), expected(with_keys));
    let without = r#""ttl":-1,"granted-ttl":0,"keys":null"#;
    assert_eq!(json(gone), expected(without));
}
