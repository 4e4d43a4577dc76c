//! One watcher: what it must bring, according to the member's history, and what it brought.

use althing_api::etcdserverpb as pb;
use althing_api::mvccpb::event::EventType;
use althing_api::range::OPEN_END;
use bytes::Bytes;
use pb::watch_create_request::FilterType;
use prost::Message;
use serde_json::{Value, json};

use super::watching::History;

/// A fragment of several events may be as large as this, in bytes.
const FRAGMENT_MAX: usize = 2 * 1024 * 1024;

/// A change of one key.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The revision that made it.
    pub revision: i64,
    /// The key.
    pub key: Bytes,
    /// Put or delete, as in events.
    pub kind: i32,
}

impl Change {
    /// The changes of a response.
    pub fn of(response: &pb::WatchResponse) -> impl Iterator<Item = Change> {
        response.events.iter().map(|event| {
            let record = event.kv.clone().unwrap_or_default();
            Change {
                revision: record.mod_revision,
                key: record.key,
                kind: event.r#type,
            }
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Following,
    /// Its start is compacted, and that is still to be reported.
    Doomed,
    Gone,
}

/// A watcher that was created.
#[derive(Debug)]
pub struct Watcher {
    request: pb::WatchCreateRequest,
    state: State,
    start: i64,
    /// Changes from this revision on are not settled yet.
    next: i64,
    /// Whether it started in the past and nothing shows yet that it has caught up.
    behind: bool,
    /// What came since the last time: changes, the messages' events, and their headers.
    changes: Vec<Change>,
    events: Vec<Value>,
    headers: Vec<(i64, Value)>,
    /// The message that ended it.
    end: Option<Value>,
    /// Whether the last message was a fragment of one that goes on.
    in_fragment: bool,
    /// The last revision of the last whole message.
    delivered: i64,
}

impl Watcher {
    /// The watcher of an accepted request.
    pub fn new(
        request: pb::WatchCreateRequest,
        created: &pb::WatchResponse,
        history: &History,
    ) -> Watcher {
        let current = created.header.as_ref().map_or(0, |header| header.revision);
        let asked = request.start_revision;
        let start = if asked == 0 { current + 1 } else { asked };
        Watcher {
            state: if start < history.compacted {
                State::Doomed
            } else {
                State::Following
            },
            start,
            next: start,
            behind: start <= current,
            request,
            changes: Vec::new(),
            events: Vec::new(),
            headers: Vec::new(),
            end: None,
            in_fragment: false,
            delivered: 0,
        }
    }

    /// The revision that it was asked to start from; 0 means the next one. A watcher of a named
    /// revision that is still to come holds back its stream's progress; one of the next revision
    /// does not.
    pub fn asked_start(&self) -> i64 {
        self.request.start_revision
    }

    /// Its start, as long as it may be behind.
    pub fn behind(&self) -> Option<i64> {
        (self.behind && self.state == State::Following).then_some(self.start)
    }

    /// Whether it has ended.
    pub fn is_gone(&self) -> bool {
        self.state == State::Gone
    }

    /// What is still to come, as text.
    pub fn owed(&self, history: &History) -> Option<String> {
        if self.state == State::Doomed {
            return Some("cancellation of a compacted start".to_owned());
        }
        self.owed_to(history, history.revision)
    }

    /// Which of the changes up to a revision are still to come, as text.
    pub fn owed_to(&self, history: &History, revision: i64) -> Option<String> {
        if self.state != State::Following {
            return None;
        }
        let owed = self.due(history, revision).count();
        (owed > self.changes.len() || self.in_fragment).then(|| {
            format!(
                "event {} of {owed} since {}",
                self.changes.len() + 1,
                self.next
            )
        })
    }

    /// Takes a message with events, or the one that reports a compacted start.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn receive(&mut self, mut raw: Value, response: pb::WatchResponse) -> Result<(), String> {
        if response.canceled {
            self.state = State::Gone;
            self.end = Some(raw);
            return Ok(());
        }
        let mut last = self.changes.last().map_or(0, |change| change.revision);
        for change in Change::of(&response) {
            if change.revision < last {
                return Err(format!("revision {} behind {last}", change.revision));
            }
            last = change.revision;
        }
        let first = response.events.first().and_then(|event| event.kv.as_ref());
        let first = first.map_or(0, |record| record.mod_revision);
        if !self.in_fragment && first <= self.delivered {
            return Err(format!("the events of revision {first} are split"));
        }
        if (response.fragment || self.in_fragment) && !self.request.fragment {
            return Err("a fragment for a watcher that wants none".to_owned());
        }
        if self.request.fragment
            && response.events.len() > 1
            && response.encoded_len() > FRAGMENT_MAX
        {
            return Err(format!("a fragment of {} bytes", response.encoded_len()));
        }
        self.in_fragment = response.fragment;
        if !response.fragment {
            self.delivered = last;
        }
        self.changes.extend(Change::of(&response));
        if let Some(Value::Array(events)) = raw.get_mut("events").map(Value::take) {
            self.events.extend(events);
        }
        let told = response.header.map_or(0, |header| header.revision);
        if told < last {
            return Err(format!("a header of {told} over events of {last}"));
        }
        self.headers.push((told, raw["header"].take()));
        Ok(())
    }

    /// What came since the last time. With `exact` the store has made one revision since then, so
    /// that the headers are certain too; otherwise the batches decide which revision they name.
    ///
    /// # Errors
    /// What came and should not have come.
    pub fn settle(&mut self, history: &History, exact: bool) -> Result<Value, String> {
        let due: Vec<Change> = self.due(history, history.revision).cloned().collect();
        if self.state != State::Gone && self.changes != due {
            return Err(format!("{:?} came, due were {due:?}", self.changes));
        }
        if let Some((told, _)) = self
            .headers
            .iter()
            .find(|(told, _)| *told > history.revision)
        {
            return Err(format!("a header of {told} above {}", history.revision));
        }
        if !due.is_empty() {
            self.behind = false;
        }
        self.next = self.next.max(history.revision + 1);
        self.changes.clear();
        let mut headers: Vec<Value> = self.headers.drain(..).map(|(_, header)| header).collect();
        headers.dedup();
        let mut came = serde_json::Map::new();
        let events = std::mem::take(&mut self.events);
        if !events.is_empty() {
            came.insert("events".to_owned(), Value::Array(events));
            if exact {
                came.insert("headers".to_owned(), Value::Array(headers));
            }
        }
        if let Some(end) = self.end.take() {
            came.insert("end".to_owned(), end);
        }
        Ok(if came.is_empty() {
            Value::Null
        } else {
            json!(came)
        })
    }

    fn due<'h>(&'h self, history: &'h History, revision: i64) -> impl Iterator<Item = &'h Change> {
        let first = history
            .changes
            .partition_point(|change| change.revision < self.next);
        history.changes[first..]
            .iter()
            .take_while(move |change| change.revision <= revision)
            .filter(|change| self.wants(change))
    }

    fn wants(&self, change: &Change) -> bool {
        // An empty key stands for the first key.
        let first = Bytes::from_static(b"\0");
        let key = if self.request.key.is_empty() {
            &first
        } else {
            &self.request.key
        };
        let end = &self.request.range_end;
        let inside = if end.is_empty() {
            change.key == *key
        } else {
            change.key >= *key && (end == OPEN_END || change.key < *end)
        };
        let unwanted = if change.kind == EventType::Put as i32 {
            FilterType::Noput
        } else {
            FilterType::Nodelete
        };
        inside && !self.request.filters.contains(&(unwanted as i32))
    }
}
