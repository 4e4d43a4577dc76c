//! How far watchers were told everything.

use super::super::message::ProgressOf;
use super::super::outlet::Notice;
use super::FanOut;

impl FanOut {
    /// Answers when all that is committed by now was fanned out.
    pub(in crate::watch_hub) fn request_progress(&mut self, id: u64, of: ProgressOf) {
        let Some(number) = self.by_id.get(&id).copied() else {
            return;
        };
        let stream = &mut self.streams[number as usize];
        if of.stream {
            stream.outlet.take_progress_asked();
        }
        match &mut stream.progress {
            Some(waiting) => waiting.absorb(of),
            None => {
                stream.progress = Some(of);
                let revision = self.store.revisions().current;
                self.awaiting_progress.push((number, revision));
            }
        }
        self.answer_progress();
    }

    pub(super) fn answer_progress(&mut self) {
        let current = self.current;
        let is_reached = |(_, revision): &mut (u32, i64)| *revision <= current;
        let reached: Vec<_> = self.awaiting_progress.extract_if(.., is_reached).collect();
        for (number, _) in reached {
            match self.told_beyond(number) {
                // What is said now would go back behind events that were told.
                Some(revision) => self.awaiting_progress.push((number, revision)),
                None => self.tell_progress(number),
            }
        }
    }

    /// How far a watcher that is asked about was told while it caught up, if that is further than
    /// the others are.
    fn told_beyond(&self, number: u32) -> Option<i64> {
        let stream = &self.streams[number as usize];
        let of = stream.progress.as_ref()?;
        let chosen = of.watchers.iter();
        let chosen = chosen.filter_map(|watch_id| stream.watchers.get(watch_id));
        let all = of.stream.then(|| stream.watchers.values());
        let asked = chosen.chain(all.into_iter().flatten());
        let entries = asked.map(|watcher| self.watchers.get(*watcher));
        let synced = entries.filter(|entry| !entry.is_behind && !entry.awaits_start);
        let told = synced.map(|entry| entry.next - 1);
        told.max().filter(|told| *told > self.current)
    }

    /// Tells what is true of the watchers that were asked about. As in etcd, nothing is said of
    /// those that are behind: who asked has to ask again.
    fn tell_progress(&mut self, number: u32) {
        let stream = &mut self.streams[number as usize];
        let Some(of) = stream.progress.take() else {
            return;
        };
        if stream.is_blocked || !stream.outlet.has_room() {
            stream.is_blocked = true;
            return;
        }
        let stream = &self.streams[number as usize];
        let revision = self.current;
        let tell = |watch_id| stream.outlet.push(Notice::Progress { watch_id, revision });
        for watch_id in of.watchers {
            let watcher = stream.watchers.get(&watch_id);
            if watcher.is_some_and(|watcher| self.is_level(*watcher)) {
                tell(Some(watch_id));
            }
        }
        let mut all = stream.watchers.values();
        if of.stream && all.len() > 0 && all.all(|watcher| self.is_level(*watcher)) {
            tell(None);
        }
    }

    /// Whether a watcher was told everything up to `current`.
    fn is_level(&self, watcher: u32) -> bool {
        let entry = self.watchers.get(watcher);
        let is_ahead = entry.awaits_start && entry.next > self.current;
        !entry.is_behind && !is_ahead
    }
}
