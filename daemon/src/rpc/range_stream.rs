//! RangeStream: a range in key order, in messages of a size that suits the request limit. All of
//! it is read at one revision; the last message also says how many keys there are.

use althing_api::etcdserverpb::{RangeRequest, RangeResponse, RangeStreamResponse, ResponseHeader};
use althing_api::mvccpb::KeyValue;
use althing_storage::store::{RangeScan, ReadView};
use futures_util::stream::{self, BoxStream, StreamExt};
use prost::Message;
use tonic::Status;

use super::read::{SLICE_KEYS, bytes_of};
use super::read_budget::ReadPermit;
use super::status;

/// Keys of the first message: its size says how large the next ones may be.
const FIRST_CHUNK_KEYS: usize = 10;
/// At least this many streams fit into the read budget together, however small it is.
pub(super) const IN_BUDGET_MIN: usize = 4;

/// The messages of one RangeStream call.
pub(super) type Chunks = BoxStream<'static, Result<RangeStreamResponse, Status>>;

/// What is left to send.
struct Chunked {
    scan: RangeScan,
    /// Goes out with the last message.
    header: ResponseHeader,
    /// Keys still to come: the range's count, cut by the limit.
    remaining: u64,
    chunk_keys: usize,
    target_bytes: usize,
    /// The part of the read budget for the one message that it holds.
    _permit: ReadPermit,
    done: bool,
}

/// Streams `request` from `view`. `header` is that of the last message; `target_bytes` is the size
/// that messages approach, and `permit` is for one of them.
pub(super) fn chunks(
    view: &ReadView,
    request: &RangeRequest,
    header: ResponseHeader,
    target_bytes: usize,
    permit: ReadPermit,
) -> Result<Chunks, Status> {
    if request.count_only {
        let counted = view.range(request).map_err(status::of)?;
        let message = RangeResponse {
            header: Some(header),
            count: counted.count,
            ..Default::default()
        };
        return Ok(stream::iter([Ok(wrap(message))]).boxed());
    }
    let scan = view.scan(request).map_err(status::of)?;
    let count = scan.count().max(0) as u64;
    let limit = u64::try_from(request.limit).ok().filter(|limit| *limit > 0);
    let chunked = Chunked {
        remaining: limit.map_or(count, |limit| count.min(limit)),
        scan,
        header,
        chunk_keys: FIRST_CHUNK_KEYS,
        target_bytes,
        _permit: permit,
        done: false,
    };
    Ok(stream::try_unfold(chunked, Chunked::step).boxed())
}

fn wrap(response: RangeResponse) -> RangeStreamResponse {
    RangeStreamResponse {
        range_response: Some(response),
    }
}

impl Chunked {
    async fn step(mut self) -> Result<Option<(RangeStreamResponse, Chunked)>, Status> {
        if self.done {
            return Ok(None);
        }
        let kvs = self.pull().await?;
        self.remaining = self.remaining.saturating_sub(kvs.len() as u64);
        // An empty chunk before the end would loop forever.
        self.done = self.remaining == 0 || kvs.is_empty();
        let mut message = RangeResponse {
            kvs,
            ..Default::default()
        };
        self.chunk_keys = next_keys(self.chunk_keys, message.encoded_len(), self.target_bytes);
        if self.done {
            message.header = Some(self.header);
            message.more = self.scan.more();
            message.count = self.scan.count();
        }
        Ok(Some((wrap(message), self)))
    }

    /// The next chunk, in slices between which the worker serves others. It ends early where its
    /// bytes are enough: how much a key holds shows only when it is read.
    async fn pull(&mut self) -> Result<Vec<KeyValue>, Status> {
        let wanted = usize::try_from(self.remaining).unwrap_or(usize::MAX);
        let wanted = wanted.min(self.chunk_keys);
        let mut kvs = Vec::new();
        let mut bytes = 0;
        while kvs.len() < wanted && bytes < self.target_bytes {
            if !kvs.is_empty() {
                tokio::task::yield_now().await;
            }
            let keys = (wanted - kvs.len()).min(SLICE_KEYS);
            let slice = self.scan.next_chunk(keys, self.target_bytes - bytes);
            let slice = slice.map_err(status::of)?;
            if slice.is_empty() {
                break;
            }
            bytes += bytes_of(&slice);
            kvs.extend(slice);
        }
        Ok(kvs)
    }
}

/// Twice as many keys after a message below half the target, half as many after one above twice.
fn next_keys(keys: usize, bytes: usize, target_bytes: usize) -> usize {
    if bytes < target_bytes / 2 {
        keys.saturating_mul(2)
    } else if bytes > target_bytes.saturating_mul(2) {
        (keys / 2).max(1)
    } else {
        keys
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chunk_grows_and_shrinks_towards_the_target_and_never_to_zero() {
        assert_eq!(next_keys(10, 49, 100), 20);
        assert_eq!(next_keys(10, 50, 100), 10);
        assert_eq!(next_keys(10, 200, 100), 10);
        assert_eq!(next_keys(10, 201, 100), 5);
        assert_eq!(next_keys(1, 201, 100), 1);
    }
}
