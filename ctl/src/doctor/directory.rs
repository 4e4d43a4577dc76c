//! What is wrong with a data directory, and with the disk it is on.

use std::path::PathBuf;

use super::Finding;
use crate::print::{counted, human_bytes};

/// With less space than this a member cannot begin a segment of its log, in bytes.
const FREE_BYTES_MIN: u64 = 64 << 20;
/// With less space than this a disk is nearly full, in bytes.
const FREE_BYTES_LOW: u64 = 512 << 20;
/// A file is worth copying if it is this large, in bytes, and mostly empty.
const FRAGMENTED_BYTES_MIN: u64 = 64 << 20;
/// The permissions of other users, none of which a directory of keys should grant.
const MODE_OF_OTHERS: u32 = 0o077;

/// What was seen of a data directory.
#[derive(Clone, Debug, Default)]
pub struct DirectoryFacts {
    /// The directory.
    pub path: PathBuf,
    /// Why it cannot be looked at.
    pub refusal: Option<Refusal>,
    /// Its permissions.
    pub mode: u32,
    /// The user that it belongs to.
    pub owner: u32,
    /// Space left on its disk for this user.
    pub free_bytes: Option<u64>,
    /// Size of its disk.
    pub disk_bytes: Option<u64>,
    /// Files that do not belong there.
    pub strays: Vec<(Stray, PathBuf)>,
    /// What it holds; `None` if no member began there, or it cannot be looked at.
    pub held: Option<Held>,
}

/// Why something could not be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusal {
    /// The kind of trouble.
    pub what: &'static str,
    /// Where the trouble is, and what it is.
    pub text: String,
    /// What to do.
    pub remedy: String,
}

/// Why a file does not belong there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stray {
    /// It belongs to another user than the directory.
    Foreign,
    /// A member was ended while it wrote it; the next start removes it.
    Unfinished,
    /// No member makes such a file.
    Unknown,
}

/// What a member's directory holds, each as far as it can be read.
#[derive(Clone, Debug)]
pub struct Held {
    /// The member that it belongs to; `None` if it is nobody's yet.
    pub identity: Result<Option<String>, Refusal>,
    /// The write-ahead log; `None` if it does not exist.
    pub log: Result<Option<Log>, Refusal>,
    /// The store; `None` if it does not exist.
    pub store: Result<Option<Stored>, Refusal>,
    /// Why log and store do not belong together.
    pub mismatch: Option<String>,
}

/// A log that can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Its first entry.
    pub first_index: u64,
    /// Its last entry.
    pub last_index: u64,
    /// The file and the offset in it after which a write was cut short.
    pub torn: Option<(PathBuf, u64)>,
}

/// A store that can be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// The index of the last log entry that it has applied.
    pub applied_index: u64,
    /// Its revision.
    pub revision: i64,
    /// History before this revision is gone; 0 if all of it is there.
    pub compacted: i64,
    /// Live keys.
    pub keys: u64,
    /// What its file takes on the disk.
    pub file_bytes: u64,
    /// How much of that is in use.
    pub used_bytes: u64,
    /// Active alarms, in words.
    pub alarms: Vec<String>,
}

/// What was looked at, in a sentence.
pub fn examined(facts: &DirectoryFacts) -> String {
    let path = facts.path.display();
    let Some(held) = &facts.held else {
        return format!("data directory {path}");
    };
    let mut text = format!("data directory {path}");
    if let Ok(Some(identity)) = &held.identity {
        text.push_str(&format!(" of {identity}"));
    }
    if let Ok(Some(log)) = &held.log {
        let (first, last) = (log.first_index, log.last_index);
        text.push_str(&if first > last {
            format!("; empty log behind entry {last}")
        } else {
            format!("; log from entry {first} to {last}")
        });
    }
    if let Ok(Some(store)) = &held.store {
        text.push_str(&format!(
            "; store to entry {}, revision {}, {}, {}",
            store.applied_index,
            store.revision,
            counted(store.keys, "key"),
            human_bytes(store.file_bytes)
        ));
    }
    text
}

/// Everything that is to be said about a data directory.
pub fn judge(facts: &DirectoryFacts) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(
        facts
            .refusal
            .as_ref()
            .map(|refusal| refused(facts, refusal)),
    );
    findings.extend(space(facts));
    let is_open = facts.mode & MODE_OF_OTHERS != 0;
    if facts.held.is_some() && is_open {
        let path = facts.path.display();
        let text = format!(
            "its permissions are {:o}: others may look into it",
            facts.mode
        );
        findings.push(
            Finding::warning("directory-open", path.to_string(), text)
                .because("it holds every key and value, whatever users and roles say")
                .so(format!("chmod 700 {path}")),
        );
    }
    findings.extend(strays(facts));
    match &facts.held {
        Some(held) => findings.extend(contents(facts, held)),
        None if facts.refusal.is_none() => {
            let text = "is empty: no member ever began there";
            findings.push(
                Finding::note("directory-empty", facts.path.display().to_string(), text).so(
                    "start althingd with it; a member that was here before has to be removed \
                         and added again",
                ),
            );
        }
        None => {}
    }
    findings
}

fn refused(facts: &DirectoryFacts, refusal: &Refusal) -> Finding {
    let place = facts.path.display().to_string();
    let text = &refusal.text;
    if refusal.what == "directory-in-use" {
        let text = "a member runs with it, so that its files cannot be looked at";
        return Finding::note(refusal.what, place, text)
            .so("ask the member: althingctl --endpoints URL doctor; or stop it first");
    }
    let why = match refusal.what {
        "wal-damaged" | "wal-incomplete" => {
            "entries that were acknowledged are gone from this disk; other members have them"
        }
        "store-damaged" => "the state is not what was written; other members have it",
        "identity-damaged" => "who this member is cannot be told, so that it must not take part",
        _ => "althingd refuses to start with it",
    };
    let finding = Finding::error(refusal.what, place, text).because(why);
    finding.so(&refusal.remedy)
}

fn space(facts: &DirectoryFacts) -> Option<Finding> {
    let free = facts.free_bytes?;
    let disk = facts.disk_bytes.unwrap_or(0);
    if free >= FREE_BYTES_LOW.min(disk / 10) && free >= FREE_BYTES_MIN {
        return None;
    }
    let place = facts.path.display().to_string();
    let text = format!(
        "{} of {} are free on its disk",
        human_bytes(free),
        human_bytes(disk)
    );
    let (what, why) = (
        "disk-nearly-full",
        "on a full disk the member refuses to write",
    );
    let finding = if free < FREE_BYTES_MIN {
        Finding::error(what, place, text)
    } else {
        Finding::warning(what, place, text)
    };
    Some(finding.because(why).so(
        "make room on the disk, or set a lower --quota-backend-bytes; althingctl defrag gives \
         unused space of the store back",
    ))
}

fn strays(facts: &DirectoryFacts) -> Vec<Finding> {
    let of = |kind: Stray| {
        let same = facts.strays.iter().filter(|(stray, _)| *stray == kind);
        let paths: Vec<String> = same.map(|(_, path)| path.display().to_string()).collect();
        (!paths.is_empty()).then(|| paths.join(", "))
    };
    let place = facts.path.display().to_string();
    let mut findings = Vec::new();
    if let Some(paths) = of(Stray::Foreign) {
        let text = format!("of another user than the directory: {paths}");
        findings.push(
            Finding::error("wrong-owner", &place, text)
                .because("althingd cannot write them; mostly it was once started by root")
                .so(format!("chown -R --reference={place} {place}")),
        );
    }
    if let Some(paths) = of(Stray::Unknown) {
        let text = format!("no member makes: {paths}");
        findings.push(
            Finding::warning("unknown-file", &place, text)
                .because("althingd leaves it alone, and it takes space")
                .so("move it elsewhere"),
        );
    }
    if let Some(paths) = of(Stray::Unfinished) {
        let text = format!("left by a member that was ended while it wrote: {paths}");
        let finding = Finding::note("left-over", &place, text);
        findings.push(finding.so("nothing: the next start removes it"));
    }
    findings
}

fn contents(facts: &DirectoryFacts, held: &Held) -> Vec<Finding> {
    let place = facts.path.display().to_string();
    let mut findings = Vec::new();
    let refusals = [
        held.identity.as_ref().err(),
        held.log.as_ref().err(),
        held.store.as_ref().err(),
    ];
    let refusals = refusals.into_iter().flatten();
    findings.extend(refusals.map(|refusal| refused(facts, refusal)));
    let last = held.log.as_ref().ok().and_then(Option::as_ref);
    let last = last.map_or(0, |log| log.last_index);
    if matches!(held.identity, Ok(None)) && last > 0 {
        let text = "holds data, but not the identity of the member (member/id)";
        findings.push(
            Finding::error("identity-missing", &place, text)
                .because("althingd refuses to start: it must not be taken for another member")
                .so(
                    "bring member/id back from a backup, or empty the directory and add the \
                     member to its cluster again",
                ),
        );
    }
    if let Ok(Some(log)) = &held.log
        && let Some((file, offset)) = &log.torn
    {
        let text = format!(
            "a write was cut short at offset {offset} of {}",
            file.display()
        );
        findings.push(
            Finding::note("wal-torn", &place, text)
                .because("it was never acknowledged, so that nothing is lost")
                .so("nothing: the next start cuts it off"),
        );
    }
    if let Some(mismatch) = &held.mismatch {
        findings.push(
            Finding::error("wal-and-store-differ", &place, mismatch)
                .because("they are not of one moment: one of them was copied or restored alone")
                .so(
                    "bring both back from the same backup, or remove the member, empty the \
                     directory and add the member again",
                ),
        );
    }
    if let Ok(Some(store)) = &held.store {
        findings.extend(store.alarms.iter().map(|alarm| {
            Finding::warning("alarm", &place, format!("the alarm {alarm} is active"))
                .because("the cluster refuses writes while it is")
                .so("start the cluster and ask again: althingctl --endpoints URL doctor")
        }));
        let (file, used) = (store.file_bytes, store.used_bytes);
        if file >= FRAGMENTED_BYTES_MIN && used < file / 2 {
            let (used, file) = (human_bytes(used), human_bytes(file));
            let text = format!("only {used} of its store's file of {file} are in use");
            findings.push(
                Finding::note("fragmented", &place, text)
                    .so(format!("althingctl defrag --data-dir {place}")),
            );
        }
    }
    findings
}

#[cfg(test)]
#[path = "directory_test.rs"]
mod tests;
