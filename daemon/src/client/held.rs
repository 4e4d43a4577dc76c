//! Large answers on their way out: their part of the read budget stays taken until the last byte is
//! out, so that clients that read slowly, or not at all, do not make memory grow.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, MessageBody};
use bytes::Bytes;

use crate::rpc::read_budget::ReadPermit;

/// How much of a body is given to the connection at once.
const SLICE_BYTES: usize = 32 * 1024;

/// `bytes`, which free their part of the budget when nobody holds them any more. hyper keeps the
/// data of a stream until the client has room for it, long after it is done with the body.
pub(super) fn until_sent(bytes: Bytes, permit: &Arc<ReadPermit>) -> Bytes {
    Bytes::from_owner(Held {
        bytes,
        _permit: permit.clone(),
    })
}

struct Held {
    bytes: Bytes,
    _permit: Arc<ReadPermit>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
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
