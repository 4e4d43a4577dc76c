//! Messages as JSON, both ways.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tonic::Status;

/// Decodes the first JSON value of `body`, as etcd's gateway does; nothing is an empty message.
///
/// The generated decoder refuses a null member where Go takes it as unset. Nulls are rare: only
/// when decoding failed, and there are some, it is tried again without them.
pub(super) fn decode<Q: DeserializeOwned + Default>(body: &[u8]) -> Result<Q, Status> {
    if body.trim_ascii().is_empty() {
        return Ok(Q::default());
    }
    let mut decoder = serde_json::Deserializer::from_slice(body);
    Q::deserialize(&mut decoder)
        .or_else(|error| {
            without_nulls(body)
                .ok_or(error)
                .and_then(serde_json::from_value)
        })
        .map_err(|error| Status::invalid_argument(error.to_string()))
}

/// `body` without its null members, if it is an object that has some.
fn without_nulls(body: &[u8]) -> Option<Value> {
    if !body.windows(4).any(|window| window == b"null") {
        return None;
    }
    let mut decoder = serde_json::Deserializer::from_slice(body);
    let mut value = <Value as serde::Deserialize>::deserialize(&mut decoder).ok()?;
    strip_nulls(&mut value);
    Some(value)
}

/// The decoder bounds the depth, so recursion is bounded too.
fn strip_nulls(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|_, member| !member.is_null());
            members.values_mut().for_each(strip_nulls);
        }
        Value::Array(elements) => elements.iter_mut().for_each(strip_nulls),
        _ => {}
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
    use althing_api::etcdserverpb::{PutRequest, RangeRequest, TxnRequest};
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
    fn bytes_are_base64_of_either_alphabet() {
        for text in ["-_8=", "+/8=", "-_8", "+/8"] {
            assert_eq!(
                range(&format!(r#"{{"key":"{text}"}}"#)).key,
                [0xfb, 0xff][..]
            );
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
            body in r#"[\[{]{0,4}("(key|success|compare|request_put|lease)":?[\[{]?){0,3}(null|"YQ=="|-?[0-9]{1,25}|,){0,4}[\]}]{0,6}"#,
        ) {
            let _ = decode::<TxnRequest>(body.as_bytes());
        }

        #[test]
        fn what_is_encoded_decodes_to_the_same_message(
            key in prop::collection::vec(any::<u8>(), 0..20),
            limit in any::<i64>(),
            serializable in any::<bool>(),
        ) {
            let request = RangeRequest { key: key.into(), limit, serializable, ..Default::default() };
            let mut body = Vec::new();
            encode(&request, 0, &mut body).unwrap();
            prop_assert_eq!(decode::<RangeRequest>(&body).unwrap(), request);
        }
    }
}
