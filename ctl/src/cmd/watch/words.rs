//! What the words of a watch ask for: the key and its range, and a command after `--`. Pure.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use althing_api::etcdserverpb::WatchCreateRequest;
use bytes::Bytes;

use crate::args::Values;
use crate::cmd::key_range;
use crate::failure::Failure;
use crate::flags::{Environment, variable};
use crate::text::quote::quote;

const NUMBER: &str = "bad number of arguments";
const NO_COMMAND: &str = "bad number of arguments (found separator --, but no commands)";
const CONFLICT: &str = "bad number of arguments (found conflicting environment key)";
const TWO_ENDS: &str = "`range_end` and `--prefix` are mutually exclusive";

/// The words before `--`, and the command after it.
#[derive(Debug, PartialEq, Eq)]
pub struct Words {
    /// Key and range end, as far as they are given.
    pub keys: Vec<Bytes>,
    /// Program and arguments; empty for none.
    pub command: Vec<Bytes>,
}

impl Words {
    /// Splits `arguments`, whose last `behind` words stood after `--`.
    ///
    /// # Errors
    /// Nothing stands after `--`.
    pub fn new(mut arguments: Vec<Bytes>, behind: Option<usize>) -> Result<Words, Failure> {
        if behind == Some(0) {
            return Err(Failure::arguments(NO_COMMAND));
        }
        let front = arguments.len().saturating_sub(behind.unwrap_or(0));
        let command = arguments.split_off(front);
        Ok(Words {
            keys: arguments,
            command,
        })
    }
}

/// The key and range end that the environment gives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surroundings(Vec<Bytes>);

impl Surroundings {
    /// Reads `WATCH_KEY` and `WATCH_RANGE_END`.
    ///
    /// # Errors
    /// A range end without a key.
    pub fn new(environment: Environment<'_>) -> Result<Surroundings, Failure> {
        let (prefix, key) = variable(environment, "WATCH_KEY");
        let (end_prefix, end) = variable(environment, "WATCH_RANGE_END");
        match (key, end) {
            (None, Some(end)) => {
                let prefix = prefix.or(end_prefix).unwrap_or_default();
                let text = format!(
                    "{prefix}_WATCH_KEY is empty but got {prefix}_WATCH_RANGE_END={}",
                    quote(end.as_bytes())
                );
                Err(Failure::arguments(text))
            }
            (key, end) => {
                let both = key.into_iter().chain(end);
                Ok(Surroundings(
                    both.map(OsString::into_vec).map(Bytes::from).collect(),
                ))
            }
        }
    }

    /// Whether there is a key.
    pub fn has_key(&self) -> bool {
        !self.0.is_empty()
    }

    /// Completes `words` by what the environment gives.
    ///
    /// # Errors
    /// Both give a key.
    pub fn complete(&self, words: &mut Words) -> Result<(), Failure> {
        if !self.has_key() {
            return Ok(());
        }
        if !words.keys.is_empty() {
            return Err(Failure::arguments(CONFLICT));
        }
        words.keys.clone_from(&self.0);
        Ok(())
    }
}

/// The refusal of a watch without a key.
pub fn no_key() -> Failure {
    Failure::arguments(NUMBER)
}

/// Makes the request of the flags and keys. As with etcdctl, a third word makes the second one
/// count for nothing.
///
/// # Errors
/// Wrong flags or words.
pub fn request(values: Values<'_>, keys: &[Bytes]) -> Result<WatchCreateRequest, Failure> {
    let prefix = values.switch("prefix")?;
    let (start_revision, prev_kv) = (values.int("rev")?, values.switch("prev-kv")?);
    let progress_notify = values.switch("progress-notify")?;
    let keys = match keys {
        [] => return Err(no_key()),
        [_, _] if prefix => return Err(Failure::arguments(TWO_ENDS)),
        [_, _] => keys,
        [key, ..] => std::slice::from_ref(key),
    };
    let (key, range_end) = key_range(keys, prefix, false)?;
    Ok(WatchCreateRequest {
        key,
        range_end,
        start_revision,
        progress_notify,
        prev_kv,
        ..WatchCreateRequest::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_the_environment_need_not_be_text() {
        let key = |name: &str| {
            (name == "ETCDCTL_WATCH_KEY").then(|| OsString::from_vec(b"\xffk".to_vec()))
        };
        let mut words = Words::new(Vec::new(), None).unwrap();
        let surroundings = Surroundings::new(&key).unwrap();
        surroundings.complete(&mut words).unwrap();
        assert_eq!(words.keys, [&b"\xffk"[..]]);
    }
}
