//! The checker bites: histories that a member must not deliver, one kind after the other.

#![allow(clippy::unwrap_used)]

use althing_api::mvccpb::event::EventType;
use althing_api::mvccpb::{Event, KeyValue};

use super::checker::{Checker, Selection};
use super::history::History;

/// Nobody compacted anything.
const NOT_COMPACTED: i64 = 0;

fn put(key: &'static str, revision: i64, before: Option<i64>) -> Event {
    let record = |revision| KeyValue {
        key: key.into(),
        mod_revision: revision,
        ..KeyValue::default()
    };
    Event {
        r#type: EventType::Put.into(),
        kv: Some(record(revision)),
        prev_kv: before.map(record),
    }
}

/// Revision 2 puts b and a, 3 puts c, 4 puts a, 5 puts b.
fn history() -> History {
    let history = History::default();
    history.add(vec![put("b", 2, None), put("a", 2, None)]);
    history.add(vec![put("c", 3, None)]);
    history.add(vec![put("a", 4, Some(2))]);
    history.add(vec![put("b", 5, Some(2))]);
    history
}

/// All events of a revision, as delivered to a watcher without `prev_kv`.
fn all_of(revision: i64) -> Vec<Event> {
    let bare = |event: &Event| Event {
        prev_kv: None,
        ..event.clone()
    };
    history().events(revision).iter().map(bare).collect()
}

fn watcher() -> Checker {
    let selection = Selection {
        key: "a".into(),
        range_end: "z".into(),
        ..Selection::default()
    };
    Checker::new(selection, Some(2))
}

/// Takes responses of whole revisions, and compares all of them.
fn taken(responses: &[Vec<Event>]) -> Result<Checker, String> {
    let mut checker = watcher();
    for response in responses {
        checker.take(5, response.clone(), false)?;
    }
    checker.settle(&history(), NOT_COMPACTED)?;
    Ok(checker)
}

#[test]
fn the_true_history_passes_however_it_is_batched() {
    let one_by_one = taken(&[all_of(2), all_of(3), all_of(4), all_of(5)]).unwrap();
    assert_eq!(one_by_one.counts.events, 5);
    assert!(one_by_one.is_complete(&history(), 5));
    let at_once = taken(&[[all_of(2), all_of(3), all_of(4), all_of(5)].concat()]).unwrap();
    assert!(at_once.is_complete(&history(), 5));
    let partly = taken(&[all_of(2), all_of(3)]).unwrap();
    assert!(!partly.is_complete(&history(), 5));
}

#[test]
fn a_lost_revision_is_found() {
    let error = taken(&[all_of(2), all_of(4)]).unwrap_err();
    assert!(error.contains("lost of revision 3"), "{error}");
    assert!(taken(&[all_of(3)]).is_err());
}

#[test]
fn a_lost_event_of_a_revision_is_found() {
    assert!(taken(&[all_of(2)[..1].to_vec()]).is_err());
    assert!(taken(&[all_of(2)[1..].to_vec(), all_of(3)]).is_err());
}

#[test]
fn a_doubled_event_is_found() {
    assert!(taken(&[all_of(2), all_of(3), all_of(3)]).is_err());
    assert!(taken(&[[all_of(3), all_of(3)].concat()]).is_err());
    assert!(taken(&[[all_of(2), all_of(2)].concat()]).is_err());
}

#[test]
fn a_wrong_order_is_found_between_revisions_and_within_one() {
    assert!(taken(&[all_of(2), all_of(4), all_of(3)]).is_err());
    assert!(taken(&[[all_of(2), all_of(4), all_of(3)].concat()]).is_err());
    let mut reversed = all_of(2);
    reversed.reverse();
    assert!(taken(&[reversed]).is_err());
}

#[test]
fn a_split_revision_is_found_unless_the_response_says_that_more_comes() {
    let (first, second) = (all_of(2)[..1].to_vec(), all_of(2)[1..].to_vec());
    assert!(taken(&[first.clone(), second.clone()]).is_err());
    let mut checker = watcher();
    checker.take(5, first, true).unwrap();
    assert!(checker.progress(5).is_err());
    checker.take(5, second, false).unwrap();
    checker.settle(&history(), NOT_COMPACTED).unwrap();
    assert_eq!((checker.counts.events, checker.counts.pieces), (2, 1));
}

#[test]
fn what_a_break_cut_off_comes_again_and_what_was_whole_does_not() {
    let mut checker = watcher();
    checker
        .take(5, [all_of(2), all_of(3)].concat(), true)
        .unwrap();
    checker.broken();
    assert_eq!(checker.start_revision(), 3);
    assert!(checker.take(5, all_of(2), false).is_err());
    checker
        .take(5, [all_of(3), all_of(4)].concat(), false)
        .unwrap();
    checker.settle(&history(), NOT_COMPACTED).unwrap();
    assert_eq!(checker.counts.events, 4);
}

#[test]
fn a_changed_event_is_found() {
    let mut other_key = all_of(3);
    other_key[0].kv.as_mut().unwrap().key = "d".into();
    assert!(taken(&[all_of(2), other_key]).is_err());
    let mut other_value = all_of(3);
    other_value[0].kv.as_mut().unwrap().value = "v".into();
    assert!(taken(&[all_of(2), other_value]).is_err());
    let mut deleted = all_of(3);
    deleted[0].set_type(EventType::Delete);
    assert!(taken(&[all_of(2), deleted]).is_err());
}

#[test]
fn events_that_were_not_selected_are_found() {
    let mut checker = watcher();
    checker.selection.range_end = "b".into();
    checker.take(5, all_of(2), false).unwrap();
    assert!(checker.settle(&history(), NOT_COMPACTED).is_err());
    let mut checker = watcher();
    checker.selection.no_put = true;
    checker.take(5, all_of(2), false).unwrap();
    assert!(checker.settle(&history(), NOT_COMPACTED).is_err());
}

#[test]
fn the_record_before_is_there_unless_compaction_took_it() {
    let take = |asked: bool, events: Vec<Event>, compacted: i64| {
        let mut checker = Checker::new(watcher().selection, Some(4));
        checker.selection.prev_kv = asked;
        checker.take(5, events, false).unwrap();
        checker.settle(&history(), compacted)
    };
    let whole = history().events(4).to_vec();
    assert!(take(true, whole.clone(), NOT_COMPACTED).is_ok());
    assert!(take(false, whole, NOT_COMPACTED).is_err());
    assert!(take(true, all_of(4), NOT_COMPACTED).is_err());
    assert!(take(true, all_of(4), 4).is_ok());
}

#[test]
fn progress_ahead_of_events_is_found() {
    let mut checker = taken(&[all_of(2)]).unwrap();
    checker.progress(3).unwrap();
    let error = checker.settle(&history(), NOT_COMPACTED).unwrap_err();
    assert!(error.contains("lost of revision 3"), "{error}");

    let mut checker = taken(&[all_of(2)]).unwrap();
    checker.progress(3).unwrap();
    assert!(checker.take(5, all_of(3), false).is_err());
}

#[test]
fn progress_behind_events_is_found_and_true_progress_is_where_to_resume() {
    let mut checker = taken(&[all_of(2), all_of(3)]).unwrap();
    assert!(checker.progress(2).is_err());
    checker.selection.key = "c".into();
    checker.progress(5).unwrap();
    checker.settle(&history(), NOT_COMPACTED).unwrap();
    assert_eq!(checker.start_revision(), 6);
}

#[test]
fn a_compaction_ends_only_watchers_that_need_what_is_gone() {
    let mut checker = taken(&[all_of(2)]).unwrap();
    assert!(checker.compacted(3, 3).is_err());
    assert!(checker.compacted(5, 4).is_err());
    checker.compacted(5, 5).unwrap();
    checker.take(5, all_of(5), false).unwrap();
    checker.settle(&history(), 5).unwrap();
    assert_eq!((checker.counts.events, checker.counts.compacted), (3, 2));
}

#[test]
fn nothing_comes_before_the_watcher_is_created() {
    let mut checker = Checker::new(watcher().selection, None);
    assert!(checker.take(5, all_of(2), false).is_err());
    checker.created(3);
    assert!(checker.take(5, all_of(3), false).is_err());
    checker.take(5, all_of(4), false).unwrap();
    checker.settle(&history(), NOT_COMPACTED).unwrap();
}
