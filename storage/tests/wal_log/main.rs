//! The write-ahead log as a whole: against a plain model, through power loss at every operation,
//! with damaged files, and without space.

mod crash;
mod damage;
mod lag;
mod model;
mod plan;
mod real_files;
mod space;

use althing_storage::entry::{Entry, EntryKind, LogId, Vote};
use althing_storage::error::OpenError;
use althing_storage::wal::faulty_disk::FaultyDisk;
use althing_storage::wal::{Background, Recovery, Wal, WalSettings};
use std::path::Path;
use std::sync::Arc;

const DIR: &str = "/wal";

fn settings(segment_bytes: u64, tail_bytes: usize) -> WalSettings {
    WalSettings {
        segment_bytes,
        tail_bytes,
    }
}

fn open(disk: &FaultyDisk, segment_bytes: u64) -> Result<(Wal, Recovery), OpenError> {
    let settings = settings(segment_bytes, 300);
    Wal::open_on(
        Arc::new(disk.clone()),
        Path::new(DIR),
        settings,
        Background::Inline,
    )
}

fn id(term: u64, index: u64) -> LogId {
    LogId { term, index }
}

/// An entry whose payload tells which one it is.
fn entry(term: u64, index: u64, payload_bytes: usize) -> Entry {
    let text = format!("<{term}.{index}>");
    let payload: Vec<u8> = text.bytes().cycle().take(payload_bytes).collect();
    Entry {
        id: id(term, index),
        kind: EntryKind::Command,
        payload: payload.into(),
    }
}

fn vote(term: u64) -> Vote {
    Vote {
        term,
        voted_for: Some(7),
        committed: term.is_multiple_of(2),
    }
}

/// Pushes and appends, as the log's owner does.
fn append(wal: &mut Wal, entries: &[Entry]) {
    wal.tail().push(entries);
    wal.append(entries);
}

fn all_entries(wal: &Wal) -> Vec<Entry> {
    wal.tail()
        .read(0..u64::MAX, usize::MAX)
        .expect("every entry can be read")
}

/// The seeds of `count` random runs; `SEED=n` replays one.
fn seeds(count: u64) -> std::ops::Range<u64> {
    match std::env::var("SEED") {
        Ok(seed) => {
            let seed = seed.parse().expect("SEED is a number");
            seed..seed + 1
        }
        Err(_) => 0..count,
    }
}
