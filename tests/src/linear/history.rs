//! What clients did and saw. Keys and values are numbers, which a harness spells as it likes; a
//! value is written at most once in a history, so that a read shows which write it saw.

use std::fmt;

/// One request of one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// The client that asked. A client makes one request at a time.
    pub client: usize,
    /// The member that was asked.
    pub member: usize,
    /// What was asked for.
    pub action: Action,
    /// The time before it was sent.
    pub called: u64,
    /// The time after its outcome was known, or the client gave up.
    pub ended: u64,
    /// What came of the request.
    pub outcome: Outcome,
}

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Write a value.
    Put(u32, u64),
    /// Read a key, linearizably.
    Get(u32),
    /// Delete a key.
    Delete(u32),
    /// Write a value if the key has the expected one (or none), otherwise read the key; one txn.
    Replace {
        /// The key.
        key: u32,
        /// The value that must be there; `None` means that the key must not exist.
        expected: Option<u64>,
        /// The value afterwards.
        value: u64,
    },
}

/// What came of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered.
    Done(Answer),
    /// It did not take place and never will.
    Failed,
    /// It took place, or will, or never will: the answer is lost.
    Unknown,
}

/// An answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The revision of its header: that of the write, or the one that was read.
    pub revision: i64,
    /// Whether it changed the key; for a Replace, whether its comparison held.
    pub changed: bool,
    /// What it says about the key before the change.
    pub seen: Seen,
}

/// What an answer says about a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// The request did not ask for it.
    Nothing,
    /// The key does not exist.
    Absent,
    /// The key exists.
    Record(Record),
}

/// A key at one revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// The value that was last written.
    pub value: u64,
    /// The revision that created the key.
    pub created: i64,
    /// The revision of the last write.
    pub modified: i64,
    /// The number of writes since the creation.
    pub version: i64,
}

/// What one revision did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// The revision.
    pub revision: i64,
    /// The key that it changed.
    pub key: u32,
    /// The new value; `None` if the key was deleted.
    pub value: Option<u64>,
}

impl Action {
    /// The key that the request is about.
    pub fn key(self) -> u32 {
        match self {
            Action::Put(key, _) | Action::Get(key) | Action::Delete(key) => key,
            Action::Replace { key, .. } => key,
        }
    }

    /// The value that the request writes if it takes place.
    pub fn value(self) -> Option<u64> {
        match self {
            Action::Put(_, value) | Action::Replace { value, .. } => Some(value),
            Action::Get(_) | Action::Delete(_) => None,
        }
    }
}

impl Operation {
    /// The answer, if there is one.
    pub fn answer(&self) -> Option<Answer> {
        match self.outcome {
            Outcome::Done(answer) => Some(answer),
            Outcome::Failed | Outcome::Unknown => None,
        }
    }

    /// Whether the operation is the write of a revision, as its answer says.
    pub fn wrote(&self) -> bool {
        self.answer().is_some_and(|answer| answer.changed)
    }
}

impl Seen {
    /// The record, if one was seen.
    pub fn record(self) -> Option<Record> {
        match self {
            Seen::Record(record) => Some(record),
            Seen::Nothing | Seen::Absent => None,
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Operation {
            client,
            member,
            action,
            called,
            ended,
            ..
        } = self;
        write!(
            f,
            "client {client} on member {member}, {called}..{ended}: {action:?}"
        )?;
        match self.outcome {
            Outcome::Done(answer) => {
                let what = match self.action {
                    Action::Get(_) => "read",
                    _ if answer.changed => "written",
                    _ => "unchanged",
                };
                write!(f, " -> {what} at {}, {:?}", answer.revision, answer.seen)
            }
            Outcome::Failed => f.write_str(" -> failed"),
            Outcome::Unknown => f.write_str(" -> unknown"),
        }
    }
}
