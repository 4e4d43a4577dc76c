//! A change of the membership: what is asked for, and what became of it.

use std::fmt;

use althing_api::id::MemberId;

use crate::node::MemberStatus;

/// A change of the membership that a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberChange {
    /// A new member.
    Add {
        /// Its id, which no member ever had.
        id: MemberId,
        /// The URLs where the others reach it.
        peer_urls: Vec<String>,
        /// Whether it stays without a vote until it is promoted.
        is_learner: bool,
    },
    /// This member leaves for good.
    Remove(MemberId),
    /// This member is reached elsewhere.
    Update {
        /// The member's id.
        id: MemberId,
        /// The URLs where the others reach it.
        peer_urls: Vec<String>,
    },
    /// This learner gets a vote.
    Promote(MemberId),
}

impl fmt::Display for MemberChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MemberChange::Add {
                id,
                peer_urls,
                is_learner,
            } => {
                let part = if *is_learner { "learner" } else { "voter" };
                write!(f, "add {part} {id} at {}", peer_urls.join(","))
            }
            MemberChange::Remove(id) => write!(f, "remove {id}"),
            MemberChange::Update { id, peer_urls } => {
                write!(f, "update {id} to {}", peer_urls.join(","))
            }
            MemberChange::Promote(id) => write!(f, "promote {id}"),
        }
    }
}

/// Whether a change is asked for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    First,
    /// An earlier attempt may have made the change.
    Again,
}

/// What became of a change at one member.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// The change is committed, and applied at the leader.
    Done {
        /// The place of its last entry in the log.
        index: u64,
        /// The members after the change.
        members: Vec<MemberStatus>,
    },
    /// The change is not made: another member leads, or it has to be asked for again.
    Elsewhere,
    /// The lead was lost on the way; the next leader knows whether the change is made.
    Unsure,
}
