//! Replaces what cannot be equal between two members by whether it is present: ids, terms, log
//! indexes and sizes. Everything else stays as it was answered.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::party_steps::PARTIES;

/// How far a lease may have counted down since it was granted or kept alive, in seconds.
const COUNTED_MAX: i64 = 300;
/// Ids of this size and above were made by the member; the sequence chooses smaller ones.
const OWN_ID_MIN: u128 = 1_000_000_000_000;

/// Fields that belong to one member alone; zero (left out) and non-zero must still agree.
const OWN: [&str; 9] = [
    "cluster_id",
    "member_id",
    "raft_term",
    "leader",
    "raftIndex",
    "raftTerm",
    "raftAppliedIndex",
    "dbSize",
    "dbSizeInUse",
];

/// Replaces in an answer what belongs to one member alone.
pub fn normalise(answer: &mut Value) {
    match answer {
        Value::Array(items) => items.iter_mut().for_each(normalise),
        Value::Object(fields) => {
            normalise_lease(fields);
            for (name, value) in fields {
                let of_lease = ["ID", "lease"].contains(&name.as_str());
                let own = OWN.contains(&name.as_str()) || of_lease && is_made(value);
                if own && value.is_string() {
                    *value = Value::String("(own)".to_owned());
                } else if name == "key" && value.as_str().is_some_and(is_made_key) {
                    *value = Value::String("(of an own lease)".to_owned());
                } else {
                    normalise(value);
                }
            }
        }
        _ => (),
    }
}

fn is_made(id: &Value) -> bool {
    let digits = id
        .as_str()
        .map(|id| id.trim_start_matches('-').parse::<u128>());
    matches!(digits, Some(Ok(number)) if number >= OWN_ID_MIN)
}

/// Whether a key ends in a lease that the member made.
fn is_made_key(key: &str) -> bool {
    let key = STANDARD.decode(key).unwrap_or_default();
    let lease = key.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    lease.len() >= 12 && lease.iter().all(u8::is_ascii_hexdigit)
}

/// Hides how far a lease has counted down, and sorts lists that have no order: the keys of a lease,
/// and the leases that lock and election services keep alive by themselves.
fn normalise_lease(fields: &mut Map<String, Value>) {
    let number = |value: Option<&Value>| -> Option<i64> { value?.as_str()?.parse().ok() };
    if let Some(granted) = number(fields.get("grantedTTL"))
        && let Some(left) = number(fields.get("TTL"))
        && (granted - COUNTED_MAX..=granted).contains(&left)
    {
        fields.insert("TTL".to_owned(), Value::from("(counting)"));
        if let Some(Value::Array(keys)) = fields.get_mut("keys") {
            keys.sort_by(|one, other| one.as_str().cmp(&other.as_str()));
        }
    }
    if let Some(Value::Array(leases)) = fields.get_mut("leases") {
        let place = |lease: &Value| number(lease.get("ID")).filter(|id| PARTIES.contains(id));
        leases.sort_by_key(place);
    }
}

/// The highest revision that a header of the answer names.
pub fn revision(answer: &Value) -> Option<i64> {
    let body = message(answer)?;
    body.get("header")?.get("revision")?.as_str()?.parse().ok()
}

/// The answer's message: the last one of a gRPC answer, or the body of an accepted JSON request.
pub fn message(answer: &Value) -> Option<&Value> {
    match answer.get("messages") {
        Some(messages) => messages.as_array()?.last(),
        None if answer.get("status") == Some(&200.into()) => answer.get("body"),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ids_are_hidden_and_revisions_are_not() {
        let mut answer = json!({"messages": [{"header": {"member_id": "7", "revision": "3"}}]});
        normalise(&mut answer);
        let header = &answer["messages"][0]["header"];
        assert_eq!(header["member_id"], "(own)");
        assert_eq!(revision(&answer), Some(3));
    }

    #[test]
    fn an_absent_id_stays_different_from_a_present_one() {
        let mut present = json!({"header": {"cluster_id": "7"}});
        let mut absent = json!({"header": {}});
        normalise(&mut present);
        normalise(&mut absent);
        assert_ne!(present, absent);
    }
}
