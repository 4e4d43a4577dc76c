//! Text as Go's tools read and write it, because operators' scripts feed and parse exactly that:
//! numbers, booleans and durations on the command line, quoted strings in output and transactions.
//! Pure functions over bytes; each error is the whole sentence that etcdctl shows.

pub mod duration;
pub mod number;
pub mod quote;
pub mod words;
