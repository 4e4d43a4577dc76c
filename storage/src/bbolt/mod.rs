//! bbolt's file format, as etcd's snapshots use it: written in one pass from sorted entries, and
//! read without trust. Sources: bbolt's `page.go`, `meta.go`, `bucket.go`.
//!
//! ```text
//!  page 0, 1: meta | page 2: free list, empty | leaves and branches, children first | root leaf
//!  page = number u64, kind u16, count u16, further pages u32, elements, their keys and values
//! ```
//! All numbers are little-endian. A bucket is a B+tree of its own; the root tree maps names to
//! buckets. The meta pages come first but tell where the root is and how many pages there are, so
//! a file is laid out twice: a [`Writer`] that measures, without values, and one that writes.
//! Memory is one page of each level, and the largest value.
//!
//! The crates that implement bbolt (`bbolt-rs`, `nut`) are whole databases over a mapped file, with
//! the unsafe code that this takes; they write a file only in place and keep its changed pages in
//! memory, so a snapshot could not be streamed.
//!
//! Owns nothing; every failure is a value.

mod page;
mod read;
mod write;

pub use read::{Bucket, Entries, Reader};
pub use write::{Layout, Value, Writer};

use std::io;

/// Why a file could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum BboltError {
    /// The file or the stream failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The file does not begin like a bbolt file.
    #[error("not a snapshot of etcd: {0}")]
    Foreign(&'static str),
    /// The file's pages contradict each other.
    #[error("damaged at page {page}: {what}")]
    Damaged {
        /// The page.
        page: u64,
        /// What is wrong with it.
        what: &'static str,
    },
}

#[cfg(test)]
mod bbolt_test;
