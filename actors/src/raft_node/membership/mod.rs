//! Who is a member, and how that changes.
//!
//! A `change` is asked for in its caller's task (`ask`), judged by etcd's rules (`roster`), and
//! made by the leader, one at a time (`reconfigure`), which also finishes what a former leader
//! began. It travels in the log as bytes (`encoding`), and what it led to is shown to other threads
//! (`members`).

mod ask;
pub(super) mod change;
mod encoding;
pub(super) mod members;
pub(super) mod reconfigure;
mod roster;

pub(super) use self::encoding::encode;
pub(crate) use self::encoding::{decode, removed};
