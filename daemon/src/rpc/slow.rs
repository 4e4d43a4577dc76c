//! What a request asked for, kept at little cost while it is served, and written when it was slow.

use std::fmt;
use std::time::{Duration, Instant};

use althing_actors::log_limit::LogLimit;
use althing_api::commandpb::command;
use althing_api::etcdserverpb::{RangeRequest, TxnRequest};
use bytes::Bytes;
use parking_lot::Mutex;

/// Most bytes of a key that are shown.
const SHOWN_BYTES_MAX: usize = 256;

/// Writes the lines about slow requests, at a limited rate.
#[derive(Debug, Default)]
pub(super) struct SlowLines(Mutex<LogLimit>);

/// What was asked for.
#[derive(Clone, Debug)]
pub(super) enum Asked {
    /// A range.
    Range {
        key: Bytes,
        range_end: Bytes,
        limit: i64,
    },
    /// A txn that only reads, or one that may write.
    Txn {
        reads: bool,
        compares: usize,
        success: usize,
        failure: usize,
    },
    /// A put or a deletion.
    Write {
        key: Bytes,
        range_end: Bytes,
        value_bytes: usize,
    },
    /// Anything else.
    Other,
}

impl Asked {
    pub(super) fn of_range(request: &RangeRequest) -> Asked {
        Asked::Range {
            key: request.key.clone(),
            range_end: request.range_end.clone(),
            limit: request.limit,
        }
    }

    pub(super) fn of_txn(request: &TxnRequest, reads: bool) -> Asked {
        Asked::Txn {
            reads,
            compares: request.compare.len(),
            success: request.success.len(),
            failure: request.failure.len(),
        }
    }

    pub(super) fn of(request: Option<&command::Request>) -> Asked {
        let put = match request {
            Some(command::Request::Put(put)) => Some(put),
            Some(command::Request::PutWithTtl(request)) => request.put.as_ref(),
            Some(command::Request::DeleteRange(request)) => {
                return Asked::Write {
                    key: request.key.clone(),
                    range_end: request.range_end.clone(),
                    value_bytes: 0,
                };
            }
            Some(command::Request::Txn(txn)) => return Asked::of_txn(txn, false),
            _ => None,
        };
        put.map_or(Asked::Other, |put| Asked::Write {
            key: put.key.clone(),
            range_end: Bytes::new(),
            value_bytes: put.value.len(),
        })
    }

    fn prefix(&self) -> &'static str {
        match self {
            Asked::Range { .. } => "read-only range ",
            Asked::Txn { reads: true, .. } => "read-only txn ",
            _ => "",
        }
    }
}

/// A key as text, cut where it is long.
struct Shown<'a>(&'a Bytes);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.0[..self.0.len().min(SHOWN_BYTES_MAX)];
        write!(f, "\"{}\"", shown.escape_ascii())?;
        if self.0.len() > SHOWN_BYTES_MAX {
            f.write_str("...")
        } else {
            Ok(())
        }
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = |f: &mut fmt::Formatter<'_>, key, range_end: &Bytes| {
            write!(f, "key:{}", Shown(key))?;
            if range_end.is_empty() {
                Ok(())
            } else {
                write!(f, " range_end:{}", Shown(range_end))
            }
        };
        match self {
            Asked::Range {
                key,
                range_end,
                limit,
            } => {
                keys(f, key, range_end)?;
                write!(f, " limit:{limit}")
            }
            Asked::Write {
                key,
                range_end,
                value_bytes,
            } => {
                keys(f, key, range_end)?;
                write!(f, " value_size:{value_bytes}")
            }
            Asked::Txn {
                compares,
                success,
                failure,
                ..
            } => write!(f, "compare:{compares} success:{success} failure:{failure}"),
            Asked::Other => Ok(()),
        }
    }
}

/// A time that was too long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Took {
    pub(super) took: Duration,
    pub(super) expected: Duration,
}

impl SlowLines {
    /// Logs a request that took too long, unless another one was logged a moment ago.
    pub(super) fn tell(&self, kind: &'static str, asked: &Asked, took: Took, succeeded: bool) {
        let Took { took, expected } = took;
        let Some(left_out) = self.0.lock().pass(Instant::now()) else {
            return;
        };
        tracing::warn!(
            ?took,
            expected_duration = ?expected,
            prefix = asked.prefix(),
            kind,
            request = %asked,
            succeeded,
            left_out,
            "apply request took too long"
        );
    }
}

#[cfg(test)]
mod tests {
    use althing_api::etcdserverpb::PutRequest;

    use super::*;

    #[test]
    fn a_request_is_shown_with_its_keys_and_without_its_values() {
        let put = PutRequest {
            key: Bytes::from_static(b"a\xff"),
            value: Bytes::from_static(b"secret"),
            ..PutRequest::default()
        };
        let asked = Asked::of(Some(&command::Request::Put(put)));
        assert_eq!(asked.to_string(), r#"key:"a\xff" value_size:6"#);
        let range = RangeRequest {
            key: vec![b'k'; SHOWN_BYTES_MAX + 1].into(),
            range_end: "z".into(),
            ..RangeRequest::default()
        };
        let text = Asked::of_range(&range).to_string();
        assert!(text.ends_with(r#"k"... range_end:"z" limit:0"#), "{text}");
        assert_eq!(Asked::of(None).to_string(), "");
    }
}
