//! The end of a migration: nothing is left behind, and both sides are compared.

use std::io::Write;
use std::time::Duration;

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
        let (last, _) = follow::revision(&mut self.source, &self.prefix).await?;
        let end = Instant::now() + CATCH_UP_MAX;
        while self.applied < last && Instant::now() < end {
            self.watcher
                .iter()
                .for_each(|watcher| watcher.bell().ring());
            self.step_within(ANSWER_PAUSE).await?;
        }
        for _ in 0..ROUNDS_MAX {
            let (before, _) = follow::revision(&mut self.source, &self.prefix).await?;
            let found = self.compare(false).await?;
            let (after, _) = follow::revision(&mut self.source, &self.prefix).await?;
            if found.is_none() && before == after {
                self.leases.renew(true).await?;
                let (keys, leases) = (found.equal, self.leases.count());
                writeln!(
                    out,
                    "verified at revision {after}: {keys} keys are equal, {leases} leases; point \
                     the clients to the destination"
                )?;
                return Ok(());
            }
            self.compare(true).await?;
        }
        let found = self.compare(false).await?;
        let text = format!(
            "the source is still being written: {} keys are missing, {} differ, {} are too many; \
             stop its writers and run this again with --overwrite",
            found.missing, found.changed, found.surplus
        );
        Err(Failure::new(ERROR, text))
    }

    /// One step, unless nothing comes within `time`. Only the waiting is cut short.
    async fn step_within(&mut self, time: Duration) -> Result<(), Failure> {
        let Ok(watched) = timeout(time, next(&mut self.watcher)).await else {
            return Ok(());
        };
        self.take(watched).await
    }
}
