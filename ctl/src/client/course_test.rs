//! What a watch shows, and where it would go on.

use althing_api::etcdserverpb::ResponseHeader;
use althing_api::mvccpb::{Event, KeyValue};

use super::*;

fn answer(revision: i64, events: &[i64]) -> WatchResponse {
    let event = |revision: &i64| Event {
        kv: Some(KeyValue {
            mod_revision: *revision,
            ..KeyValue::default()
        }),
        ..Event::default()
    };
    WatchResponse {
        header: Some(ResponseHeader {
            revision,
            ..ResponseHeader::default()
        }),
        events: events.iter().map(event).collect(),
        ..WatchResponse::default()
    }
}

fn created(revision: i64) -> WatchResponse {
    WatchResponse {
        created: true,
        ..answer(revision, &[])
    }
}

fn shown(step: Step) -> Vec<i64> {
    let Step::Show(answer) = step else {
        panic!("nothing is shown: {step:?}");
    };
    let revision = |event: &Event| event.kv.as_ref().unwrap().mod_revision;
    answer.events.iter().map(revision).collect()
}

#[test]
fn a_watch_that_saw_nothing_yet_goes_on_where_it_was_created() {
    let mut course = Course::new(0);
    assert_eq!(course.take(created(7)), Step::Silent);
    assert_eq!(course.next(), 8);
    // Created again after a loss: what lies between must still come.
    assert_eq!(course.take(created(12)), Step::Silent);
    assert_eq!(course.next(), 8);
}

#[test]
fn a_watch_of_a_future_revision_keeps_it() {
    let mut course = Course::new(100);
    course.take(created(7));
    assert_eq!(course.next(), 100);
}

#[test]
fn the_last_event_counts_and_not_the_header() {
    let mut course = Course::new(2);
    course.take(created(50));
    assert_eq!(shown(course.take(answer(50, &[2, 3, 3]))), [2, 3, 3]);
    assert_eq!(course.next(), 4);
}

#[test]
fn what_was_shown_is_not_shown_again() {
    let mut course = Course::new(2);
    course.take(answer(9, &[5]));
    assert_eq!(course.take(answer(9, &[4, 5])), Step::Silent);
    assert_eq!(shown(course.take(answer(9, &[5, 6]))), [6]);
    assert_eq!(course.next(), 7);
}

#[test]
fn only_a_watchs_own_progress_moves_it() {
    let mut course = Course::new(0);
    course.take(created(7));
    let asked = WatchResponse {
        watch_id: -1,
        ..answer(20, &[])
    };
    assert_eq!(shown(course.take(asked)), [0; 0]);
    assert_eq!(course.next(), 8);
    assert_eq!(shown(course.take(answer(20, &[]))), [0; 0]);
    assert_eq!(course.next(), 21);
}

#[test]
fn a_refused_watch_shows_no_header() {
    let mut course = Course::new(0);
    let refused = WatchResponse {
        canceled: true,
        watch_id: -1,
        cancel_reason: "mvcc: watcher range is empty".to_owned(),
        ..created(7)
    };
    let empty = WatchResponse {
        canceled: true,
        ..WatchResponse::default()
    };
    let reason = "mvcc: watcher range is empty".to_owned();
    assert_eq!(course.take(refused), Step::Canceled(empty, reason));
}

#[test]
fn a_compacted_start_is_told_with_its_revision() {
    let compacted = WatchResponse {
        canceled: true,
        compact_revision: 30,
        ..answer(0, &[])
    };
    let reason = ApiError::Compacted.text().to_owned();
    let step = Course::new(3).take(compacted.clone());
    assert_eq!(step, Step::Canceled(compacted, reason));
}

#[test]
fn a_lapsed_login_is_renewed() {
    for reason in LAPSED_TEXTS {
        let refused = WatchResponse {
            canceled: true,
            cancel_reason: reason.to_owned(),
            ..created(7)
        };
        assert_eq!(Course::new(0).take(refused), Step::Renew);
    }
}
