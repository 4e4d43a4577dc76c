//! Judges a recorded history of concurrent clients: could one correct store, which does one thing
//! at a time, have given these answers?
//!
//! ```text
//! clients --Operation, each with when it was called and when it ended--> history
//! a watcher from the first revision, or the store itself --Event, one for each revision--> log
//!
//! search:    values only, one key at a time; any order in which each operation takes place
//!            between its call and its end will do (linearizability; Wing and Gong, Lowe)
//! revisions: the order that the revisions claim, all keys together: nothing acknowledged is
//!            missing from the log, one revision has one write, each answer is the state at its
//!            revision, and no revision goes back in time
//! ```
//!
//! The two are independent: one does not believe revisions, the other needs no search. They are
//! pure, know no clock and no store, and take stamps that only have an order: nanoseconds of a real
//! run, or steps of a simulated one. No crate that checks histories keeps operations whose outcome
//! is unknown apart from those that failed, which is what faults are about.

pub mod history;
pub mod revisions;
pub mod search;

#[cfg(test)]
mod revisions_test;
#[cfg(test)]
mod search_test;

use history::{Event, Operation};

/// Both judgements.
///
/// # Errors
/// What no correct store could have done; a sentence for each fault.
pub fn check(history: &[Operation], log: &[Event]) -> Result<(), Vec<String>> {
    let mut faults = revisions::faults(history, log);
    faults.extend(search::faults(history));
    if faults.is_empty() {
        Ok(())
    } else {
        Err(faults)
    }
}
