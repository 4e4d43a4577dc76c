//! The ways of requests to raft, from this member's clients and from other members.
//!
//! A client's command is proposed in its caller's task (`propose`), which collects its neighbours
//! (`outbox`) and goes to the leader wherever that is; its read waits for a round that many share
//! (`read_index`). All that other members send comes in at one entrance (`inbound`), and what their
//! raft says to ours is passed on in the order of its arrival (`step`).

pub(super) mod inbound;
pub(super) mod outbox;
pub(super) mod propose;
pub(super) mod read_index;
pub(super) mod step;
