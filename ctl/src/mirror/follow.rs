//! What the events of a watch mean for the destination.

use althing_api::etcdserverpb::{RangeRequest, WatchCreateRequest};
use althing_api::mvccpb::Event;
use althing_api::mvccpb::event::EventType;
use bytes::Bytes;

use super::batch::{Batches, Change};
use super::{Rename, range_of};
use crate::client::{Client, Watcher};
use crate::failure::Failure;

/// The events of one answer as transactions of at most `ops_max` changes; leases as they are at
/// the source.
pub fn transactions(events: Vec<Event>, rename: &Rename, ops_max: usize) -> Vec<Vec<Change>> {
    let mut batches = Batches::new(ops_max);
    let (mut revision, mut changes) = (0, Vec::new());
    for event in events {
        let kind = event.r#type();
        let Some(kv) = event.kv else {
            continue;
        };
        if kv.mod_revision != revision {
            batches.add(std::mem::take(&mut changes));
            revision = kv.mod_revision;
        }
        let key = rename.apply(&kv.key);
        changes.push(match kind {
            EventType::Put => Change::Put {
                key,
                value: kv.value,
                lease: kv.lease,
            },
            EventType::Delete => Change::Delete(key),
        });
    }
    batches.add(changes);
    batches.finish()
}

/// A watch of the keys with `prefix`, from `revision` on.
pub fn watch(source: &Client, prefix: &Bytes, revision: i64) -> Watcher {
    let (key, range_end) = range_of(prefix);
    source.watch(WatchCreateRequest {
        key,
        range_end,
        start_revision: revision,
        ..WatchCreateRequest::default()
    })
}

/// The revision of a cluster, and how many keys have `prefix`.
///
/// # Errors
/// Those of reading.
pub async fn revision(client: &mut Client, prefix: &Bytes) -> Result<(i64, i64), Failure> {
    let (key, range_end) = range_of(prefix);
    let request = RangeRequest {
        key,
        range_end,
        count_only: true,
        ..RangeRequest::default()
    };
    let answer = client.range(request).await?;
    let revision = answer.header.unwrap_or_default().revision;
    Ok((revision, answer.count))
}

#[cfg(test)]
mod tests {
    use althing_api::mvccpb::KeyValue;

    use super::*;

    fn event(kind: EventType, key: &'static str, revision: i64) -> Event {
        let kv = KeyValue {
            key: key.into(),
            mod_revision: revision,
            ..KeyValue::default()
        };
        Event {
            r#type: kind.into(),
            kv: Some(kv),
            prev_kv: None,
        }
    }

    #[test]
    fn the_events_of_a_revision_stay_together_and_in_order() {
        let events = vec![
            event(EventType::Put, "a", 5),
            event(EventType::Put, "b", 6),
            event(EventType::Delete, "c", 6),
            event(EventType::Delete, "a", 7),
        ];
        let made = transactions(events, &Rename::default(), 128);
        let sizes: Vec<usize> = made.iter().map(Vec::len).collect();
        assert_eq!(sizes, [3, 1]);
        assert_eq!(made[1], [Change::Delete("a".into())]);
    }
}
