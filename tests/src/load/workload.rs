//! Requests as they are sent, for both protocols, made before the clock starts.

use althing_api::etcdserverpb as pb;
use althing_api::range::prefix_end;
use bytes::Bytes;
use prost::Message;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::frames::{self, Framed};
use super::http1;
use crate::grpc::path;

/// Size of every value, in bytes.
pub const VALUE_BYTES: usize = 256;
/// Bytes of values in one transaction that loads keys.
const LOAD_BYTES: usize = 100 * VALUE_BYTES;
/// The number of keys that the reads of a bench choose from.
pub const KEYS: u64 = 100_000;
/// The number of keys in a long range and in a page.
pub const RANGE_KEYS: u64 = 1_000;
/// The number of keys that the puts of a bench choose from; few, as only the history grows with
/// puts.
const PUT_KEYS: u64 = 10_000;
/// The number of different requests in a workload; a client takes one at random each time.
const VARIANTS: usize = 2_048;

/// What the clients of a measurement do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Put a key.
    Put,
    /// Read one key.
    Get {
        /// Whether to read the member's own state, without asking a quorum.
        serializable: bool,
    },
    /// Read 1,000 neighbouring keys.
    Range,
    /// Read the first 1,000 of all keys, with the count of all.
    Page,
    /// Four reads of one key for each put.
    Mixed,
}

/// Requests, ready to send, of one kind.
#[derive(Debug)]
pub struct Workload {
    framed: Vec<Framed>,
    text: Vec<Bytes>,
}

impl Workload {
    /// Encodes the requests of a kind.
    pub fn new(kind: Kind) -> Workload {
        let mut random = StdRng::seed_from_u64(1);
        let mut workload = Workload {
            framed: Vec::new(),
            text: Vec::new(),
        };
        for variant in 0..VARIANTS {
            match kind {
                Kind::Put => workload.put(&mut random),
                Kind::Mixed if variant % 5 == 0 => workload.put(&mut random),
                _ => workload.range(&request(kind, &mut random)),
            }
        }
        workload
    }

    /// One of the requests for gRPC, at random.
    pub fn framed(&self, random: &mut impl Rng) -> &Framed {
        &self.framed[random.random_range(0..self.framed.len())]
    }

    /// One of the requests for the gateway, at random.
    pub fn text(&self, random: &mut impl Rng) -> &Bytes {
        &self.text[random.random_range(0..self.text.len())]
    }

    fn put(&mut self, random: &mut StdRng) {
        let key = format!("put-{:08}", random.random_range(0..PUT_KEYS));
        let request = put(key, VALUE_BYTES, random);
        self.framed
            .push(frames::frame(path::PUT, &request.encode_to_vec()));
        self.text
            .push(http1::request("/v3/kv/put", &json(&request)));
    }

    fn range(&mut self, request: &pb::RangeRequest) {
        self.framed
            .push(frames::frame(path::RANGE, &request.encode_to_vec()));
        self.text
            .push(http1::request("/v3/kv/range", &json(request)));
    }
}

fn request(kind: Kind, random: &mut StdRng) -> pb::RangeRequest {
    let (key, range_end) = match kind {
        Kind::Range => {
            let first = random.random_range(0..KEYS - RANGE_KEYS);
            (key_name(first), Bytes::from(key_name(first + RANGE_KEYS)))
        }
        Kind::Page => (key_name(0), prefix_end(b"key-")),
        _ => (key_name(random.random_range(0..KEYS)), Bytes::new()),
    };
    pb::RangeRequest {
        key: key.into(),
        range_end,
        limit: if kind == Kind::Page {
            RANGE_KEYS as i64
        } else {
            0
        },
        serializable: kind == Kind::Get { serializable: true },
        ..pb::RangeRequest::default()
    }
}

/// Transactions with as many puts as `LOAD_BYTES` allows, which make `keys` keys.
pub fn loading(keys: u64, value_bytes: usize) -> impl Iterator<Item = pb::TxnRequest> {
    let mut random = StdRng::seed_from_u64(2);
    let puts = LOAD_BYTES / value_bytes;
    (0..keys).step_by(puts).map(move |first| pb::TxnRequest {
        success: (first..(first + puts as u64).min(keys))
            .map(|number| pb::RequestOp {
                request: Some(pb::request_op::Request::RequestPut(put(
                    key_name(number),
                    value_bytes,
                    &mut random,
                ))),
            })
            .collect(),
        ..pb::TxnRequest::default()
    })
}

fn key_name(number: u64) -> String {
    format!("key-{number:08}")
}

/// A put of a value that does not compress.
fn put(key: String, value_bytes: usize, random: &mut StdRng) -> pb::PutRequest {
    let mut value = vec![0; value_bytes];
    random.fill(&mut value[..]);
    pb::PutRequest {
        key: key.into(),
        value: value.into(),
        ..pb::PutRequest::default()
    }
}

fn json(request: &impl serde::Serialize) -> String {
    serde_json::to_string(request).expect("a request has a JSON form")
}
