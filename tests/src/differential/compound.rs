//! Makes the requests that contain others, and invalid ones: transactions with their compares and
//! nesting, broken messages, malformed bodies, routes and methods that do not exist.

use althing_api::etcdserverpb as pb;
use bytes::Bytes;
use http::Method;
use pb::compare::TargetUnion;
use pb::request_op::Request;
use rand::Rng;
use rand::seq::IndexedRandom;

use super::generate::{Generator, LeftOut};
use super::operation::Operation;
use crate::grpc::path;

/// Deepest nesting of transactions.
const DEPTH_MAX: u32 = 3;
/// One more than a transaction may hold.
const OPS_TOO_MANY: usize = 129;

/// Bodies that the gateway must refuse, or must take although they look wrong.
const BODIES: [&str; 23] = [
    "",
    "{",
    "}",
    "[]",
    "\"a\"",
    "7",
    "{\"key\":}",
    "{\"key\":5}",
    "{\"key\":\"***\"}",
    "{\"key\":[]}",
    "{\"key\":null}",
    "{\"key\":\"YQ==\"",
    "{\"key\":\"YQ==\"} tail",
    "{\"key\":\"YQ==\",\"unknown\":{\"a\":[1,2]}}",
    "{\"key\":\"YQ==\",\"limit\":\"x\"}",
    "{\"key\":\"YQ==\",\"limit\":1.5}",
    "{\"key\":\"YQ==\",\"limit\":9223372036854775808}",
    "{\"key\":\"YQ==\",\"limit\":true}",
    "{\"key\":\"YQ==\",\"keys_only\":\"true\"}",
    "{\"key\":\"YQ==\",\"prev_kv\":1}",
    "{\"key\":\"YQ==\"}",
    "{\"KEY\":\"YQ==\"}",
    "{\"key\":\"YQ==\",\"range_end\":{}}",
];
/// Bodies that the gateway treats differently since 3.6.
const LOOSE_BODIES: [&str; 3] = [
    "{\"key\":\"YQ\"}",
    "{\"key\":\"YQ==\",\"sort_order\":\"SIDEWAYS\"}",
    "null",
];
const ROUTES: [&str; 4] = [
    "/v3/kv/range",
    "/v3/kv/put",
    "/v3/kv/deleterange",
    "/v3/kv/txn",
];

impl Generator {
    /// A transaction that is a request of its own.
    pub(super) fn outer_txn(&mut self) -> pb::TxnRequest {
        let open_deletes = self.random.random();
        self.left_out = if open_deletes {
            LeftOut::KeepingPuts
        } else {
            LeftOut::OpenDeletes
        };
        let request = self.txn(0);
        self.left_out = LeftOut::Nothing;
        request
    }

    /// A transaction; `depth` counts the transactions around it.
    fn txn(&mut self, depth: u32) -> pb::TxnRequest {
        let compares = self.random.random_range(0..=2);
        let mut request = pb::TxnRequest {
            compare: (0..compares).map(|_| self.compare()).collect(),
            success: self.ops(depth),
            failure: self.ops(depth),
        };
        if self.one_in(60) {
            // Small enough together that the limit of operations comes before that of a message.
            let op = pb::RequestOp {
                request: Some(Request::RequestRange(self.range(false))),
            };
            request.success = vec![op; OPS_TOO_MANY];
        } else if self.one_in(60) {
            let compare = self.compare();
            request.compare = vec![compare; OPS_TOO_MANY];
        } else if self.one_in(20) {
            // A transaction that only reads takes another way through a member.
            request.success = self.reads();
            request.failure = self.reads();
        }
        request
    }

    fn ops(&mut self, depth: u32) -> Vec<pb::RequestOp> {
        let count = self.random.random_range(0..=3);
        (0..count).map(|_| self.op(depth)).collect()
    }

    fn reads(&mut self) -> Vec<pb::RequestOp> {
        let count = self.random.random_range(0..=3);
        let read = |generator: &mut Generator| pb::RequestOp {
            request: Some(Request::RequestRange(generator.range(false))),
        };
        (0..count).map(|_| read(self)).collect()
    }

    fn op(&mut self, depth: u32) -> pb::RequestOp {
        let request = match self.random.random_range(0..100) {
            0 if self.one_in(2) => None,
            0..46 => Some(Request::RequestPut(self.put())),
            46..72 => Some(Request::RequestRange(self.range(false))),
            72..86 => Some(Request::RequestDeleteRange(self.delete_range())),
            _ if depth < DEPTH_MAX => Some(Request::RequestTxn(self.txn(depth + 1))),
            _ => Some(Request::RequestPut(self.put())),
        };
        pb::RequestOp { request }
    }

    fn compare(&mut self) -> pb::Compare {
        let target = self.random.random_range(0..=4);
        // Sometimes the given value is not of the target's kind, or is missing.
        let given = if self.one_in(25) {
            self.random.random_range(0..=5)
        } else {
            target
        };
        let small = self.random.random_range(0..5);
        let target_union = match given {
            0 => Some(TargetUnion::Version(small)),
            1 => Some(TargetUnion::CreateRevision(self.revision_or_zero())),
            2 => Some(TargetUnion::ModRevision(self.revision_or_zero())),
            3 => Some(TargetUnion::Value(self.small_value())),
            4 if self.one_in(2) => Some(TargetUnion::Lease(self.known_lease())),
            4 => Some(TargetUnion::Lease(0)),
            _ => None,
        };
        let key = self.key();
        let ranged = self.one_in(4);
        pb::Compare {
            result: if self.one_in(60) {
                9
            } else {
                self.random.random_range(0..=3)
            },
            target: if self.one_in(60) { 9 } else { target },
            range_end: if ranged {
                self.range_end(&key)
            } else {
                Bytes::new()
            },
            key,
            target_union,
        }
    }

    fn revision_or_zero(&mut self) -> i64 {
        if self.one_in(2) {
            0
        } else {
            self.any_revision()
        }
    }

    fn small_value(&mut self) -> Bytes {
        let values: [&'static [u8]; 4] = [b"", b"1", b"22", b"the same value"];
        Bytes::from_static(values.choose(&mut self.random).expect("not empty"))
    }

    /// Bytes that are not a message, or a method that does not exist.
    pub(super) fn broken(&mut self) -> Operation {
        let methods = [
            path::RANGE,
            path::PUT,
            path::TXN,
            path::DELETE_RANGE,
            path::COMPACT,
        ];
        let nowhere = [
            "/etcdserverpb.KV/Nothing",
            "/etcdserverpb.Nothing/Range",
            "/x/y",
        ];
        let broken = [
            &b"\xff\xff"[..],
            b"\x0a\x05ab",
            b"\x0a",
            b"\x0c",
            b"\x00\x00",
            b"\x12\x80",
        ];
        if self.one_in(3) {
            Operation::Broken {
                path: nowhere.choose(&mut self.random).expect("not empty"),
                bytes: Bytes::new(),
            }
        } else {
            Operation::Broken {
                path: methods.choose(&mut self.random).expect("not empty"),
                bytes: Bytes::from_static(broken.choose(&mut self.random).expect("not empty")),
            }
        }
    }

    /// A body that is not a request, a wrong method, or a route that does not exist.
    pub(super) fn malformed(&mut self) -> Operation {
        let loose = self.abilities.loose_json && self.one_in(10);
        let bodies = if loose {
            &LOOSE_BODIES[..]
        } else {
            &BODIES[..]
        };
        let body = (*bodies.choose(&mut self.random).expect("not empty")).to_owned();
        let (method, path) = match self.random.random_range(0..10) {
            0 => (Method::POST, "/v3/kv/nothing"),
            1 => (Method::GET, "/v3/kv/range"),
            2 => (Method::PUT, "/v3/kv/put"),
            3 => (Method::POST, "/v3/nothing/range"),
            _ => (
                Method::POST,
                *ROUTES.choose(&mut self.random).expect("not empty"),
            ),
        };
        Operation::Text { method, path, body }
    }
}
