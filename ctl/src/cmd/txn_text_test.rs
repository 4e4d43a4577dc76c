//! The language of transactions, line by line.

use proptest::prelude::*;

use super::*;

fn compare_error(line: &str) -> String {
    let failure = parse_compare(line.as_bytes()).unwrap_err();
    assert_eq!(failure.exit, INVALID_INPUT);
    failure.text
}

fn words_of(line: &str) -> Vec<String> {
    let words = words(line.as_bytes()).unwrap();
    words
        .into_iter()
        .map(|word| String::from_utf8(word).unwrap())
        .collect()
}

#[test]
fn every_target_is_read() {
    let cases = [
        (
            r#"ver("a") > "1""#,
            CompareTarget::Version,
            TargetUnion::Version(1),
        ),
        (
            r#"version("a") > "-1""#,
            CompareTarget::Version,
            TargetUnion::Version(-1),
        ),
        (
            r#"c("a") > "2""#,
            CompareTarget::Create,
            TargetUnion::CreateRevision(2),
        ),
        (
            r#"create("a") > "2""#,
            CompareTarget::Create,
            TargetUnion::CreateRevision(2),
        ),
        (
            r#"m("a") > "3""#,
            CompareTarget::Mod,
            TargetUnion::ModRevision(3),
        ),
        (
            r#"mod("a") > "3""#,
            CompareTarget::Mod,
            TargetUnion::ModRevision(3),
        ),
        (
            r#"val("a") > "\xff""#,
            CompareTarget::Value,
            TargetUnion::Value("\u{0}".into()),
        ),
        (
            r#"value("a") > `x`"#,
            CompareTarget::Value,
            TargetUnion::Value("x".into()),
        ),
        (
            r#"lease("a") > "1f""#,
            CompareTarget::Lease,
            TargetUnion::Lease(31),
        ),
    ];
    for (line, target, union) in cases {
        let compare = parse_compare(line.as_bytes()).unwrap();
        assert_eq!(compare.target(), target, "{line}");
        assert_eq!(compare.result(), CompareResult::Greater, "{line}");
        assert_eq!(compare.key, "a", "{line}");
        let union = match union {
            TargetUnion::Value(value) if value == "\u{0}" => {
                TargetUnion::Value(Bytes::from_static(b"\xff"))
            }
            other => other,
        };
        assert_eq!(compare.target_union, Some(union), "{line}");
    }
}

#[test]
fn every_operator_is_read() {
    let cases = [
        ("=", CompareResult::Equal),
        ("!=", CompareResult::NotEqual),
        ("<", CompareResult::Less),
        (">", CompareResult::Greater),
    ];
    for (operator, result) in cases {
        let line = format!(r#"mod("a") {operator} "0" and more"#);
        assert_eq!(parse_compare(line.as_bytes()).unwrap().result(), result);
    }
}

#[test]
fn a_bad_compare_is_refused_with_etcdctls_sentence() {
    let cases = [
        ("bogus", "malformed comparison: bogus"),
        (
            r#"foo("a") = "b""#,
            r#"malformed comparison: foo("a") = "b" (unknown target foo)"#,
        ),
        (
            r#"val("a") = b"#,
            r#"malformed comparison: val("a") = b; got val("a") = """#,
        ),
        (
            r#"val(a) = "b""#,
            r#"malformed comparison: val(a) = "b"; got val("")  """#,
        ),
        (
            r#"ver("a")>"0""#,
            r#"malformed comparison: ver("a")>"0"; got ver("a")  """#,
        ),
        (
            r#"ver("a") > "x""#,
            r#"invalid txn compare request: ver("a") > "x""#,
        ),
    ];
    for (line, text) in cases {
        assert_eq!(compare_error(line), text);
    }
    assert!(compare_error(r#"mod("a") ~ "0""#).contains("unknown operator ~"));
}

#[test]
fn words_are_split_as_etcdctl_splits_them() {
    assert_eq!(words_of(r#"put a "x\ty""#), ["put", "a", "x\ty"]);
    assert_eq!(words_of("put k 'b c'"), ["put", "k", "b c"]);
    assert_eq!(words_of("put q a'b'c"), ["put", "q", "a'b'c"]);
    assert_eq!(words_of(r"put \x61 ''"), ["put", r"\x61", ""]);
    assert_eq!(
        words_of("put k \"unterminated"),
        ["put", "k", "unterminated"]
    );
    assert_eq!(words_of("put k 'open"), ["put", "k", "open"]);
    assert_eq!(words(br#"put a "x\q""#), None);
}

#[test]
fn requests_take_the_flags_of_their_commands() {
    let request = parse_request(b"put k v --lease=1f --prev-kv").unwrap();
    let Some(Request::RequestPut(put)) = request.request else {
        panic!("expected a put, got {request:?}");
    };
    assert_eq!(
        (put.key, put.value, put.lease, put.prev_kv),
        ("k".into(), "v".into(), 31, true)
    );

    let request = parse_request(b"ge --prefix k --limit 3").unwrap();
    let Some(Request::RequestRange(get)) = request.request else {
        panic!("expected a range, got {request:?}");
    };
    assert_eq!(
        (get.key, get.range_end, get.limit),
        ("k".into(), "l".into(), 3)
    );

    let request = parse_request(b"del --from-key ''").unwrap();
    let Some(Request::RequestDeleteRange(del)) = request.request else {
        panic!("expected a delete, got {request:?}");
    };
    assert_eq!((del.key, del.range_end), ("\0".into(), "\0".into()));
}

#[test]
fn a_bad_request_is_refused_with_etcdctls_sentence_and_code() {
    let cases = [
        ("bogus x", INVALID_INPUT, "invalid txn request: bogus x"),
        ("put", INVALID_INPUT, "invalid txn compare request: put"),
        (
            "put a b --bogus",
            INVALID_INPUT,
            "invalid txn request: put a b --bogus",
        ),
        (
            "get a --limit=x",
            INVALID_INPUT,
            "invalid txn request: get a --limit=x",
        ),
        (
            "get a -w json",
            INVALID_INPUT,
            "invalid txn request: get a -w json",
        ),
        ("get a -h", INVALID_INPUT, "invalid txn request: get a -h"),
        (
            "put a",
            128,
            "put command needs 1 argument and input from stdin or 2 arguments",
        ),
        ("get a --order=x", 4, "bad sort order x"),
        (r#"put a "x\q""#, INVALID_INPUT, "invalid syntax"),
    ];
    for (line, exit, text) in cases {
        let failure = parse_request(line.as_bytes()).unwrap_err();
        assert_eq!(
            (failure.exit, failure.text.as_str()),
            (exit, text),
            "{line}"
        );
    }
}

proptest! {
    #[test]
    fn no_line_makes_the_parser_panic(bytes: Vec<u8>, text in "[a-z(\")'=<>!`\\\\ -]{0,60}") {
        for line in [bytes.as_slice(), text.as_bytes()] {
            let _ = (parse_compare(trim(line)), parse_request(trim(line)));
        }
    }

    #[test]
    fn every_quoted_key_and_value_comes_through(key: Vec<u8>, value: Vec<u8>) {
        let line = format!("val({}) = {}", quote(&key), quote(&value));
        let compare = parse_compare(line.as_bytes()).unwrap();
        prop_assert_eq!(compare.key, &key);
        prop_assert_eq!(compare.target_union, Some(TargetUnion::Value(value.clone().into())));

        let line = format!("put -- {} {}", quote(&key), quote(&value));
        let request = parse_request(line.as_bytes()).unwrap();
        let Some(Request::RequestPut(put)) = request.request else {
            panic!("expected a put");
        };
        prop_assert_eq!((put.key, put.value), (key.into(), value.into()));
    }
}
