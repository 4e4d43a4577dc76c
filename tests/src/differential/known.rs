//! The differences between releases of etcd's contract that the comparison explains, each with its
//! reason and matched as narrowly as possible. Althing has the contract of 3.7, so against an older
//! etcd it is the newer side. Any difference not listed here fails the run.

use althing_api::error::Error;
use althing_api::etcdserverpb as pb;
use althing_api::etcdserverpb::range_request::{SortOrder, SortTarget};
use althing_api::etcdserverpb::request_op::Request;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::normal::message;
use super::operation::{Operation, Step, Transport};
use super::play::Release;

/// One explained difference.
pub struct Known {
    /// A word for counting it.
    pub name: &'static str,
    /// Why both answers are right.
    pub reason: &'static str,
    /// Removes the difference from both answers; false if it is not there.
    heal: fn(&Seen, &mut Value, &mut Value) -> bool,
}

/// What a difference is judged by.
#[derive(Clone, Copy)]
pub struct Seen<'a> {
    /// The request.
    pub step: &'a Step,
    /// The release of the newer side.
    pub newer: Release,
    /// The release of the older side.
    pub older: Release,
}

impl Seen<'_> {
    fn crosses(&self, release: Release) -> bool {
        self.older < release && release <= self.newer
    }

    fn is_json(&self) -> bool {
        matches!(self.step.transport, Transport::Json(_))
    }
}

impl std::fmt::Debug for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.name, self.reason)
    }
}

/// Heals explained differences, and returns the names of the explanations used.
pub fn explain(seen: &Seen, newer: &mut Value, older: &mut Value) -> Vec<&'static str> {
    let used = |known: &&Known| (known.heal)(seen, newer, older);
    KNOWN.iter().filter(used).map(|known| known.name).collect()
}

/// Every explained difference.
pub const KNOWN: &[Known] = &[
    Known {
        name: "gateway-error-field",
        reason: "the gateway's error body has a field `error`, equal to `message`, until 3.5; \
                 Althing keeps it beside 3.6's fields",
        heal: |seen, newer, older| match &seen.step.operation {
            Operation::Settle => {
                let nested = [newer, older].map(|answer| {
                    let answers = answer.as_object_mut().into_iter().flatten();
                    answers
                        .map(|(_, answer)| usize::from(drop_error(answer)))
                        .sum::<usize>()
                });
                nested != [0, 0]
            }
            _ => seen.is_json() && drop_error(newer) | drop_error(older),
        },
    },
    Known {
        name: "failed-precondition-status",
        reason: "the gateway gave FailedPrecondition the HTTP status 412 before 3.5, and 400 since",
        heal: |seen, newer, older| {
            seen.is_json()
                && seen.crosses((3, 5))
                && [(&*newer, 400), (&*older, 412)]
                    .iter()
                    .all(|(answer, status)| {
                        answer["status"] == *status && answer["body"]["code"] == FAILED_PRECONDITION
                    })
                && even(newer, older, |answer| answer.get_mut("status"))
        },
    },
    Known {
        name: "lock-without-key",
        reason: "a Lock whose key was deleted while it waited fails since 3.5; before, it was told \
                 that it holds the lock",
        heal: |seen, newer, older| {
            let (Some(newer), Some(older)) = (newer.as_object_mut(), older.as_object_mut()) else {
                return false;
            };
            let failed = |answer: &Value| text_of(answer) == Some(SESSION_EXPIRED);
            let names: Vec<String> = newer
                .iter()
                .filter(|(_, answer)| failed(answer))
                .map(|(name, _)| name.clone())
                .collect();
            let granted = |name: &str| {
                let answer = older.get(name).and_then(message);
                answer.is_some_and(|answer| answer.get("key").is_some())
            };
            let all = !names.is_empty() && names.iter().all(|name| granted(name));
            for name in names.iter().filter(|_| all) {
                newer.shift_remove(name);
                older.shift_remove(name);
            }
            all && seen.crosses((3, 5)) && matches!(seen.step.operation, Operation::Settle)
        },
    },
    Known {
        name: "lease-of-keys-only",
        reason: "a range of keys only leaves out their leases since 3.7, which answers it from \
                 the index",
        heal: |seen, newer, older| {
            seen.crosses((3, 7))
                && match &seen.step.operation {
                    Operation::Range(request) if request.keys_only => {
                        drop_leases(message_mut(newer)) | drop_leases(message_mut(older))
                    }
                    Operation::Txn(request) => {
                        drop_leases_in(request, message_mut(newer))
                            | drop_leases_in(request, message_mut(older))
                    }
                    _ => false,
                }
        },
    },
    Known {
        name: "version",
        reason: "Status tells the release, which is what makes the sides differ",
        heal: |seen, newer, older| {
            status(seen) && (take(newer, older, "version") | take(newer, older, "storageVersion"))
        },
    },
    Known {
        name: "status-3.6",
        reason: "Status tells storageVersion, dbSizeQuota and downgradeInfo since 3.6",
        heal: |seen, newer, older| {
            let fields = ["storageVersion", "dbSizeQuota", "downgradeInfo"];
            status(seen)
                && seen.crosses((3, 6))
                && fields
                    .map(|field| take(newer, older, field))
                    .contains(&true)
        },
    },
    Known {
        name: "hash-revision",
        reason: "HashKV tells the revision it hashed since 3.6",
        heal: |seen, newer, older| {
            matches!(seen.step.operation, Operation::HashKv(_))
                && seen.crosses((3, 6))
                && take(newer, older, "hash_revision")
        },
    },
    Known {
        name: "hash-at-compacted",
        reason: "since 3.6 HashKV answers at revisions that were compacted to, from the hashes \
                 that compactions leave behind",
        heal: |seen, newer, older| {
            matches!(seen.step.operation, Operation::HashKv(_))
                && seen.crosses((3, 6))
                && text_of(older) == Some(Error::Compacted.text())
                && message(newer).is_some_and(|answer| answer.get("hash").is_some())
                && blank(newer, older)
        },
    },
    Known {
        name: "hash-after-compact-0",
        reason: "after a Compact to revision 0, etcd takes HashKV's revision 0 (now) for the \
                 revision of that name since 3.6, and answers with the hash of an empty store",
        heal: |seen, newer, older| {
            let of_nothing = |answer: &Value| {
                message(answer).is_some_and(|answer| {
                    answer.get("hash_revision").is_none() && answer["compact_revision"] == "-1"
                })
            };
            matches!(&seen.step.operation, Operation::HashKv(request) if request.revision == 0)
                && seen.newer >= (3, 6)
                && (of_nothing(newer) || seen.older >= (3, 6) && of_nothing(older))
                && newer != older
                && blank(newer, older)
        },
    },
    Known {
        name: "txn-with-two-faults",
        reason: "before a transaction runs, its puts were checked and then its ranges; since 3.6 \
                 its operations are checked in their order, so of two faults another comes first",
        heal: |seen, newer, older| {
            let checked_before = |answer: &Value| {
                let faults = [
                    Error::KeyNotFound,
                    Error::LeaseNotFound,
                    Error::Compacted,
                    Error::FutureRevision,
                ];
                faults
                    .iter()
                    .any(|fault| text_of(answer) == Some(fault.text()))
            };
            matches!(seen.step.operation, Operation::Txn(_))
                && seen.crosses((3, 6))
                && checked_before(newer)
                && checked_before(older)
                && text_of(newer) != text_of(older)
                && blank(newer, older)
        },
    },
    Known {
        name: "hash-of-compaction",
        reason: "since 3.6 etcd answers HashKV at one of the last ten revisions compacted to \
                 with the hash that the compaction took on its way, which covers what it \
                 removed; Althing hashes what its store holds",
        heal: |seen, newer, older| {
            let Operation::HashKv(request) = &seen.step.operation else {
                return false;
            };
            let number = |answer: &Value, field: &str| -> Option<i64> {
                message(answer)?.get(field)?.as_str()?.parse().ok()
            };
            let before = |answer: &Value| {
                number(answer, "hash_revision") == Some(request.revision)
                    && number(answer, "compact_revision") < Some(request.revision)
            };
            let after = |answer: &Value| {
                text_of(answer) == Some(Error::Compacted.text())
                    || number(answer, "compact_revision") == Some(request.revision)
            };
            seen.older >= (3, 6)
                && (before(newer) && after(older) || before(older) && after(newer))
                && blank(newer, older)
        },
    },
    Known {
        name: "stream-of-unsorted-range",
        reason: "with a sort target and no order, etcd 3.7 sorts each chunk of a RangeStream by \
                 itself and reads on behind its last key, so that keys come twice or not at all; \
                 Althing leaves the target out of account and streams in the order of keys",
        heal: |seen, newer, older| {
            matches!(&seen.step.operation, Operation::RangeStream(request)
                if request.sort_order == SortOrder::None as i32
                    && request.sort_target != SortTarget::Key as i32)
                && [&*newer, &*older]
                    .iter()
                    .all(|answer| answer.get("messages").is_some())
                && (is_in_key_order(newer) || is_in_key_order(older))
                && blank(newer, older)
        },
    },
    Known {
        name: "chunks-below-no-limit",
        reason: "a RangeStream with a negative limit, which is none, comes in other chunks from \
                 etcd, whose arithmetic it runs through; what the chunks hold together is compared",
        heal: |seen, newer, older| {
            matches!(&seen.step.operation, Operation::RangeStream(request) if request.limit < 0)
                && merge_chunks(newer) | merge_chunks(older)
        },
    },
    Known {
        name: "sort-option",
        reason: "unknown sort orders are refused since 3.6, and were no order before",
        heal: |seen, newer, older| {
            seen.crosses((3, 6))
                && matches!(&seen.step.operation, Operation::Range(request)
                    if SortOrder::try_from(request.sort_order).is_err())
                && text_of(newer) == Some(Error::InvalidSortOption.text())
                && text_of(older) != text_of(newer)
                && blank(newer, older)
        },
    },
    Known {
        name: "no-such-route",
        reason: "the gateway refuses unknown routes and methods as JSON since 3.6",
        heal: |seen, newer, older| {
            let route = json!({"code": 5, "message": "Not Found"});
            let method = json!({"code": 12, "message": "Method Not Allowed"});
            let was = |status: u16, body: &str| {
                older["status"] == status && older["body"].as_str() == Some(body)
            };
            let is =
                |status: u16, body: &Value| newer["status"] == status && newer["body"] == *body;
            matches!(seen.step.operation, Operation::Text { .. })
                && seen.crosses((3, 6))
                && (was(404, "Not Found\n") && is(404, &route)
                    || was(405, "Method Not Allowed\n") && is(501, &method))
                && blank(newer, older)
        },
    },
    Known {
        name: "json-mistake",
        reason: "what is wrong with a JSON body is told in the words of the decoder at hand; \
                 status and code say InvalidArgument",
        heal: |seen, newer, older| {
            matches!(seen.step.operation, Operation::Text { .. })
                && [&*newer, &*older].iter().all(|answer| {
                    answer["status"] == 400 && answer["body"]["code"] == INVALID_ARGUMENT
                })
                && even(newer, older, |answer| answer["body"].get_mut("message"))
        },
    },
    Known {
        name: "protobuf-mistake",
        reason: "what is wrong with a message is told in the words of the decoder at hand, behind \
                 words of gRPC's that are compared",
        heal: |seen, newer, older| {
            matches!(seen.step.operation, Operation::Broken { .. })
                && [&*newer, &*older].iter().all(|answer| {
                    answer["code"] == INTERNAL
                        && answer["text"]
                            .as_str()
                            .is_some_and(|text| text.starts_with(UNREADABLE))
                })
                && even(newer, older, |answer| answer.get_mut("text"))
        },
    },
];

const INVALID_ARGUMENT: i32 = 3;
const FAILED_PRECONDITION: i32 = 9;
const INTERNAL: i32 = 13;
const SESSION_EXPIRED: &str = "mutex: session is expired";
const UNREADABLE: &str = "grpc: error unmarshalling request: ";

/// Joins the chunks of a stream into one.
fn merge_chunks(answer: &mut Value) -> bool {
    let Some(chunks) = answer.get_mut("messages").and_then(Value::as_array_mut) else {
        return false;
    };
    let several = chunks.len() > 1;
    let mut records = Vec::new();
    for chunk in chunks.iter_mut() {
        let of_chunk = chunk["range_response"]
            .get_mut("kvs")
            .and_then(Value::as_array_mut);
        records.append(&mut of_chunk.map(std::mem::take).unwrap_or_default());
    }
    chunks.drain(..chunks.len().saturating_sub(1));
    if let Some(last) = chunks.last_mut() {
        last["range_response"]["kvs"] = Value::Array(records);
    }
    several
}

/// Whether the keys of all chunks together ascend, without repetition.
fn is_in_key_order(answer: &Value) -> bool {
    let chunks = answer["messages"].as_array().into_iter().flatten();
    let records = chunks
        .flat_map(|chunk| chunk["range_response"]["kvs"].as_array())
        .flatten();
    let keys = records.map(|record| STANDARD.decode(record["key"].as_str().unwrap_or_default()));
    keys.map_while(Result::ok)
        .is_sorted_by(|one, next| one < next)
}

/// The text of a refusal.
fn text_of(answer: &Value) -> Option<&str> {
    let text = answer
        .get("text")
        .or_else(|| answer.get("body")?.get("message"));
    text?.as_str()
}

/// Takes both answers out of the comparison: they were distinguished before.
fn blank(newer: &mut Value, older: &mut Value) -> bool {
    *newer = Value::Null;
    *older = Value::Null;
    true
}

/// Makes one value of both answers equal if it differs.
fn even(
    newer: &mut Value,
    older: &mut Value,
    of: impl Fn(&mut Value) -> Option<&mut Value>,
) -> bool {
    match (of(newer), of(older)) {
        (Some(left), Some(right)) if left != right => {
            *left = Value::Null;
            *right = Value::Null;
            true
        }
        _ => false,
    }
}

fn drop_error(answer: &mut Value) -> bool {
    let Some(body) = answer.get_mut("body").and_then(Value::as_object_mut) else {
        return false;
    };
    let doubled = body.contains_key("code") && body.get("error") == body.get("message");
    doubled && body.shift_remove("error").is_some()
}

/// Takes the leases out of a range's records.
fn drop_leases(range: Option<&mut Value>) -> bool {
    let records = range.and_then(|range| range.get_mut("kvs")?.as_array_mut());
    let mut found = false;
    for record in records.into_iter().flatten() {
        let fields = record.as_object_mut();
        found |= fields.is_some_and(|fields| fields.shift_remove("lease").is_some());
    }
    found
}

/// Takes the leases out of the keys-only ranges in a transaction.
fn drop_leases_in(request: &pb::TxnRequest, answer: Option<&mut Value>) -> bool {
    let Some(answer) = answer else {
        return false;
    };
    let ops = if answer["succeeded"] == true {
        &request.success
    } else {
        &request.failure
    };
    let answers = answer.get_mut("responses").and_then(Value::as_array_mut);
    let mut found = false;
    for (op, answer) in ops.iter().zip(answers.into_iter().flatten()) {
        found |= match &op.request {
            Some(Request::RequestRange(range)) if range.keys_only => {
                drop_leases(answer.get_mut("response_range"))
            }
            Some(Request::RequestTxn(txn)) => drop_leases_in(txn, answer.get_mut("response_txn")),
            _ => false,
        };
    }
    found
}

fn status(seen: &Seen) -> bool {
    matches!(seen.step.operation, Operation::Status(_))
}

/// Removes a field from both messages if it differs.
fn take(newer: &mut Value, older: &mut Value, field: &str) -> bool {
    let differs = message(newer).and_then(|message| message.get(field))
        != message(older).and_then(|message| message.get(field));
    for answer in [newer, older] {
        if let Some(fields) = message_mut(answer).and_then(Value::as_object_mut)
            && differs
        {
            fields.shift_remove(field);
        }
    }
    differs
}

fn message_mut(answer: &mut Value) -> Option<&mut Value> {
    message(answer)?;
    if answer.get("messages").is_some() {
        answer["messages"].as_array_mut()?.last_mut()
    } else {
        answer.get_mut("body")
    }
}
