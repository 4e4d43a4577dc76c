//! The end of a migration: nothing is left behind, and both sides are compared.

use std::io::Write;
use std::time::Duration;

use althing_api::error::Error as ApiError;
use tokio::time::{Instant, timeout};

use super::{Migration, next};
use crate::failure::{ERROR, Failure};
use crate::mirror::follow;

/// How long the watch may take to reach the source's last revision before the keys are compared
/// anyway; what differs then is written by comparison.
const CATCH_UP_MAX: Duration = Duration::from_secs(60);
/// For how long one answer of the watch is waited for.
const ANSWER_PAUSE: Duration = Duration::from_millis(300);
/// How often keys that still differ are made equal. More means that somebody writes.
const ROUNDS_MAX: u32 = 3;

impl Migration {
    /// Reaches the source's last revision, compares, and says so.
    pub(super) async fn cut_over(&mut self, out: &mut dyn Write) -> Result<(), Failure> {
        for _ in 0..ROUNDS_MAX {
            let (last, _) = follow::revision(&mut self.source, &self.prefix).await?;
            self.reach(last).await?;
            if let Some((revision, keys)) = self.verify(self.applied.max(last)).await? {
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

    /// Compares with the source as it was at the revision `at`. If all is equal, and the keys were
    /// not written since then, though others may have been: the source's revision then, and how
    /// many keys there are.
    async fn verify(&mut self, at: i64) -> Result<Option<(i64, u64)>, Failure> {
        let found = match self.compare(false, at).await {
            Err(failure) if failure.text == ApiError::Compacted.text() => return Ok(None),
            found => found?,
        };
        let written = self.writer.written;
        let (after, keys) = follow::revision(&mut self.source, &self.prefix).await?;
        let is_quiet = after == at || (self.reach(after).await? && self.writer.written == written);
        let is_equal = found.is_none() && u64::try_from(keys) == Ok(found.equal);
        Ok((is_quiet && is_equal).then_some((after, found.equal)))
    }

    /// Follows until `revision` is reached; `false` if it is not in time.
    async fn reach(&mut self, revision: i64) -> Result<bool, Failure> {
        let end = Instant::now() + CATCH_UP_MAX;
        while self.applied < revision && Instant::now() < end {
            self.watcher
                .iter()
                .for_each(|watcher| watcher.bell().ring());
            self.step_within(ANSWER_PAUSE).await?;
        }
        Ok(self.applied >= revision)
    }

    /// One step, unless nothing comes within `time`. Only the waiting is cut short.
    async fn step_within(&mut self, time: Duration) -> Result<(), Failure> {
        let Ok(watched) = timeout(time, next(&mut self.watcher)).await else {
            return Ok(());
        };
        self.take(watched).await
    }
}
