//! Every format of every answer, against what etcdctl 3.5 printed for the same answer.

use althing_api::etcdserverpb::response_op::Response;
use althing_api::etcdserverpb::{
    DeleteRangeResponse, HashKvResponse, Member, PutResponse, RangeResponse, ResponseHeader,
    ResponseOp, TxnResponse,
};
use althing_api::mvccpb::KeyValue;
use bytes::Bytes;
use proptest::prelude::*;

use super::*;

fn printer(format: Format) -> Printer {
    Printer {
        format,
        hex: false,
        value_only: false,
    }
}

fn text(write: impl FnOnce(&mut dyn Write) -> Result<(), Failure>) -> String {
    let mut out = Vec::new();
    write(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader {
        cluster_id: 14841639068965178418,
        member_id: 10276657743932975437,
        revision,
        raft_term: 2,
    })
}

fn record(key: &'static [u8], value: &'static [u8]) -> KeyValue {
    KeyValue {
        key: Bytes::from_static(key),
        create_revision: 2,
        mod_revision: 3,
        version: 2,
        value: Bytes::from_static(value),
        lease: 0,
    }
}

fn txn() -> TxnResponse {
    let inner = Some(ResponseHeader {
        revision: 10,
        ..ResponseHeader::default()
    });
    let ops = [
        Response::ResponsePut(PutResponse {
            header: inner,
            prev_kv: None,
        }),
        Response::ResponseRange(RangeResponse {
            header: inner,
            kvs: vec![record(b"a", b"x\ty")],
            more: true,
            count: 7,
        }),
        Response::ResponseDeleteRange(DeleteRangeResponse {
            header: None,
            deleted: 1,
            prev_kvs: vec![record(b"k", b"")],
        }),
    ];
    let op = |response| ResponseOp {
        response: Some(response),
    };
    TxnResponse {
        header: header(10),
        succeeded: true,
        responses: ops.into_iter().map(op).collect(),
    }
}

#[test]
fn a_txn_in_json_names_the_kind_of_each_response() {
    let shown = text(|out| printer(Format::Json).response(out, &txn()));
    let expected = concat!(
        r#"{"header":{"cluster_id":14841639068965178418,"member_id":10276657743932975437,"#,
        r#""revision":10,"raft_term":2},"succeeded":true,"responses":["#,
        r#"{"Response":{"response_put":{"header":{"revision":10}}}},"#,
        r#"{"Response":{"response_range":{"header":{"revision":10},"kvs":[{"key":"YQ==","#,
        r#""create_revision":2,"mod_revision":3,"version":2,"value":"eAl5"}],"more":true,"#,
        r#""count":7}}},"#,
        r#"{"Response":{"response_delete_range":{"deleted":1,"prev_kvs":[{"key":"aw==","#,
        r#""create_revision":2,"mod_revision":3,"version":2}]}}}]}"#,
        "\n"
    );
    assert_eq!(shown, expected);
}

#[test]
fn a_txn_in_simple_has_an_empty_line_before_each_response() {
    let shown = text(|out| printer(Format::Simple).response(out, &txn()));
    assert_eq!(shown, "SUCCESS\n\nOK\n\na\nx\ty\n\n1\nk\n\n");
    let hex = Printer {
        hex: true,
        ..printer(Format::Simple)
    };
    let shown = text(|out| hex.response(out, &txn()));
    assert_eq!(
        shown,
        "SUCCESS\n\nOK\n\n\\x61\n\\x78\\x09\\x79\n\n1\n\\x6b\n\n"
    );
}

#[test]
fn fields_are_quoted_and_previous_values_marked() {
    let answer = PutResponse {
        header: header(5),
        prev_kv: Some(record(b"a\xff", b"<&>\n")),
    };
    let shown = text(|out| printer(Format::Fields).response(out, &answer));
    let expected = concat!(
        "\"ClusterID\" : 14841639068965178418\n\"MemberID\" : 10276657743932975437\n",
        "\"Revision\" : 5\n\"RaftTerm\" : 2\n",
        "\"PrevKey\" : \"a\\xff\"\n\"PrevCreateRevision\" : 2\n\"PrevModRevision\" : 3\n",
        "\"PrevVersion\" : 2\n\"PrevValue\" : \"<&>\\n\"\n\"PrevLease\" : 0\n"
    );
    assert_eq!(shown, expected);
}

#[test]
fn protobuf_is_the_message_itself() {
    let shown = text(|out| printer(Format::Protobuf).response(out, &PutResponse::default()));
    assert_eq!(shown, "");
}

#[test]
fn what_a_format_lacks_is_refused_with_code_4() {
    let mut out = Vec::new();
    let failure = printer(Format::Table)
        .response(&mut out, &txn())
        .unwrap_err();
    let expected = Failure::new(BAD_FEATURE, "table not supported as output format");
    assert_eq!(failure, expected);
    let none: [Health; 0] = [];
    let failure = printer(Format::Protobuf)
        .endpoints(&mut out, &none)
        .unwrap_err();
    let expected = Failure::new(BAD_FEATURE, "protobuf not supported as output format");
    assert_eq!(failure, expected);
    assert!(out.is_empty());
}

#[test]
fn members_are_listed_in_a_table_and_in_hexadecimal() {
    let member = |id, name: &str, is_learner| Member {
        id,
        name: name.to_owned(),
        peer_ur_ls: vec!["http://localhost:2380".to_owned()],
        client_ur_ls: if name.is_empty() {
            vec![]
        } else {
            vec!["http://c:1".to_owned()]
        },
        is_learner,
    };
    let answer = MemberListResponse {
        header: header(0),
        members: vec![member(0xab, "m1", false), member(0x1, "", true)],
    };
    let shown = text(|out| printer(Format::Table).members(out, &answer));
    let expected = "\
+----+-----------+------+-----------------------+--------------+------------+
| ID |  STATUS   | NAME |      PEER ADDRS       | CLIENT ADDRS | IS LEARNER |
+----+-----------+------+-----------------------+--------------+------------+
| ab |   started |   m1 | http://localhost:2380 |   http://c:1 |      false |
|  1 | unstarted |      | http://localhost:2380 |              |       true |
+----+-----------+------+-----------------------+--------------+------------+
";
    assert_eq!(shown, expected);
    let hex = Printer {
        hex: true,
        ..printer(Format::Json)
    };
    let shown = text(|out| hex.members(out, &answer));
    let expected = concat!(
        r#"{"header":{"cluster_id":"cdf818194e3a8c32","member_id":"8e9e05c52164694d","#,
        r#""raft_term":2},"members":[{"ID":"ab","name":"m1","#,
        r#""peerURLs":["http://localhost:2380"],"clientURLS":["http://c:1"]},"#,
        r#"{"ID":"1","name":"","peerURLs":["http://localhost:2380"],"clientURLS":null}]}"#,
        "\n"
    );
    assert_eq!(shown, expected);
}

#[test]
fn what_etcd_learned_later_is_left_out() {
    let answer = At {
        endpoint: "e<1>".to_owned(),
        answer: HashKvResponse {
            header: None,
            hash: 9,
            compact_revision: 1,
            hash_revision: 5,
        },
    };
    let shown = text(|out| printer(Format::Json).endpoints(out, &[answer]));
    let expected = r#"[{"Endpoint":"e\u003c1\u003e","HashKV":{"hash":9,"compact_revision":1}}]"#;
    assert_eq!(shown, format!("{expected}\n"));
}

#[test]
fn sizes_are_told_in_decimal_units() {
    let cases = [
        (0, "0 B"),
        (9, "9 B"),
        (20_480, "20 kB"),
        (1_000, "1.0 kB"),
        (2_147_483_648, "2.1 GB"),
        (999_999, "1000 kB"),
    ];
    for (bytes, shown) in cases {
        assert_eq!(table::human_bytes(bytes), shown);
    }
}

#[test]
fn one_thing_is_told_in_the_singular() {
    assert_eq!(table::counted(0, "key"), "0 keys");
    assert_eq!(table::counted(1, "key"), "1 key");
    assert_eq!(table::counted(2, "key"), "2 keys");
}

#[test]
fn a_long_cell_is_broken_between_words() {
    let health = Health {
        endpoint: "e".to_owned(),
        healthy: false,
        took: String::new(),
        error: "memberID:5024087964642392185 alarm:NOSPACE , next:1 alarm:CORRUPT ".to_owned(),
    };
    let shown = text(|out| printer(Format::Table).endpoints(out, &[health]));
    let expected = "\
+----------+--------+------+--------------------------------+
| ENDPOINT | HEALTH | TOOK |             ERROR              |
+----------+--------+------+--------------------------------+
|        e |  false |      |   memberID:5024087964642392185 |
|          |        |      |         alarm:NOSPACE , next:1 |
|          |        |      |                 alarm:CORRUPT  |
+----------+--------+------+--------------------------------+
";
    assert_eq!(shown, expected);
}

proptest! {
    #[test]
    fn a_broken_cell_keeps_its_words(cell in "[a-z ]{0,120}") {
        let mut out = Vec::new();
        table::write(&mut out, &["x"], &[vec![cell.clone()]]).unwrap();
        let shown = String::from_utf8(out).unwrap();
        let words = |text: &str| -> Vec<String> {
            let words = text.split(|c: char| !c.is_ascii_lowercase());
            words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
        };
        prop_assert_eq!(words(&shown), words(&cell));
        let widths: std::collections::HashSet<usize> = shown.lines().map(str::len).collect();
        prop_assert_eq!(widths.len(), 1);
    }

    #[test]
    fn every_string_is_one_line_of_plain_json(value: String) {
        let mut shown = Raw::new();
        value.json(&mut shown);
        let shown = String::from_utf8(shown).unwrap();
        prop_assert!(shown.starts_with('"') && shown.ends_with('"') && shown.len() >= 2);
        let forbidden = ['\n', '\r', '\t', '<', '>', '&', '\u{2028}', '\u{2029}', '\0'];
        prop_assert!(!shown.contains(forbidden));
    }
}
