//! A record: the bytes of one `mvccpb.KeyValue`, encoded once when written and sliced when read.

use althing_api::mvccpb::KeyValue;
use bytes::Bytes;
use prost::Message;

/// Encodes a record. A tombstone's record holds only the key, as in etcd.
pub(super) fn encode(kv: &KeyValue) -> Bytes {
    kv.encode_to_vec().into()
}

/// Reads a record; key and value share its buffer.
pub(super) fn decode(record: &Bytes) -> Result<KeyValue, prost::DecodeError> {
    KeyValue::decode(record.clone())
}
