//! What one watcher may see next, and whether what it saw is true.
//!
//! A response is judged twice. First at once: revisions grow, none comes again or in two responses,
//! and progress never contradicts events. Then, as soon as the history is known up to it: every
//! event that the watcher selects was delivered, unchanged and in order, and nothing else.
//!
//! ```text
//! next: every revision below was delivered --- settled: ... and compared with the history
//!       a break of the stream loses nothing: the watcher resumes from `next`
//! ```

use std::collections::VecDeque;

use althing_api::etcdserverpb as pb;
use althing_api::mvccpb::Event;
use althing_api::mvccpb::event::EventType;
use bytes::Bytes;

use super::history::History;

/// What a watcher asks for.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// The first key.
    pub key: Bytes,
    /// The end of the range, exclusive; empty for one key.
    pub range_end: Bytes,
    /// Whether to leave out puts.
    pub no_put: bool,
    /// Whether to leave out deletions.
    pub no_delete: bool,
    /// Whether to add the record before each event.
    pub prev_kv: bool,
    /// Whether a long response may come in pieces.
    pub fragment: bool,
    /// Whether to report progress from time to time.
    pub progress_notify: bool,
}

impl Selection {
    /// The request for this from `start_revision`; the member replaces `watch_id` 0 by its own
    /// choice.
    pub fn request(&self, start_revision: i64, watch_id: i64) -> pb::WatchCreateRequest {
        use pb::watch_create_request::FilterType;
        let mut filters = Vec::new();
        if self.no_put {
            filters.push(FilterType::Noput.into());
        }
        if self.no_delete {
            filters.push(FilterType::Nodelete.into());
        }
        pb::WatchCreateRequest {
            key: self.key.clone(),
            range_end: self.range_end.clone(),
            start_revision,
            progress_notify: self.progress_notify,
            filters,
            prev_kv: self.prev_kv,
            watch_id,
            fragment: self.fragment,
        }
    }

    /// Whether the watcher has to see this event.
    pub fn takes(&self, event: &Event) -> bool {
        let is_left_out = match event.r#type() {
            EventType::Put => self.no_put,
            EventType::Delete => self.no_delete,
        };
        let Some(record) = &event.kv else {
            return false;
        };
        let is_in_range = if self.range_end.is_empty() {
            record.key == self.key
        } else {
            record.key >= self.key && record.key < self.range_end
        };
        is_in_range && !is_left_out
    }
}

/// The number of things that happened to a watcher that a failure report shows.
const TRACE: usize = 12;

/// What came, kept until the history is known up to it.
#[derive(Debug)]
enum Seen {
    Events(i64, Vec<Event>),
    /// Everything up to the revision has been delivered.
    CoveredTo(i64),
    /// Everything below the revision is compacted.
    Compacted(i64),
}

/// Counts of what was seen.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Events that were compared with the history.
    pub events: u64,
    /// Progress responses, each a promise that was checked.
    pub progress: u64,
    /// Events that compaction took before they were delivered.
    pub compacted: u64,
    /// Pieces of responses with more pieces to come.
    pub pieces: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        self.events += other.events;
        self.progress += other.progress;
        self.compacted += other.compacted;
        self.pieces += other.pieces;
    }
}

/// One watcher across all its streams.
#[derive(Debug)]
pub struct Checker {
    /// What the watcher asks for.
    pub selection: Selection,
    /// What the watcher saw.
    pub counts: Counts,
    /// `None` until a watcher from "now" was told where that is.
    next: Option<i64>,
    settled: i64,
    /// The highest revision of a delivered event.
    delivered: i64,
    /// The revision under delivery, and its events so far.
    open: Option<(i64, Vec<Event>)>,
    seen: VecDeque<Seen>,
    /// The last things that happened to it, for a report.
    trace: VecDeque<(&'static str, i64)>,
}

impl Checker {
    /// A watcher from a revision, or from whatever "now" will be.
    pub fn new(selection: Selection, start: Option<i64>) -> Checker {
        Checker {
            selection,
            counts: Counts::default(),
            next: start,
            settled: start.map_or(0, |start| start - 1),
            delivered: 0,
            open: None,
            seen: VecDeque::new(),
            trace: VecDeque::new(),
        }
    }

    fn note(&mut self, what: &'static str, revision: i64) {
        if self.trace.len() == TRACE {
            self.trace.pop_front();
        }
        self.trace.push_back((what, revision));
    }

    /// The revision that it watches from when its stream begins again; 0 means "now".
    pub fn start_revision(&self) -> i64 {
        self.next.unwrap_or(0)
    }

    /// Notes that its stream ended: what is not whole is forgotten.
    pub fn broken(&mut self) {
        self.note("broken", 0);
        self.open = None;
    }

    /// Notes that the member confirmed the watcher.
    pub fn created(&mut self, revision: i64) {
        self.note("created", revision);
        if self.next.is_none() {
            self.next = Some(revision + 1);
            self.settled = revision;
        }
    }

    /// Takes a response with events.
    ///
    /// # Errors
    /// When they cannot follow what came before.
    pub fn take(&mut self, revision: i64, events: Vec<Event>, more: bool) -> Result<(), String> {
        let mut next = self.next.ok_or("events before the watcher was created")?;
        self.counts.pieces += u64::from(more);
        self.note(if more { "piece" } else { "events" }, revision);
        for event in events {
            let at = event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
            if at < next || self.open.as_ref().is_some_and(|(open, _)| at < *open) {
                return Err(format!(
                    "an event of revision {at} when {next} was next: {event:?}"
                ));
            }
            if at > revision {
                return Err(format!("an event of {at} under a header of {revision}"));
            }
            match &mut self.open {
                Some((open, events)) if *open == at => events.push(event),
                _ => {
                    self.close();
                    next = self.next.unwrap_or(next);
                    self.open = Some((at, vec![event]));
                }
            }
        }
        if !more {
            self.close();
        }
        Ok(())
    }

    /// Notes that the revision under delivery is whole.
    fn close(&mut self) {
        if let Some((revision, events)) = self.open.take() {
            self.delivered = revision;
            self.next = Some(revision + 1);
            self.seen.push_back(Seen::Events(revision, events));
        }
    }

    /// Takes the promise that everything up to `revision` has been delivered.
    ///
    /// # Errors
    /// When more than that has been delivered, or a response is not whole.
    pub fn progress(&mut self, revision: i64) -> Result<(), String> {
        let next = self.next.ok_or("progress before the watcher was created")?;
        if self.open.is_some() {
            return Err("progress amid the pieces of a response".to_owned());
        }
        if revision < self.delivered {
            return Err(format!(
                "progress at {revision} behind an event of {}",
                self.delivered
            ));
        }
        self.counts.progress += 1;
        self.note("progress", revision);
        // A watcher whose start lies ahead, or that was already told more, learns nothing.
        if revision >= next {
            self.next = Some(revision + 1);
            self.seen.push_back(Seen::CoveredTo(revision));
        }
        Ok(())
    }

    /// Notes that the member ended the watcher because history is gone; it may go on at `revision`.
    ///
    /// # Errors
    /// When the watcher did not need that history, or nobody asked to compact that much.
    pub fn compacted(&mut self, revision: i64, asked: i64) -> Result<(), String> {
        let next = self
            .next
            .ok_or("compacted before the watcher was created")?;
        if next >= revision || revision > asked {
            return Err(format!(
                "cancelled by a compaction to {revision} of at most {asked} when {next} was next"
            ));
        }
        self.note("compacted", revision);
        self.open = None;
        self.next = Some(revision);
        self.seen.push_back(Seen::Compacted(revision));
        Ok(())
    }

    /// Compares what came with the history, as far as that is known.
    ///
    /// # Errors
    /// What is lost, or is not as it happened.
    pub fn settle(&mut self, history: &History, compacted_perhaps: i64) -> Result<(), String> {
        let known = history.known();
        while let Some(seen) = self.seen.front() {
            let (Seen::Events(to, _) | Seen::CoveredTo(to) | Seen::Compacted(to)) = seen;
            if *to > known {
                break;
            }
            match self.seen.pop_front() {
                Some(Seen::Events(revision, events)) => {
                    self.nothing_between(history, revision - 1)?;
                    self.compare(history, revision, &events, compacted_perhaps)?;
                    self.settled = revision;
                }
                Some(Seen::CoveredTo(revision)) => self.nothing_between(history, revision)?,
                Some(Seen::Compacted(revision)) => {
                    for gone in self.settled + 1..revision {
                        let events = history.events(gone);
                        let taken = events.iter().filter(|event| self.selection.takes(event));
                        self.counts.compacted += taken.count() as u64;
                    }
                    self.settled = revision - 1;
                }
                None => (),
            }
        }
        Ok(())
    }

    /// Whether everything up to `last`, which the history reaches, has come and was compared.
    pub fn is_complete(&self, history: &History, last: i64) -> bool {
        let Some(next) = self.next else {
            return false;
        };
        let is_silent = |revision| {
            let events = history.events(revision);
            !events.iter().any(|event| self.selection.takes(event))
        };
        self.seen.is_empty() && (next..=last).all(is_silent)
    }

    /// Where the watcher is, for a report of what is missing.
    pub fn position(&self) -> String {
        let Checker {
            selection,
            next,
            settled,
            trace,
            ..
        } = self;
        format!("{selection:?}: next {next:?}, settled {settled}, last {trace:?}")
    }

    /// Checks that nothing the watcher selects happened behind what is settled, up to `to`.
    fn nothing_between(&mut self, history: &History, to: i64) -> Result<(), String> {
        for revision in self.settled + 1..=to {
            let events = history.events(revision);
            if let Some(event) = events.iter().find(|event| self.selection.takes(event)) {
                return Err(format!("lost of revision {revision}: {event:?}"));
            }
        }
        self.settled = to.max(self.settled);
        Ok(())
    }

    fn compare(
        &mut self,
        history: &History,
        revision: i64,
        came: &[Event],
        compacted_perhaps: i64,
    ) -> Result<(), String> {
        // The former record is read at the revision before, which may be compacted.
        let may_lack_old = !self.selection.prev_kv || revision - 1 < compacted_perhaps;
        let is_right = |came: &Event, truth: &Event| {
            let is_old_right = (self.selection.prev_kv && came.prev_kv == truth.prev_kv)
                || (may_lack_old && came.prev_kv.is_none());
            is_old_right && came.kv == truth.kv && came.r#type == truth.r#type
        };
        let truth = history.events(revision);
        let expected: Vec<_> = truth
            .iter()
            .filter(|event| self.selection.takes(event))
            .collect();
        let mut both = came.iter().zip(&expected);
        if expected.len() != came.len() || !both.all(|(came, truth)| is_right(came, truth)) {
            return Err(format!(
                "revision {revision} came as {came:?}, not as {expected:?}, with history below \
                 {compacted_perhaps} compacted perhaps"
            ));
        }
        self.counts.events += came.len() as u64;
        Ok(())
    }
}
