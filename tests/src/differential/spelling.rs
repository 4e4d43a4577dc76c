//! Requests as JSON, in one of the many spellings that the gateway takes: field names as in the
//! protobuf or in camel case, numbers plain or quoted, enums by name or by number, default values
//! written out or left out, null for unset.

use althing_api::etcdserverpb as pb;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use pb::compare::TargetUnion;
use pb::request_op::Request;
use rand::Rng;
use rand::rngs::StdRng;
use serde::Serialize;
use serde_json::{Map, Value, json};

const SORT_ORDERS: &[&str] = &["NONE", "ASCEND", "DESCEND"];
const SORT_TARGETS: &[&str] = &["KEY", "VERSION", "CREATE", "MOD", "VALUE"];
const COMPARE_RESULTS: &[&str] = &["EQUAL", "GREATER", "LESS", "NOT_EQUAL"];
const COMPARE_TARGETS: &[&str] = &["VERSION", "CREATE", "MOD", "VALUE", "LEASE"];

/// Integers of 64 bits in the messages that are spelled as a whole.
const INTEGERS: [&str; 7] = [
    "ID",
    "TTL",
    "lease",
    "rev",
    "start_revision",
    "watch_id",
    "revision",
];

/// Chooses spellings; `loose_base64` adds those that etcd takes since 3.6 only.
#[derive(Debug)]
pub struct Spelling<'r> {
    /// The source of the choices.
    pub random: &'r mut StdRng,
    /// Whether URL-safe and unpadded base64 may be used.
    pub loose_base64: bool,
}

impl Spelling<'_> {
    /// A Put.
    pub fn put(&mut self, request: &pb::PutRequest) -> Value {
        let mut body = Map::new();
        self.bytes(&mut body, "key", &request.key);
        self.bytes(&mut body, "value", &request.value);
        self.number(&mut body, "lease", request.lease);
        self.flag(&mut body, "prev_kv", request.prev_kv);
        self.flag(&mut body, "ignore_value", request.ignore_value);
        self.flag(&mut body, "ignore_lease", request.ignore_lease);
        Value::Object(body)
    }

    /// A Range.
    pub fn range(&mut self, request: &pb::RangeRequest) -> Value {
        let mut body = Map::new();
        self.bytes(&mut body, "key", &request.key);
        self.bytes(&mut body, "range_end", &request.range_end);
        self.number(&mut body, "limit", request.limit);
        self.number(&mut body, "revision", request.revision);
        self.named(&mut body, "sort_order", SORT_ORDERS, request.sort_order);
        self.named(&mut body, "sort_target", SORT_TARGETS, request.sort_target);
        self.flag(&mut body, "serializable", request.serializable);
        self.flag(&mut body, "keys_only", request.keys_only);
        self.flag(&mut body, "count_only", request.count_only);
        self.number(&mut body, "min_mod_revision", request.min_mod_revision);
        self.number(&mut body, "max_mod_revision", request.max_mod_revision);
        self.number(
            &mut body,
            "min_create_revision",
            request.min_create_revision,
        );
        self.number(
            &mut body,
            "max_create_revision",
            request.max_create_revision,
        );
        Value::Object(body)
    }

    /// A DeleteRange.
    pub fn delete_range(&mut self, request: &pb::DeleteRangeRequest) -> Value {
        let mut body = Map::new();
        self.bytes(&mut body, "key", &request.key);
        self.bytes(&mut body, "range_end", &request.range_end);
        self.flag(&mut body, "prev_kv", request.prev_kv);
        Value::Object(body)
    }

    /// A Txn.
    pub fn txn(&mut self, request: &pb::TxnRequest) -> Value {
        let mut body = Map::new();
        let compares: Vec<_> = request
            .compare
            .iter()
            .map(|one| self.compare(one))
            .collect();
        let success: Vec<_> = request.success.iter().map(|one| self.op(one)).collect();
        let failure: Vec<_> = request.failure.iter().map(|one| self.op(one)).collect();
        for (name, list) in [
            ("compare", compares),
            ("success", success),
            ("failure", failure),
        ] {
            if !list.is_empty() || self.one_in(8) {
                body.insert(name.into(), Value::Array(list));
            }
        }
        Value::Object(body)
    }

    /// A Compact.
    pub fn compaction(&mut self, request: &pb::CompactionRequest) -> Value {
        let mut body = Map::new();
        self.number(&mut body, "revision", request.revision);
        self.flag(&mut body, "physical", request.physical);
        Value::Object(body)
    }

    /// A HashKV.
    pub fn hash_kv(&mut self, request: &pb::HashKvRequest) -> Value {
        let mut body = Map::new();
        self.number(&mut body, "revision", request.revision);
        Value::Object(body)
    }

    /// A MemberList.
    pub fn member_list(&mut self, request: &pb::MemberListRequest) -> Value {
        let mut body = Map::new();
        self.flag(&mut body, "linearizable", request.linearizable);
        Value::Object(body)
    }

    /// Any message in which only names and integers have several spellings.
    pub fn message(&mut self, message: &impl Serialize) -> Value {
        let plain = serde_json::to_value(message).expect("a message has a JSON form");
        self.respell(plain)
    }

    /// The messages of a stream, with or without white space between them.
    pub fn lines(&mut self, messages: &[impl Serialize]) -> String {
        let spelled = messages
            .iter()
            .map(|message| self.message(message).to_string());
        let spelled: Vec<_> = spelled.collect();
        spelled.join(if self.one_in(2) { "\n" } else { "" })
    }

    fn respell(&mut self, value: Value) -> Value {
        match value {
            Value::Array(items) => items.into_iter().map(|item| self.respell(item)).collect(),
            Value::Object(fields) => {
                let respelled = fields.into_iter().map(|(name, value)| {
                    let number = value.as_str().and_then(|text| text.parse().ok());
                    let value = match number {
                        Some(number) if INTEGERS.contains(&name.as_str()) => self.integer(number),
                        _ => self.respell(value),
                    };
                    (self.name(&name), value)
                });
                Value::Object(respelled.collect())
            }
            other => other,
        }
    }

    fn compare(&mut self, compare: &pb::Compare) -> Value {
        let mut body = Map::new();
        self.named(&mut body, "result", COMPARE_RESULTS, compare.result);
        self.named(&mut body, "target", COMPARE_TARGETS, compare.target);
        self.bytes(&mut body, "key", &compare.key);
        self.bytes(&mut body, "range_end", &compare.range_end);
        // A member of a oneof is written out even at its default, since that is what sets it.
        let (name, value) = match &compare.target_union {
            None => return Value::Object(body),
            Some(TargetUnion::Version(number)) => ("version", self.integer(*number)),
            Some(TargetUnion::CreateRevision(number)) => ("create_revision", self.integer(*number)),
            Some(TargetUnion::ModRevision(number)) => ("mod_revision", self.integer(*number)),
            Some(TargetUnion::Lease(number)) => ("lease", self.integer(*number)),
            Some(TargetUnion::Value(bytes)) => ("value", self.base64(bytes)),
        };
        body.insert(self.name(name), value);
        Value::Object(body)
    }

    fn op(&mut self, op: &pb::RequestOp) -> Value {
        let (name, value) = match &op.request {
            None => return json!({}),
            Some(Request::RequestRange(request)) => ("request_range", self.range(request)),
            Some(Request::RequestPut(request)) => ("request_put", self.put(request)),
            Some(Request::RequestDeleteRange(request)) => {
                ("request_delete_range", self.delete_range(request))
            }
            Some(Request::RequestTxn(request)) => ("request_txn", self.txn(request)),
        };
        json!({ self.name(name): value })
    }

    fn bytes(&mut self, body: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
        if !bytes.is_empty() {
            let value = self.base64(bytes);
            body.insert(self.name(name), value);
        } else {
            self.perhaps_default(body, name, json!(""));
        }
    }

    fn number(&mut self, body: &mut Map<String, Value>, name: &str, number: i64) {
        if number != 0 {
            let value = self.integer(number);
            body.insert(self.name(name), value);
        } else {
            self.perhaps_default(body, name, json!("0"));
        }
    }

    fn flag(&mut self, body: &mut Map<String, Value>, name: &str, flag: bool) {
        if flag {
            body.insert(self.name(name), json!(true));
        } else {
            self.perhaps_default(body, name, json!(false));
        }
    }

    fn named(&mut self, body: &mut Map<String, Value>, name: &str, names: &[&str], number: i32) {
        let known = usize::try_from(number)
            .ok()
            .and_then(|position| names.get(position));
        match known {
            Some(text) if number != 0 && self.one_in(2) => {
                body.insert(self.name(name), json!(text));
            }
            Some(text) if number == 0 => self.perhaps_default(body, name, json!(text)),
            _ => {
                body.insert(self.name(name), json!(number));
            }
        }
    }

    fn perhaps_default(&mut self, body: &mut Map<String, Value>, name: &str, value: Value) {
        if self.one_in(12) {
            let value = if self.one_in(4) { Value::Null } else { value };
            body.insert(self.name(name), value);
        }
    }

    fn integer(&mut self, number: i64) -> Value {
        if self.one_in(2) {
            json!(number.to_string())
        } else {
            json!(number)
        }
    }

    fn base64(&mut self, bytes: &[u8]) -> Value {
        if self.loose_base64 && self.one_in(4) {
            json!(URL_SAFE_NO_PAD.encode(bytes))
        } else {
            json!(STANDARD.encode(bytes))
        }
    }

    /// The name as in the protobuf or in camel case.
    fn name(&mut self, name: &str) -> String {
        if self.one_in(3) {
            camel_case(name)
        } else {
            name.to_owned()
        }
    }

    fn one_in(&mut self, n: u32) -> bool {
        self.random.random_ratio(1, n)
    }
}

fn camel_case(name: &str) -> String {
    let mut words = name.split('_');
    let mut camel = words.next().unwrap_or_default().to_owned();
    for word in words {
        let (first, rest) = word.split_at(1);
        camel.push_str(&first.to_uppercase());
        camel.push_str(rest);
    }
    camel
}
