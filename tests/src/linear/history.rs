//! What clients did and saw. Keys and values are numbers, which a harness spells as it likes; a
//! value is written at most once in a history, so that who reads it knows who wrote it.

use std::fmt;

/// One request of one client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Who asked. A client asks one thing at a time.
    pub client: usize,
    /// Who was asked.
    pub member: usize,
    /// What was asked for.
    pub action: Action,
    /// Before it was sent.
    pub called: u64,
    /// After its outcome was known, or was given up.
    pub ended: u64,
    /// What came of it.
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
        /// Where.
        key: u32,
        /// What must be there; none: no such key.
        expected: Option<u64>,
        /// What is there afterwards.
        value: u64,
    },
}

/// What came of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered.
    Done(Answer),
    /// It certainly did not take place and never will.
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
    /// What it told about the key before it changed it.
    pub seen: Seen,
}

/// What an answer tells about a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It was not asked to tell.
    Nothing,
    /// There is no such key.
    Absent,
    /// There is one.
    Record(Record),
}

/// A key at one revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// What was last written.
    pub value: u64,
    /// The revision at which the key came to be.
    pub created: i64,
    /// The revision of the last write.
    pub modified: i64,
    /// How many writes it had since it came to be.
    pub version: i64,
}

/// What one revision did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// The revision.
    pub revision: i64,
    /// Which key it changed.
    pub key: u32,
    /// The new value; none: the key was deleted.
    pub value: Option<u64>,
}

impl Action {
    /// The key that it is about.
    pub fn key(self) -> u32 {
        match self {
            Action::Put(key, _) | Action::Get(key) | Action::Delete(key) => key,
            Action::Replace { key, .. } => key,
        }
    }

    /// The value that it writes if it takes place.
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

    /// Whether it is the write of a revision, as its answer says.
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
