//! Large answers on their way out: their part of the read budget stays taken until the last byte is
//! out, so that clients that read slowly, or not at all, do not make memory grow.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::body::{BodySize, MessageBody};
use bytes::Bytes;
use tokio::sync::Notify;

use crate::rpc::read_budget::ReadPermit;

/// How much of a body is given to the connection at once.
const SLICE_BYTES: usize = 32 * 1024;

/// The slices of large answers that one HTTP/2 connection holds because its client has no room for
/// them yet: a stopped client makes none, while it holds budget that others need.
#[derive(Debug, Default)]
pub(super) struct Unsent {
    slices: AtomicUsize,
    sent: AtomicU64,
    /// Notified of a slice when there was none before.
    begun: Notify,
}

impl Unsent {
    /// Resolves when slices have waited for `timeout` and the client took none of them.
    pub(super) async fn stalled(&self, timeout: Duration) {
        loop {
            self.begun.notified().await;
            while self.slices.load(Ordering::Relaxed) > 0 {
                let sent = self.sent.load(Ordering::Relaxed);
                tokio::time::sleep(timeout).await;
                let is_held = self.slices.load(Ordering::Relaxed) > 0;
                if is_held && self.sent.load(Ordering::Relaxed) == sent {
                    return;
                }
            }
        }
    }
}

/// A large answer that goes to hyper slice by slice. Each holds the answer's part of the budget
/// until nobody holds the slice any more: hyper keeps the data of a stream until the client has
/// room for it, long after it is done with the body.
#[derive(Debug)]
pub(super) struct Outgoing {
    rest: Bytes,
    permit: Arc<ReadPermit>,
    unsent: Arc<Unsent>,
}

impl Outgoing {
    pub(super) fn new(permit: Arc<ReadPermit>, unsent: Arc<Unsent>) -> Outgoing {
        Outgoing {
            rest: Bytes::new(),
            permit,
            unsent,
        }
    }

    /// Takes over the next piece of the answer, once all slices of the piece before are given out.
    pub(super) fn push(&mut self, piece: Bytes) {
        self.rest = piece;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next slice; `None` when a further piece is needed.
    pub(super) fn slice(&mut self) -> Option<Bytes> {
        if self.is_empty() {
            return None;
        }
        let bytes = self.rest.split_to(self.rest.len().min(SLICE_BYTES));
        if self.unsent.slices.fetch_add(1, Ordering::Relaxed) == 0 {
            self.unsent.begun.notify_one();
        }
        Some(Bytes::from_owner(Held {
            bytes,
            _permit: self.permit.clone(),
            unsent: self.unsent.clone(),
        }))
    }
}

struct Held {
    bytes: Bytes,
    _permit: Arc<ReadPermit>,
    unsent: Arc<Unsent>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.unsent.sent.fetch_add(1, Ordering::Relaxed);
        self.unsent.slices.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The body of an HTTP/1.1 answer, in slices: actix copies what it is given into a buffer of its
/// own, and asks for more only while that buffer is short.
pub(super) struct HeldBody {
    rest: Bytes,
    _permit: Arc<ReadPermit>,
}

impl HeldBody {
    pub(super) fn new(body: Vec<u8>, permit: Arc<ReadPermit>) -> HeldBody {
        HeldBody {
            rest: body.into(),
            _permit: permit,
        }
    }
}

impl MessageBody for HeldBody {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.rest.len() as u64)
    }

    fn poll_next(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Infallible>>> {
        let rest = &mut self.get_mut().rest;
        let slice = rest.split_to(rest.len().min(SLICE_BYTES));
        Poll::Ready((!slice.is_empty()).then_some(Ok(slice)))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::rpc::read_budget::ReadBudget;

    /// An answer of this many bytes, and the budget that they are taken from.
    fn outgoing(bytes: usize) -> (Outgoing, Arc<Unsent>, ReadBudget) {
        let budget = ReadBudget::new(usize::MAX);
        let permit = budget.reserve(bytes).unwrap().settle(bytes).unwrap();
        let unsent = Arc::new(Unsent::default());
        let mut outgoing = Outgoing::new(permit, unsent.clone());
        outgoing.push(vec![7; bytes].into());
        (outgoing, unsent, budget)
    }

    #[test]
    fn the_budget_is_taken_until_the_last_slice_is_gone() {
        let bytes = 3 * SLICE_BYTES + 1;
        let (mut outgoing, _, budget) = outgoing(bytes);
        let slices: Vec<Bytes> = std::iter::from_fn(|| outgoing.slice()).collect();
        drop(outgoing);
        assert_eq!(slices.len(), 4);
        assert_eq!(slices.concat(), vec![7; bytes]);
        let mut slices = slices.into_iter();
        let last = slices.next_back();
        drop(slices);
        assert_eq!(budget.used(), bytes);
        drop(last);
        assert_eq!(budget.used(), 0);
    }

    #[actix::test]
    async fn a_client_that_takes_nothing_is_noticed() {
        let (mut outgoing, unsent, _budget) = outgoing(3 * SLICE_BYTES);
        let moment = Duration::from_millis(5);
        assert!(unsent.stalled(moment).now_or_never().is_none());
        let taken = outgoing.slice();
        let _kept = outgoing.slice();
        drop(taken);
        let noticed = tokio::time::timeout(Duration::from_secs(60), unsent.stalled(moment));
        assert!(noticed.await.is_ok());
    }

    #[actix::test]
    async fn a_client_that_took_everything_is_not_waited_for() {
        let (mut outgoing, unsent, _budget) = outgoing(3 * SLICE_BYTES);
        while let Some(slice) = outgoing.slice() {
            drop(slice);
        }
        assert!(unsent.stalled(Duration::ZERO).now_or_never().is_none());
    }
}
