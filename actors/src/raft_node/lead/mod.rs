//! Who leads: what this member believes of it, what it does as the leader, and how a lead ends.
//!
//! A follower notes when its leader was `heard`, takes a silent one for none (`leader_view`), and
//! has a `dead_leader` replaced at once, in turns with the others (`suspicion`). A leader proves
//! its lead (`proof`), answers reads without a round as the `sole_voter`, and hands over
//! (`hand_over`) when it is asked to or when its disk hangs (`stall`). openraft holds the
//! elections; what is here only makes them come sooner, and keeps what a member says of its leader
//! true.

pub(super) mod dead_leader;
pub(super) mod hand_over;
pub(super) mod heard;
pub(super) mod leader_view;
mod proof;
pub(super) mod sole_voter;
pub(super) mod stall;
mod suspicion;
