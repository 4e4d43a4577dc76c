//! A range read page by page. Pages are counted in keys, and servers bound answers in bytes: where
//! values are large, pages get smaller until they are answered.

use std::time::Duration;

use althing_api::etcdserverpb::{RangeRequest, RangeResponse};
use bytes::Bytes;
use tokio::time::sleep;

use crate::client::Client;
use crate::failure::Failure;

/// Keys of a page, where values are small.
const KEYS_MAX: i64 = 500;
/// How often a page of one key is asked for: others may use up what the server spends on reads.
const LONE_MAX: u32 = 5;
/// Pause before it is asked for again.
const PAUSE: Duration = Duration::from_secs(1);

/// How many keys the next page has.
#[derive(Clone, Copy, Debug)]
pub struct PageSize(i64);

impl Default for PageSize {
    fn default() -> PageSize {
        PageSize(KEYS_MAX)
    }
}

impl PageSize {
    /// Reads the first page of `request`.
    ///
    /// # Errors
    /// The server's refusal, also of a single key, or the deadline.
    pub async fn read(
        &mut self,
        client: &mut Client,
        mut request: RangeRequest,
    ) -> Result<RangeResponse, Failure> {
        let mut lone = 0;
        loop {
            request.limit = self.0;
            match client.range(request.clone()).await {
                Ok(page) => {
                    self.grow();
                    return Ok(page);
                }
                Err(failure) if !is_too_large(&failure) || lone == LONE_MAX => return Err(failure),
                Err(_) if self.0 == 1 => {
                    lone += 1;
                    sleep(PAUSE).await;
                }
                Err(_) => self.shrink(),
            }
        }
    }

    fn shrink(&mut self) {
        self.0 = (self.0 / 2).max(1);
    }

    /// Grows slowly, because a page that is refused was wasted.
    fn grow(&mut self) {
        self.0 = (self.0 + self.0 / 8 + 1).min(KEYS_MAX);
    }
}

/// Whether the answer is larger than the server, or this client, allows.
fn is_too_large(failure: &Failure) -> bool {
    ["code = ResourceExhausted", "code = OutOfRange"]
        .iter()
        .any(|code| failure.text.contains(code))
}

/// The pages of a range, all at the revision of the first.
#[derive(Debug)]
pub struct Pages {
    rest: Option<RangeRequest>,
    size: PageSize,
}

impl Pages {
    /// Begins with `request`.
    pub fn new(request: RangeRequest) -> Pages {
        Pages {
            rest: Some(request),
            size: PageSize::default(),
        }
    }

    /// The next page, the first even if it is empty; `None` at the end.
    ///
    /// # Errors
    /// As [`PageSize::read`].
    pub async fn next(&mut self, client: &mut Client) -> Result<Option<RangeResponse>, Failure> {
        let Some(mut request) = self.rest.take() else {
            return Ok(None);
        };
        let page = self.size.read(client, request.clone()).await?;
        if request.revision == 0 {
            request.revision = page.header.unwrap_or_default().revision;
        }
        self.rest = rest(&page).map(|key| RangeRequest { key, ..request });
        Ok(Some(page))
    }
}

/// Where the range goes on after `page`, if it does.
pub fn rest(page: &RangeResponse) -> Option<Bytes> {
    let last = page.kvs.last().filter(|_| page.more)?;
    Some([last.key.as_ref(), b"\0"].concat().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::ERROR;

    #[test]
    fn pages_shrink_to_one_key_and_grow_again() {
        let mut size = PageSize::default();
        (0..20).for_each(|_| size.shrink());
        assert_eq!(size.0, 1);
        size.grow();
        assert_eq!(size.0, 2);
        (0..100).for_each(|_| size.grow());
        assert_eq!(size.0, KEYS_MAX);
    }

    #[test]
    fn only_what_is_too_large_makes_pages_smaller() {
        let is_too_large = |text: &str| is_too_large(&Failure::new(ERROR, text));
        assert!(is_too_large(
            "rpc error: code = ResourceExhausted desc = etcdserver: range of more than 1 bytes"
        ));
        assert!(!is_too_large("etcdserver: too many requests"));
        assert!(!is_too_large(
            "etcdserver: mvcc: required revision has been compacted"
        ));
    }
}
