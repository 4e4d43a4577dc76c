//! The end of a migration: nothing is left behind, and both sides are compared.

use std::io::Write;
use std::time::Duration;

use althing_api::error::Error as ApiError;
use althing_api::etcdserverpb::RangeRequest;
use tokio::time::{Instant, timeout};

use super::{Migration, next};
use crate::client::pages::Pages;
use crate::failure::{ERROR, Failure};
use crate::mirror::{follow, range_of};

/// How long the watch may take to reach the source's last revision before the keys are compared
/// anyway; what differs then is written by comparison.
const CATCH_UP_MAX: Duration = Duration::from_secs(60);
/// How long to wait for one answer of the watch.
const ANSWER_PAUSE: Duration = Duration::from_millis(300);
/// How often keys that still differ are made equal. More means that somebody writes.
const ROUNDS_MAX: u32 = 3;

impl Migration {
    /// Reaches the source's last revision, compares, and says so.
    pub(super) async fn cut_over(&mut self, out: &mut dyn Write) -> Result<(), Failure> {
        let (last, _) = follow::revision(&mut self.source, &self.prefix).await?;
        self.reach(last).await?;
        // From here on only comparisons write. How far the watch claims to be proves nothing: etcd
        // before 3.4.25 and 3.5.8 claims it before it has sent the events, and an event that comes
        // after a comparison would undo what that wrote.
        self.watcher = None;
        for _ in 0..ROUNDS_MAX {
            if let Some((revision, keys)) = self.verify().await? {
                self.leases.renew(true).await?;
                let leases = self.leases.count();
                writeln!(
                    out,
                    "verified at revision {revision}: {keys} keys are equal, {leases} leases; \
                     point the clients to the destination"
                )?;
                return Ok(());
            }
            self.compare(true, 0).await?;
        }
        let found = self.compare(false, 0).await?;
        let text = format!(
            "the source is still being written: {} keys are missing, {} differ, {} are too many; \
             stop its writers and run this again with --overwrite",
            found.missing, found.changed, found.surplus
        );
        Err(Failure::new(ERROR, text))
    }

    /// Compares with the source as it is now. Returns the source's revision and the number of keys
    /// if all is equal and these keys were not written meanwhile; others may have been.
    async fn verify(&mut self) -> Result<Option<(i64, u64)>, Failure> {
        match self.find_equal().await {
            // The revision that was compared has been compacted meanwhile.
            Err(failure) if failure.text == ApiError::Compacted.text() => Ok(None),
            found => found,
        }
    }

    async fn find_equal(&mut self) -> Result<Option<(i64, u64)>, Failure> {
        let (at, _) = follow::revision(&mut self.source, &self.prefix).await?;
        let found = self.compare(false, at).await?;
        let (after, keys) = follow::revision(&mut self.source, &self.prefix).await?;
        let is_equal = found.is_none() && u64::try_from(keys) == Ok(found.equal);
        let is_equal = is_equal && (after == at || self.is_as_it_was(at, after, keys).await?);
        Ok(is_equal.then_some((after, found.equal)))
    }

    /// Whether the source has the same `keys` keys at the revision `after` as at the revision
    /// `before`: as many, and none of them written since.
    async fn is_as_it_was(&mut self, before: i64, after: i64, keys: i64) -> Result<bool, Failure> {
        let (key, range_end) = range_of(&self.prefix);
        let mut pages = Pages::new(RangeRequest {
            key,
            range_end,
            revision: after,
            keys_only: true,
            ..RangeRequest::default()
        });
        let mut count = 0;
        while let Some(page) = pages.next(&mut self.source).await? {
            if page.kvs.iter().any(|kv| kv.mod_revision > before) {
                return Ok(false);
            }
            count += page.kvs.len();
        }
        Ok(i64::try_from(count) == Ok(keys))
    }

    /// Follows until `revision` is reached, for a while at most.
    async fn reach(&mut self, revision: i64) -> Result<(), Failure> {
        let end = Instant::now() + CATCH_UP_MAX;
        while self.applied < revision && Instant::now() < end {
            self.watcher
                .iter()
                .for_each(|watcher| watcher.bell().ring());
            self.step_within(ANSWER_PAUSE).await?;
        }
        Ok(())
    }

    /// One step, unless nothing comes within `time`. Only the waiting is cut short.
    async fn step_within(&mut self, time: Duration) -> Result<(), Failure> {
        let Ok(watched) = timeout(time, next(&mut self.watcher)).await else {
            return Ok(());
        };
        self.take(watched).await
    }
}
