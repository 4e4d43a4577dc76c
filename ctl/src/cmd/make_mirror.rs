//! `make-mirror`: copies the keys of one cluster into another, then every change, until it is told
//! to end. Leases are not carried over, as with etcdctl; `migrate` carries them over.

use std::io::Write;
use std::time::Duration;

use althing_api::error::Error as ApiError;
use althing_api::etcdserverpb::RangeRequest;
use clap::Command;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::args::{Values, manners, positional, switch, valued};
use crate::client::pages::Pages;
use crate::client::{Client, Watched};
use crate::cmd::exclude;
use crate::failure::{ERROR, Failure};
use crate::flags::Settings;
use crate::mirror::batch::{Batches, Change};
use crate::mirror::writer::Writer;
use crate::mirror::{Rename, destination, follow, range_of};

/// Time between two reports of how many keys were mirrored.
const REPORT_PAUSE: Duration = Duration::from_secs(30);

/// The command's grammar.
pub fn command() -> Command {
    manners(Command::new("make-mirror"))
        .about("Makes a mirror at the destination etcd cluster")
        .override_usage("althingctl make-mirror [options] <destination>")
        .arg(positional())
        .args([
            valued("prefix", "", "Key-value prefix to mirror"),
            valued(
                "rev",
                "0",
                "Revision to start to mirror at, without copying what is there (0: copy)",
            ),
            valued(
                "max-txn-ops",
                "128",
                "Maximum number of operations in one transaction at the destination",
            ),
            valued(
                "dest-prefix",
                "",
                "Prefix that keys get at the destination instead of --prefix",
            ),
            switch("no-dest-prefix", "Mirror keys without their prefix"),
            switch("dry-run", "Count the keys to be copied, and change nothing"),
        ])
        .args(destination::arguments())
}

/// Runs the command, which ends only by a failure or a signal.
///
/// # Errors
/// Wrong arguments, a cluster that refuses or stays away, a revision that is compacted.
pub async fn run(
    values: Values<'_>,
    settings: &Settings,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let target = values.one("make-mirror takes one destination argument")?;
    let (prefix, mut dest_prefix) = (values.bytes("prefix"), values.bytes("dest-prefix"));
    let no_dest_prefix = values.switch("no-dest-prefix")?;
    exclude(
        ("dest-prefix", !dest_prefix.is_empty()),
        ("no-dest-prefix", no_dest_prefix),
    )?;
    if dest_prefix.is_empty() && !no_dest_prefix {
        dest_prefix = prefix.clone();
    }
    let rename = Rename {
        prefix,
        dest_prefix,
    };
    let ops_max = usize::try_from(values.int("max-txn-ops")?).ok();
    let ops_max = ops_max.filter(|ops| *ops > 0);
    let ops_max = ops_max.ok_or_else(|| Failure::arguments("--max-txn-ops must be positive"))?;
    let rev = values.int("rev")?;
    let target = destination::settings(values, settings, &target)?;
    let writer = Writer::new(Client::open_lasting(&target).await?);
    let source = Client::open_lasting(settings).await?;
    let mut mirror = Mirror {
        source,
        writer,
        rename,
        ops_max,
    };
    if values.switch("dry-run")? {
        return mirror.foresee(rev, out).await;
    }
    let mut reports = interval_at(Instant::now() + REPORT_PAUSE, REPORT_PAUSE);
    reports.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let next = match rev {
        ..=1 => mirror.copy(&mut reports, out).await? + 1,
        rev => rev,
    };
    mirror.follow(next, &mut reports, out).await
}

struct Mirror {
    source: Client,
    writer: Writer,
    rename: Rename,
    ops_max: usize,
}

impl Mirror {
    /// Reports what there is on both sides.
    async fn foresee(&mut self, rev: i64, out: &mut dyn Write) -> Result<(), Failure> {
        let Rename {
            prefix,
            dest_prefix,
        } = &self.rename;
        let (revision, keys) = follow::revision(&mut self.source, prefix).await?;
        let (_, present) = follow::revision(self.writer.client(), dest_prefix).await?;
        let copied = if rev > 1 { 0 } else { keys };
        let next = if rev > 1 { rev } else { revision + 1 };
        Ok(writeln!(
            out,
            "would copy {copied} keys to where {present} keys are, and follow from revision \
             {next}; nothing was changed"
        )?)
    }

    /// Copies the keys that exist; returns the revision at which they were read.
    async fn copy(
        &mut self,
        reports: &mut tokio::time::Interval,
        out: &mut dyn Write,
    ) -> Result<i64, Failure> {
        let (key, range_end) = range_of(&self.rename.prefix);
        let (revision, _) = follow::revision(&mut self.source, &self.rename.prefix).await?;
        let mut pages = Pages::new(RangeRequest {
            key,
            range_end,
            revision,
            ..RangeRequest::default()
        });
        while let Some(page) = pages.next(&mut self.source).await? {
            let mut batches = Batches::new(self.ops_max);
            for kv in page.kvs {
                batches.add(vec![Change::Put {
                    key: self.rename.apply(&kv.key),
                    value: kv.value,
                    lease: 0,
                }]);
            }
            for changes in batches.finish() {
                self.write(changes, reports, out).await?;
            }
        }
        Ok(revision)
    }

    /// Makes every change from the revision `next` on.
    async fn follow(
        &mut self,
        next: i64,
        reports: &mut tokio::time::Interval,
        out: &mut dyn Write,
    ) -> Result<(), Failure> {
        let mut watcher = follow::watch(&self.source, &self.rename.prefix, next);
        loop {
            let watched = tokio::select! {
                watched = watcher.next() => watched,
                _ = reports.tick() => {
                    report(self.writer.written, out)?;
                    continue;
                }
            };
            let answer = match watched {
                Watched::Answer(answer) => answer,
                Watched::Lost(_) => continue,
                Watched::Canceled(answer, _) if answer.compact_revision > 0 => {
                    return Err(Failure::new(ERROR, ApiError::Compacted.text()));
                }
                Watched::Canceled(_, reason) => return Err(Failure::new(ERROR, reason)),
            };
            for mut changes in follow::transactions(answer.events, &self.rename, self.ops_max) {
                for change in &mut changes {
                    if let Change::Put { lease, .. } = change {
                        *lease = 0;
                    }
                }
                self.write(changes, reports, out).await?;
            }
        }
    }

    async fn write(
        &mut self,
        changes: Vec<Change>,
        reports: &mut tokio::time::Interval,
        out: &mut dyn Write,
    ) -> Result<(), Failure> {
        self.writer.write(changes).await?;
        if futures_util::FutureExt::now_or_never(reports.tick()).is_some() {
            report(self.writer.written, out)?;
        }
        Ok(())
    }
}

fn report(written: u64, out: &mut dyn Write) -> Result<(), Failure> {
    writeln!(out, "{written}")?;
    Ok(out.flush()?)
}
