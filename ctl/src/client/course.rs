//! Where a watch is and where it goes on after its connection broke: pure decisions over the
//! server's answers, so that nothing is missed and nothing comes twice.

use althing_api::error::Error as ApiError;
use althing_api::etcdserverpb::WatchResponse;

/// Reasons for a cancel that a fresh login cures. Servers put the whole status into the reason.
const LAPSED_TEXTS: [&str; 2] = [
    "rpc error: code = Unauthenticated desc = etcdserver: invalid auth token",
    "rpc error: code = InvalidArgument desc = etcdserver: revision of auth store is old",
];

/// What an answer means for the caller of a watch.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Nothing to report.
    Silent,
    /// Events, or a progress notification when there are none.
    Show(WatchResponse),
    /// The server ended the watch, for this reason.
    Canceled(WatchResponse, String),
    /// The server wants a newer login.
    Renew,
}

/// The next revision that has not been seen.
#[derive(Clone, Copy, Debug)]
pub struct Course {
    next: i64,
}

impl Course {
    /// Begins at `start`; 0 stands for what comes next, which the server's first answer pins down.
    pub fn new(start: i64) -> Course {
        Course { next: start }
    }

    /// The start revision of the request that begins or resumes the watch.
    pub fn next(self) -> i64 {
        self.next
    }

    /// Judges an answer and moves on.
    pub fn take(&mut self, mut answer: WatchResponse) -> Step {
        let revision = answer.header.unwrap_or_default().revision;
        if answer.canceled {
            return canceled(answer);
        }
        if answer.created {
            // What happens while the connection is broken counts from here on.
            if self.next == 0 {
                self.next = revision + 1;
            }
            return Step::Silent;
        }
        if answer.events.is_empty() {
            // An answer to a request for progress bears no watch's id. Old servers send it too
            // early, so that only a watch's own notification may move its start.
            if answer.watch_id >= 0 {
                self.next = self.next.max(revision + 1);
            }
            return if revision == 0 {
                Step::Silent
            } else {
                Step::Show(answer)
            };
        }
        let of =
            |event: &althing_api::mvccpb::Event| event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
        let seen = self.next;
        answer.events.retain(|event| of(event) >= seen);
        match answer.events.iter().map(of).max() {
            Some(last) => {
                self.next = last + 1;
                Step::Show(answer)
            }
            None => Step::Silent,
        }
    }
}

fn canceled(mut answer: WatchResponse) -> Step {
    let reason = std::mem::take(&mut answer.cancel_reason);
    if LAPSED_TEXTS.contains(&reason.as_str()) {
        return Step::Renew;
    }
    // etcd's clients show no header when the watch never came to be.
    if answer.created {
        answer = WatchResponse {
            canceled: true,
            ..WatchResponse::default()
        };
    }
    let reason = if answer.compact_revision != 0 {
        ApiError::Compacted.text().to_owned()
    } else if reason.is_empty() {
        ApiError::FutureRevision.text().to_owned()
    } else {
        reason
    };
    Step::Canceled(answer, reason)
}

#[cfg(test)]
#[path = "course_test.rs"]
mod tests;
