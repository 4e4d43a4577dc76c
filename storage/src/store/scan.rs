//! A range read in pieces, for RangeStream: memory is bounded by the piece, and nothing is held
//! between two pieces, so that a slow reader delays no compaction.

use std::ops::Bound;
use std::sync::Arc;

use althing_api::error::Error;
use althing_api::etcdserverpb::RangeRequest;
use althing_api::mvccpb::KeyValue;
use althing_api::range::KeyRange;
use bytes::Bytes;

use super::Shared;
use super::read::{Limit, ReadView, count, fetch, resolve};

/// A range read in pieces, in key order, at one revision.
#[derive(Debug)]
pub struct RangeScan {
    shared: Arc<Shared>,
    range: KeyRange,
    revision: i64,
    keys_only: bool,
    count: i64,
    more: bool,
    /// The number of keys still to be returned.
    left: usize,
    /// The last key returned.
    after: Option<Bytes>,
}

impl ReadView {
    /// Starts a scan in key order for RangeStream. It honours limit, keys_only and revision; the
    /// caller refuses sort and revision filters. Errors: as for [`ReadView::range`].
    pub fn scan(&self, request: &RangeRequest) -> Result<RangeScan, Error> {
        let revision = resolve(self, request.revision)?;
        let range = KeyRange::new(request.key.clone(), request.range_end.clone());
        let count = count(self, &range, revision);
        let all = usize::try_from(count).expect("a count is not negative");
        let limit = match usize::try_from(request.limit) {
            Ok(0) | Err(_) => all,
            Ok(limit) => limit,
        };
        let more = !request.count_only && all > limit;
        Ok(RangeScan {
            shared: self.store().clone(),
            range,
            revision,
            keys_only: request.keys_only,
            count,
            more,
            left: if request.count_only {
                0
            } else {
                limit.min(all)
            },
            after: None,
        })
    }
}

impl RangeScan {
    /// The next records: at most `keys_max` (at least one), and none after those that hold
    /// `bytes_max`; empty at the end. Errors: `Compacted` if a compaction overtook the scan;
    /// otherwise as for [`ReadView::range`].
    pub fn next_chunk(
        &mut self,
        keys_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<KeyValue>, Error> {
        let limit = Limit {
            keys: self.left.min(keys_max.max(1)),
            bytes: bytes_max,
        };
        let Some((from, until)) = self.range.bounds().filter(|_| limit.keys > 0) else {
            return Ok(Vec::new());
        };
        let (view, _) = ReadView::open(self.shared.clone());
        // A scan of revision 0 of an untouched store reads revision 1, which is never compacted
        // away; all others are checked like an explicit revision.
        resolve(&view, self.revision)?;
        let from = self.after.as_deref().map_or(from, Bound::Excluded);
        let (rest, took) = ((from, until), |_| Ok(()));
        let kvs = fetch(&view, rest, self.revision, limit, self.keys_only, took)?;
        self.left -= kvs.len();
        self.after = kvs.last().map(|kv| kv.key.clone()).or(self.after.take());
        Ok(kvs)
    }

    /// Whether the next chunk is empty.
    pub fn is_done(&self) -> bool {
        self.left == 0
    }

    /// The count of the whole range.
    pub fn count(&self) -> i64 {
        self.count
    }

    /// Whether the limit cut the range.
    pub fn more(&self) -> bool {
        self.more
    }

    /// The revision that the scan reads at.
    pub fn revision(&self) -> i64 {
        self.revision
    }
}
