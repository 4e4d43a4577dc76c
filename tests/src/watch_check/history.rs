//! The truth: what each revision did, derived from two neighbouring reads of all keys.
//!
//! Events of one revision have an order. It follows from a rule that writers keep: the operations
//! of a transaction come in falling order of their keys, and one of them is a put; a change that
//! only deletes is a single deletion of a range, which goes in rising order.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};

use althing_api::mvccpb::event::EventType;
use althing_api::mvccpb::{Event, KeyValue};
use bytes::Bytes;
use tokio::sync::watch;

/// The revision of an empty store, which no event has.
pub const REVISION_EMPTY: i64 = 1;

/// All keys at one revision.
pub type Keys = BTreeMap<Bytes, KeyValue>;

/// What happened, by revision.
#[derive(Debug)]
pub struct History {
    /// The events of each revision after the empty store, in order.
    revisions: RwLock<Vec<Arc<[Event]>>>,
    known: watch::Sender<i64>,
}

impl Default for History {
    fn default() -> History {
        History {
            revisions: RwLock::default(),
            known: watch::Sender::new(REVISION_EMPTY),
        }
    }
}

impl History {
    /// The last revision whose effect is known.
    pub fn known(&self) -> i64 {
        *self.known.borrow()
    }

    /// Waits until the effect of `revision` is known.
    pub async fn wait_for(&self, revision: i64) {
        let mut known = self.known.subscribe();
        let waited = known.wait_for(|known| *known >= revision).await;
        waited.map(|_| ()).expect("the history holds the sender");
    }

    /// The events of `revision` in order, each with the record before it.
    ///
    /// # Panics
    /// When they are not known yet.
    pub fn events(&self, revision: i64) -> Arc<[Event]> {
        let Ok(at) = usize::try_from(revision - REVISION_EMPTY - 1) else {
            return Arc::default();
        };
        let revisions = self
            .revisions
            .read()
            .expect("no holder of this lock panics");
        Arc::clone(&revisions[at])
    }

    /// Adds what the next revision did.
    pub fn add(&self, events: Vec<Event>) {
        let mut revisions = self
            .revisions
            .write()
            .expect("no holder of this lock panics");
        revisions.push(events.into());
        let known = REVISION_EMPTY + revisions.len() as i64;
        drop(revisions);
        self.known.send_replace(known);
    }
}

/// What `revision` did to `before`, so that it became `after`.
///
/// # Errors
/// When no single revision does that.
pub fn difference(revision: i64, before: &Keys, after: &Keys) -> Result<Vec<Event>, String> {
    let mut events = Vec::new();
    for (key, record) in after {
        let old = before.get(key);
        if record.mod_revision == revision {
            events.push(event(EventType::Put, record.clone(), old));
        } else if old != Some(record) {
            return Err(format!(
                "revision {revision} holds {record:?}, the one before {old:?}"
            ));
        }
    }
    for (key, old) in before.iter().filter(|(key, _)| !after.contains_key(*key)) {
        let gone = KeyValue {
            key: key.clone(),
            mod_revision: revision,
            ..KeyValue::default()
        };
        events.push(event(EventType::Delete, gone, Some(old)));
    }
    if events.is_empty() {
        return Err(format!("revision {revision} did nothing"));
    }
    let key = |event: &Event| event.kv.as_ref().map(|kv| kv.key.clone());
    events.sort_by_key(key);
    if events.iter().any(|event| event.r#type() == EventType::Put) {
        events.reverse();
    }
    Ok(events)
}

fn event(kind: EventType, record: KeyValue, old: Option<&KeyValue>) -> Event {
    Event {
        r#type: kind.into(),
        kv: Some(record),
        prev_kv: old.cloned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(records: &[(&'static str, i64)]) -> Keys {
        let record = |(key, revision): &(&'static str, i64)| {
            let key = Bytes::from(*key);
            let record = KeyValue {
                key: key.clone(),
                mod_revision: *revision,
                ..KeyValue::default()
            };
            (key, record)
        };
        records.iter().map(record).collect()
    }

    fn names(events: &[Event]) -> Vec<Bytes> {
        let name = |event: &Event| event.kv.as_ref().unwrap().key.clone();
        events.iter().map(name).collect()
    }

    #[test]
    fn two_reads_tell_what_was_put_and_deleted() {
        let (before, after) = (keys(&[("a", 2), ("b", 3)]), keys(&[("b", 4), ("c", 4)]));
        let events = difference(4, &before, &after).unwrap();
        assert_eq!(names(&events), ["c", "b", "a"]);
        assert_eq!(events[0].prev_kv, None);
        assert_eq!(events[1].prev_kv.as_ref().unwrap().mod_revision, 3);
        assert_eq!(events[2].r#type(), EventType::Delete);
        let events = difference(4, &before, &keys(&[])).unwrap();
        assert_eq!(names(&events), ["a", "b"]);
    }

    #[test]
    fn reads_that_no_single_revision_explains_are_refused() {
        let before = keys(&[("a", 2)]);
        assert!(difference(4, &before, &before).is_err());
        assert!(difference(4, &before, &keys(&[("a", 3), ("b", 4)])).is_err());
    }
}
