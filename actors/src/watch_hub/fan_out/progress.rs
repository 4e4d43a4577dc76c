//! How far watchers were told everything.

use super::super::message::ProgressOf;
use super::super::outlet::Notice;
use super::FanOut;

/// A question that cannot be answered yet.
#[derive(Debug)]
pub(super) struct Question {
    of: ProgressOf,
    /// The revision up to which everything must be fanned out first.
    revision: i64,
}

impl FanOut {
    /// Answers once all that is committed by now was fanned out.
    pub(in crate::watch_hub) fn request_progress(&mut self, id: u64, of: ProgressOf) {
        let Some(number) = self.by_id.get(&id).copied() else {
            return;
        };
        if let ProgressOf::Watchers(watchers) = &of
            && let Some(waiting) = self.waiting_for_watchers(number)
        {
            // A timer asks again and again; watchers that got events meanwhile need not be told.
            waiting.clone_from(watchers);
        } else {
            let revision = self.store.revisions().current;
            self.answer_later(number, Question { of, revision });
        }
        self.answer_progress();
    }

    /// The watchers of the timer's question that waits, if one does.
    fn waiting_for_watchers(&mut self, number: u32) -> Option<&mut Vec<i64>> {
        let questions = self.streams[number as usize].questions.iter_mut();
        let mut of_timer = questions.filter_map(|question| match &mut question.of {
            ProgressOf::Watchers(watchers) => Some(watchers),
            ProgressOf::Stream => None,
        });
        of_timer.next()
    }

    fn answer_later(&mut self, number: u32, question: Question) {
        let questions = &mut self.streams[number as usize].questions;
        if questions.is_empty() {
            self.awaiting_progress.push(number);
        }
        questions.push(question);
    }

    /// Answers all questions that can be answered by now.
    pub(super) fn answer_progress(&mut self) {
        let current = self.current;
        let is_reached = |number: &mut u32| {
            let stream = &self.streams[*number as usize];
            let mut questions = stream.questions.iter();
            stream.watchers.is_empty() || questions.any(|question| question.revision <= current)
        };
        let reached: Vec<u32> = self.awaiting_progress.extract_if(.., is_reached).collect();
        for number in reached {
            let stream = &mut self.streams[number as usize];
            // There is nothing to wait for without watchers.
            let is_idle = stream.watchers.is_empty();
            for mut question in std::mem::take(&mut stream.questions) {
                if is_idle || question.revision <= current {
                    match self.told_beyond(number, &question.of) {
                        // An answer now would go back behind events that were told.
                        Some(revision) => question.revision = revision,
                        None => {
                            self.tell_progress(number, &question.of);
                            continue;
                        }
                    }
                }
                self.answer_later(number, question);
            }
        }
    }

    /// How far a watcher in question was told while it caught up, if that is further than the
    /// fan-out is.
    fn told_beyond(&self, number: u32, of: &ProgressOf) -> Option<i64> {
        let stream = &self.streams[number as usize];
        let told = |watcher: &u32| {
            let entry = self.watchers.get(*watcher);
            (!entry.is_behind && !entry.awaits_start).then_some(entry.next - 1)
        };
        let told = match of {
            ProgressOf::Stream => stream.watchers.values().filter_map(told).max(),
            ProgressOf::Watchers(ids) => {
                let asked = ids.iter().filter_map(|id| stream.watchers.get(id));
                asked.filter_map(told).max()
            }
        };
        told.filter(|told| *told > self.current)
    }

    /// Tells what is true of the watchers in question. As in etcd, nothing is said of those that
    /// are behind: the client has to ask again.
    fn tell_progress(&mut self, number: u32, of: &ProgressOf) {
        let revision = self.current;
        let stream = &self.streams[number as usize];
        let tell = |watch_id| stream.outlet.push(Notice::Progress { watch_id, revision });
        match of {
            ProgressOf::Stream => {
                let mut all = stream.watchers.values();
                if all.len() > 0 && all.all(|watcher| self.is_level(*watcher)) {
                    tell(None);
                } else {
                    stream.outlet.push(Notice::NoProgress);
                }
            }
            ProgressOf::Watchers(_) if stream.is_blocked || !stream.outlet.has_room() => {
                self.streams[number as usize].is_blocked = true;
            }
            ProgressOf::Watchers(ids) => {
                for watch_id in ids {
                    let watcher = stream.watchers.get(watch_id);
                    if watcher.is_some_and(|watcher| self.is_level(*watcher)) {
                        tell(Some(*watch_id));
                    }
                }
            }
        }
    }

    /// Whether a watcher was told everything up to `current`.
    fn is_level(&self, watcher: u32) -> bool {
        let entry = self.watchers.get(watcher);
        let is_ahead = entry.awaits_start && entry.next > self.current;
        !entry.is_behind && !is_ahead
    }
}
