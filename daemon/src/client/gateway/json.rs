//! Messages as JSON, both ways.

use althing_api::error::Error;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tonic::Status;

use crate::rpc::status;

/// How the parser begins its complaint about a value that nests too deep.
const RECURSION_LIMIT: &str = "recursion limit exceeded";

/// Decodes the first JSON value of `body`, as etcd's gateway does; an empty body is an empty
/// message.
///
/// The generated decoder refuses null for a string, a list or a boolean, where Go takes it as
/// absent. That is rare, so only a body that failed is read again without its nulls.
pub(super) fn decode<Q: DeserializeOwned + Default>(body: &[u8]) -> Result<Q, Status> {
    if body.trim_ascii().is_empty() {
        return Ok(Q::default());
    }
    first_value(body)
        .or_else(|error: serde_json::Error| {
            let mut value: Value = first_value(body)?;
            if strip_nulls(&mut value) {
                serde_json::from_value(value)
            } else {
                Err(error)
            }
        })
        .map_err(|error| refusal(&error))
}

/// The status for a body that cannot be decoded.
fn refusal(error: &serde_json::Error) -> Status {
    let text = error.to_string();
    // Only txns nest without bound, and this one nests deeper than any that is admitted.
    if text.starts_with(RECURSION_LIMIT) {
        status::of(Error::TooManyOps)
    } else {
        Status::invalid_argument(text)
    }
}

fn first_value<T: DeserializeOwned>(body: &[u8]) -> Result<T, serde_json::Error> {
    T::deserialize(&mut serde_json::Deserializer::from_slice(body))
}

/// Drops null members; returns whether there were any. The parser bounds the depth of a value, so
/// the recursion is bounded too.
fn strip_nulls(value: &mut Value) -> bool {
    match value {
        Value::Object(members) => {
            let count = members.len();
            members.retain(|_, member| !member.is_null());
            let dropped = members.len() < count;
            members
                .values_mut()
                .map(strip_nulls)
                .fold(dropped, |some, more| some | more)
        }
        Value::Array(elements) => elements
            .iter_mut()
            .map(strip_nulls)
            .fold(false, |some, more| some | more),
        _ => false,
    }
}

/// Appends `message` as JSON. `message_bytes` is its protobuf size, from which the room is guessed:
/// base64 adds a third, and names of fields are longer than their numbers.
pub(super) fn encode<R: Serialize>(
    message: &R,
    message_bytes: usize,
    out: &mut Vec<u8>,
) -> Result<(), Status> {
    out.reserve(message_bytes * 2 + 128);
    serde_json::to_writer(out, message).map_err(|error| Status::internal(error.to_string()))
}

#[cfg(test)]
mod tests {
    use althing_api::etcdserverpb::{PutRequest, RangeRequest, TxnRequest, WatchCreateRequest};
    use proptest::prelude::*;

    use super::*;

    fn range(body: &str) -> RangeRequest {
        decode(body.as_bytes()).unwrap()
    }

    #[test]
    fn null_means_unset_at_every_depth() {
        let put: PutRequest = decode(br#"{"key":"YQ==","value":null,"lease":null}"#).unwrap();
        assert_eq!(put.key, "a");
        let txn: TxnRequest =
            decode(br#"{"compare":null,"success":[{"request_put":{"key":"YQ==","lease":null}}]}"#)
                .unwrap();
        assert_eq!(txn.success.len(), 1);
    }

    #[test]
    fn nothing_and_blanks_are_an_empty_message() {
        assert_eq!(range(""), RangeRequest::default());
        assert_eq!(range(" \r\n"), RangeRequest::default());
        assert_eq!(range("{}"), RangeRequest::default());
    }

    #[test]
    fn fields_go_by_their_proto_name_or_in_camel_case() {
        assert_eq!(range(r#"{"range_end":"Yg=="}"#).range_end, "b");
        assert_eq!(range(r#"{"rangeEnd":"Yg=="}"#).range_end, "b");
    }

    #[test]
    fn unknown_fields_and_what_follows_the_message_are_ignored() {
        assert_eq!(range(r#"{"no_such":[1,{}],"limit":3} trailing"#).limit, 3);
    }

    #[test]
    fn numbers_may_be_strings_and_enums_numbers() {
        let request = range(r#"{"limit":"7","revision":8,"sort_order":"DESCEND","sort_target":4}"#);
        assert_eq!((request.limit, request.revision), (7, 8));
        assert_eq!((request.sort_order, request.sort_target), (2, 4));
    }

    #[test]
    fn an_integer_may_be_written_as_an_integral_float() {
        for number in ["1e1", "10.0", "0.1e2", "100e-1"] {
            assert_eq!(
                range(&format!(r#"{{"limit":{number}}}"#)).limit,
                10,
                "{number}"
            );
        }
        for number in ["1.5", "1e300", "9223372036854775808"] {
            let body = format!(r#"{{"limit":{number}}}"#);
            assert!(decode::<RangeRequest>(body.as_bytes()).is_err(), "{number}");
        }
    }

    /// Verdicts of etcd 3.7 on bodies that a careless client may send.
    #[test]
    fn odd_bodies_are_judged_as_etcd_judges_them() {
        for body in [
            r#"{"key":"Zm9v","":1,"x":1,"x":2}"#,
            r#"{"key":"Zm9v"}}"#,
            r#"{"key":"\u005am9v"}"#,
            r#"{"@type":"x","key":"Zm9v"}"#,
            r#"{"KEY":5,"Key":{}}"#,
            r#"{"limit":"-1","revision":-0}"#,
            r#"{"sort_order":99}"#,
            r#"{"sort_order":"NOSUCH","sort_target":"1"}"#,
            r#"{"limit":"1.0","revision":"1e1"}"#,
            r#"{"key":"Zm9v\n"}"#,
            r#"{"key":"Zm9vZz"}"#,
            r#"{"key":"Zm9vZx=="}"#,
            r#"{"keys_only":null,"sort_order":null}"#,
        ] {
            assert!(decode::<RangeRequest>(body.as_bytes()).is_ok(), "{body}");
        }
        for body in [
            r#"{"key":"Zm9v","key":"Zm9v"}"#,
            r#"{"range_end":"Zm9w","rangeEnd":"Zm9w"}"#,
            r#"{"key":"Z m9v"}"#,
            r#"{"key":"+_8="}"#,
            r#"{"key":"Zm9vZ"}"#,
            r#"{"key":"Zm9v",}"#,
            r#"{"limit":""}"#,
            r#"{"limit":true}"#,
            r#"{"limit":"+1"}"#,
            r#"{"limit":"01"}"#,
            r#"{"limit":" 1"}"#,
            r#"{"limit":null,"limit":1}"#,
            r#"{"key":"Zm9vZz="}"#,
            r#"{"key":"Zm9vZz==="}"#,
            r#"{"serializable":"true"}"#,
            r#"{"serializable":1}"#,
        ] {
            assert!(decode::<RangeRequest>(body.as_bytes()).is_err(), "{body}");
        }
        for body in [
            r#"{"success":[{}]}"#,
            r#"{"success":[{"nosuch":{}}]}"#,
            r#"{"success":[{"request_put":null,"request_range":{"key":"YQ=="}}]}"#,
            r#"{"compare":[{"key":"YQ==","version":null,"value":"YQ==","target":3}]}"#,
        ] {
            assert!(decode::<TxnRequest>(body.as_bytes()).is_ok(), "{body}");
        }
        for body in [
            r#"{"success":[null]}"#,
            r#"{"success":{"request_put":{"key":"YQ=="}}}"#,
            r#"{"success":[{"request_put":{},"request_range":{}}]}"#,
            r#"{"compare":[{"version":"0","value":"YQ=="}]}"#,
        ] {
            assert!(decode::<TxnRequest>(body.as_bytes()).is_err(), "{body}");
        }
    }

    #[test]
    fn an_enum_value_without_a_known_name_counts_as_absent() {
        let body = br#"{"filters":["NODELETE","NOSUCH",0]}"#;
        let watch: WatchCreateRequest = decode(body).unwrap();
        assert_eq!(watch.filters, [1, 0]);
        assert_eq!(range(r#"{"sort_order":"NOSUCH"}"#).sort_order, 0);
        assert_eq!(range(r#"{"sort_order":99}"#).sort_order, 99);
    }

    #[test]
    fn bytes_are_base64_of_either_alphabet() {
        for text in ["-_8=", "+/8=", "-_8", "+/8"] {
            assert_eq!(
                range(&format!(r#"{{"key":"{text}"}}"#)).key,
                [0xfb, 0xff][..]
            );
        }
    }

    #[test]
    fn a_txn_that_nests_too_deep_is_refused_for_its_operations() {
        let nested = |depth: usize| {
            let open = r#"{"success":[{"request_txn":"#.repeat(depth - 1);
            let put = r#"{"success":[{"request_put":{"key":"YQ==","lease":null}}]}"#;
            format!("{open}{put}{}", "}]}".repeat(depth - 1))
        };
        assert!(decode::<TxnRequest>(nested(42).as_bytes()).is_ok());
        for depth in [43, 48, 127, 20_000] {
            let refusal = decode::<TxnRequest>(nested(depth).as_bytes()).unwrap_err();
            assert_eq!(refusal.message(), Error::TooManyOps.text(), "{depth}");
        }
    }

    #[test]
    fn wrong_types_and_broken_json_are_invalid_arguments() {
        for body in [
            "{",
            "[]",
            "null",
            "7",
            r#"{"key":5}"#,
            r#"{"limit":"x"}"#,
            "\u{7f}",
        ] {
            let status = decode::<RangeRequest>(body.as_bytes()).unwrap_err();
            assert_eq!(status.code(), tonic::Code::InvalidArgument, "{body}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode::<TxnRequest>(&body);
        }

        #[test]
        fn arbitrary_json_shapes_never_panic(
            body in concat!(
                r#"[\[{]{0,4}("(key|success|compare|request_put|lease)":?[\[{]?){0,3}"#,
                r#"(null|"YQ=="|-?[0-9]{1,25}|,){0,4}[\]}]{0,6}"#,
            ),
        ) {
            let _ = decode::<TxnRequest>(body.as_bytes());
        }

        #[test]
        fn what_is_encoded_decodes_to_the_same_message(
            key in prop::collection::vec(any::<u8>(), 0..20),
            limit in any::<i64>(),
            serializable in any::<bool>(),
        ) {
            let key = key.into();
            let request = RangeRequest { key, limit, serializable, ..Default::default() };
            let mut body = Vec::new();
            encode(&request, 0, &mut body).unwrap();
            prop_assert_eq!(decode::<RangeRequest>(&body).unwrap(), request);
        }
    }
}
