//! `--write-out=json`: what Go's `encoding/json` makes of etcd's messages. Numbers stay numbers,
//! bytes are base64, empty fields are left out, enums are numbers, and `<`, `>`, `&` are escaped.

use althing_api::etcdserverpb::response_op::Response;
use althing_api::etcdserverpb::{
    AlarmMember, AlarmResponse, DeleteRangeResponse, DowngradeResponse, LeaseGrantResponse,
    LeaseKeepAliveResponse, LeaseLeasesResponse, LeaseStatus, Member, MemberAddResponse,
    MemberListResponse, MemberPromoteResponse, MemberRemoveResponse, MemberUpdateResponse,
    MoveLeaderResponse, PutResponse, RangeResponse, ResponseHeader, ResponseOp, TxnResponse,
    WatchResponse,
};
use althing_api::mvccpb::{Event, KeyValue};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::print::{HashKv, Health, Revoked, Status, TimeToLive};

/// JSON text under construction.
pub type Raw = Vec<u8>;

/// What can be written in this format.
pub trait Json {
    /// Appends it to `text`.
    fn json(&self, text: &mut Raw);
}

impl<T: Json> Json for [T] {
    fn json(&self, text: &mut Raw) {
        text.push(b'[');
        for (position, item) in self.iter().enumerate() {
            if position > 0 {
                text.push(b',');
            }
            item.json(text);
        }
        text.push(b']');
    }
}

impl Json for String {
    fn json(&self, text: &mut Raw) {
        text.push(b'"');
        for c in self.chars() {
            match c {
                '"' => text.extend_from_slice(b"\\\""),
                '\\' => text.extend_from_slice(b"\\\\"),
                '\n' => text.extend_from_slice(b"\\n"),
                '\r' => text.extend_from_slice(b"\\r"),
                '\t' => text.extend_from_slice(b"\\t"),
                ..' ' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                    text.extend_from_slice(format!("\\u{:04x}", u32::from(c)).as_bytes());
                }
                _ => text.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        text.push(b'"');
    }
}

/// An object under construction. The methods that start with `some_` leave out what is empty.
struct Object<'a> {
    text: &'a mut Raw,
    empty: bool,
}

impl Object<'_> {
    fn write(text: &mut Raw, fill: impl FnOnce(&mut Object<'_>)) {
        text.push(b'{');
        let mut object = Object { text, empty: true };
        fill(&mut object);
        object.text.push(b'}');
    }

    fn name(&mut self, name: &str) -> &mut Raw {
        if !self.empty {
            self.text.push(b',');
        }
        self.empty = false;
        self.text
            .extend_from_slice(format!("\"{name}\":").as_bytes());
        self.text
    }

    fn raw(&mut self, name: &str, value: &str) {
        self.name(name).extend_from_slice(value.as_bytes());
    }

    fn item<T: Json + ?Sized>(&mut self, name: &str, value: &T) {
        value.json(self.name(name));
    }

    /// The fields of a header as fields of this object.
    fn header(&mut self, header: Option<&ResponseHeader>) {
        let header = header.copied().unwrap_or_default();
        self.some_number("cluster_id", header.cluster_id);
        self.some_number("member_id", header.member_id);
        self.some_number("revision", header.revision);
        self.some_number("raft_term", header.raft_term);
    }

    fn flag(&mut self, name: &str, value: bool) {
        self.raw(name, if value { "true" } else { "false" });
    }

    fn number(&mut self, name: &str, value: i64) {
        self.raw(name, &value.to_string());
    }

    fn some_item<T: Json>(&mut self, name: &str, value: Option<&T>) {
        value.into_iter().for_each(|value| self.item(name, value));
    }

    fn some_list<T: Json>(&mut self, name: &str, values: &[T]) {
        if !values.is_empty() {
            self.item(name, values);
        }
    }

    fn some_number<T: Default + PartialEq + ToString>(&mut self, name: &str, value: T) {
        if value != T::default() {
            self.raw(name, &value.to_string());
        }
    }

    fn some_flag(&mut self, name: &str, value: bool) {
        if value {
            self.raw(name, "true");
        }
    }

    fn some_text(&mut self, name: &str, value: &String) {
        if !value.is_empty() {
            self.item(name, value);
        }
    }

    fn some_bytes(&mut self, name: &str, value: &[u8]) {
        if !value.is_empty() {
            self.raw(name, &format!("\"{}\"", STANDARD.encode(value)));
        }
    }
}

impl Json for ResponseHeader {
    fn json(&self, text: &mut Raw) {
        Object::write(text, |object| object.header(Some(self)));
    }
}

impl Json for KeyValue {
    fn json(&self, text: &mut Raw) {
        Object::write(text, |object| {
            object.some_bytes("key", &self.key);
            object.some_number("create_revision", self.create_revision);
            object.some_number("mod_revision", self.mod_revision);
            object.some_number("version", self.version);
            object.some_bytes("value", &self.value);
            object.some_number("lease", self.lease);
        });
    }
}

impl Json for PutResponse {
    fn json(&self, text: &mut Raw) {
        Object::write(text, |object| {
            object.some_item("header", self.header.as_ref());
            object.some_item("prev_kv", self.prev_kv.as_ref());
        });
    }
}

impl Json for RangeResponse {
    fn json(&self, text: &mut Raw) {
        Object::write(text, |object| {
            object.some_item("header", self.header.as_ref());
            object.some_list("kvs", &self.kvs);
            object.some_flag("more", self.more);
            object.some_number("count", self.count);
        });
    }
}

impl Json for DeleteRangeResponse {
    fn json(&self, text: &mut Raw) {
        Object::write(text, |object| {
            object.some_item("header", self.header.as_ref());
            object.some_number("deleted", self.deleted);
            object.some_list("prev_kvs", &self.prev_kvs);
        });
    }
}

impl Json for TxnResponse {
    fn json(&self, text: &mut Raw) {
        Object::write(text, |object| {
            object.some_item("header", self.header.as_ref());
            object.some_flag("succeeded", self.succeeded);
            object.some_list("responses", &self.responses);
        });
    }
}

impl Json for ResponseOp {
    fn json(&self, text: &mut Raw) {
        Object::write(text, |object| match &self.response {
            Some(response) => object.item("Response", response),
            None => object.raw("Response", "null"),
        });
    }
}

impl Json for Response {
    fn json(&self, text: &mut Raw) {
        Object::write(text, |object| match self {
            Response::ResponseRange(answer) => object.item("response_range", answer),
            Response::ResponsePut(answer) => object.item("response_put", answer),
            Response::ResponseDeleteRange(answer) => object.item("response_delete_range", answer),
            Response::ResponseTxn(answer) => object.item("response_txn", answer),
        });
    }
}

impl Json for Event {
    fn json(&self, text: &mut Raw) {
        Object::write(text, |object| {
            object.some_number("type", self.r#type);
            object.some_item("kv", self.kv.as_ref());
            object.some_item("prev_kv", self.prev_kv.as_ref());
        });
    }
}

impl Json for WatchResponse {
    fn json(&self, text: &mut Raw) {
        Object::write(text, |object| {
            object.item("Header", &self.header.unwrap_or_default());
            // A watch that never came to be has neither header nor events.
            match &self.header {
                Some(_) => object.item("Events", self.events.as_slice()),
                None => object.raw("Events", "null"),
            }
            object.number("CompactRevision", self.compact_revision);
            object.flag("Canceled", self.canceled);
            object.flag("Created", self.created);
        });
    }
}

impl Json for LeaseGrantResponse {
    fn json(&self, text: &mut Raw) {
        Object::write(text, |object| {
            object.header(self.header.as_ref());
            object.number("ID", self.id);
            object.number("TTL", self.ttl);
            object.item("Error", &self.error);
        });
    }
}

impl Json for Revoked {
    fn json(&self, text: &mut Raw) {
        Object::write(text, |object| {
            object.some_item("header", self.answer.header.as_ref());
        });
    }
}

impl Json for LeaseKeepAliveResponse {
    fn json(&self, text: &mut Raw) {
        Object::write(text, |object| {
            object.header(self.header.as_ref());
            object.number("ID", self.id);
            object.number("TTL", self.ttl);
        });
    }
}

impl Json for TimeToLive {
    fn json(&self, text: &mut Raw) {
        let answer = &self.answer;
        let quoted = |key: &bytes::Bytes| format!("\"{}\"", STANDARD.encode(key));
        let keys: Vec<String> = answer.keys.iter().map(quoted).collect();
        Object::write(text, |object| {
            object.header(answer.header.as_ref());
            object.number("id", answer.id);
            object.number("ttl", answer.ttl);
            object.number("granted-ttl", answer.granted_ttl);
            if keys.is_empty() {
                object.raw("keys", "null")
            } else {
                object.raw("keys", &format!("[{}]", keys.join(",")))
            }
        });
    }
}

impl Json for LeaseStatus {
    fn json(&self, text: &mut Raw) {
        Object::write(text, |object| object.number("id", self.id));
    }
}

impl Json for LeaseLeasesResponse {
    fn json(&self, text: &mut Raw) {
        Object::write(text, |object| {
            object.header(self.header.as_ref());
            object.item("leases", self.leases.as_slice());
        });
    }
}

impl Json for MemberListResponse {
    fn json(&self, text: &mut Raw) {
        Object::write(text, |object| {
            object.some_item("header", self.header.as_ref());
            object.some_list("members", &self.members);
        });
    }
}

impl Json for MemberAddResponse {
    fn json(&self, text: &mut Raw) {
        Object::write(text, |object| {
            object.some_item("header", self.header.as_ref());
            object.some_item("member", self.member.as_ref());
            object.some_list("members", &self.members);
        });
    }
}

fn changed(text: &mut Raw, header: Option<&ResponseHeader>, members: &[Member]) {
    Object::write(text, |object| {
        object.some_item("header", header);
        object.some_list("members", members);
    });
}

impl Json for DowngradeResponse {
    fn json(&self, text: &mut Raw) {
        Object::write(text, |object| {
            object.some_item("header", self.header.as_ref());
            object.some_text("version", &self.version);
        });
    }
}

impl Json for MemberRemoveResponse {
    fn json(&self, text: &mut Raw) {
        changed(text, self.header.as_ref(), &self.members);
    }
}

impl Json for MemberUpdateResponse {
    fn json(&self, text: &mut Raw) {
        changed(text, self.header.as_ref(), &self.members);
    }
}

impl Json for MemberPromoteResponse {
    fn json(&self, text: &mut Raw) {
        changed(text, self.header.as_ref(), &self.members);
    }
}

impl Json for MoveLeaderResponse {
    fn json(&self, text: &mut Raw) {
        Object::write(text, |object| {
            object.some_item("header", self.header.as_ref());
        });
    }
}

impl Json for Member {
    fn json(&self, text: &mut Raw) {
        Object::write(text, |object| {
            object.some_number("ID", self.id);
            object.some_text("name", &self.name);
            object.some_list("peerURLs", &self.peer_ur_ls);
            object.some_list("clientURLs", &self.client_ur_ls);
            object.some_flag("isLearner", self.is_learner);
        });
    }
}

impl Json for AlarmResponse {
    fn json(&self, text: &mut Raw) {
        Object::write(text, |object| {
            object.some_item("header", self.header.as_ref());
            object.some_list("alarms", &self.alarms);
        });
    }
}

impl Json for AlarmMember {
    fn json(&self, text: &mut Raw) {
        Object::write(text, |object| {
            object.some_number("memberID", self.member_id);
            object.some_number("alarm", self.alarm);
        });
    }
}

impl Json for Health {
    fn json(&self, text: &mut Raw) {
        Object::write(text, |object| {
            object.item("endpoint", &self.endpoint);
            object.flag("health", self.healthy);
            object.item("took", &self.took);
            object.some_text("error", &self.error);
        });
    }
}

impl Json for Status {
    fn json(&self, text: &mut Raw) {
        Object::write(text, |object| {
            object.item("Endpoint", &self.endpoint);
            let status = &self.answer;
            // The fields that etcd 3.6 added are left out: this is etcdctl 3.5's text.
            Object::write(object.name("Status"), |object| {
                object.some_item("header", status.header.as_ref());
                object.some_text("version", &status.version);
                object.some_number("dbSize", status.db_size);
                object.some_number("leader", status.leader);
                object.some_number("raftIndex", status.raft_index);
                object.some_number("raftTerm", status.raft_term);
                object.some_number("raftAppliedIndex", status.raft_applied_index);
                object.some_list("errors", &status.errors);
                object.some_number("dbSizeInUse", status.db_size_in_use);
                object.some_flag("isLearner", status.is_learner);
            });
        });
    }
}

impl Json for HashKv {
    fn json(&self, text: &mut Raw) {
        Object::write(text, |object| {
            object.item("Endpoint", &self.endpoint);
            let hash = &self.answer;
            Object::write(object.name("HashKV"), |object| {
                object.some_item("header", hash.header.as_ref());
                object.some_number("hash", hash.hash);
                object.some_number("compact_revision", hash.compact_revision);
            });
        });
    }
}

/// The list of members with `--hex`: ids are strings of hexadecimal digits, the term is a bare
/// hexadecimal number, learners are not marked, and the last name is spelled `clientURLS`, all as
/// etcdctl 3.5 has it.
pub fn members_in_hex(answer: &MemberListResponse) -> String {
    let header = answer.header.unwrap_or_default();
    let urls = |urls: &Vec<String>| {
        let mut text = Raw::new();
        urls.as_slice().json(&mut text);
        if urls.is_empty() {
            "null".to_owned()
        } else {
            String::from_utf8_lossy(&text).into_owned()
        }
    };
    let member = |member: &Member| {
        let Member { id, name, .. } = member;
        let (peers, clients) = (urls(&member.peer_ur_ls), urls(&member.client_ur_ls));
        format!(r#"{{"ID":"{id:x}","name":"{name}","peerURLs":{peers},"clientURLS":{clients}}}"#)
    };
    let members: Vec<String> = answer.members.iter().map(member).collect();
    let list = if members.is_empty() {
        String::new()
    } else {
        format!(r#","members":[{}]"#, members.join(","))
    };
    let (cluster, own, term) = (header.cluster_id, header.member_id, header.raft_term);
    let ids = format!(r#""cluster_id":"{cluster:x}","member_id":"{own:x}""#);
    format!(r#"{{"header":{{{ids},"raft_term":{term:x}}}{list}}}"#)
}
