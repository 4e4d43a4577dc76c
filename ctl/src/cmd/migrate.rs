//! `migrate`: copies a running etcd into another cluster, leases included, follows it until it is
//! told to cut over, and then compares both key by key.
//!
//! ```text
//!  compare and copy -> follow, lag shown -> (signal, or --once) -> reach the source's last
//!  revision -> compare every key and lease -> equal: done
//! ```
//! It may be interrupted at any point and started again with --overwrite: it compares first and
//! writes what differs.

mod cut_over;
mod guard;

use std::io::Write;
use std::time::Duration;

use althing_api::error::Error as ApiError;
use bytes::Bytes;
use clap::Command;
use tokio::task::JoinError;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::args::{Values, manners, positional, switch, valued};
use crate::client::{Client, Watched, Watcher};
use crate::failure::{ERROR, Failure};
use crate::flags::Settings;
use crate::mirror::batch::{Batches, Change};
use crate::mirror::compare::{Difference, Walk};
use crate::mirror::leases::Leases;
use crate::mirror::writer::{Patience, Writer, passes};
use crate::mirror::{Rename, destination, follow};
use crate::notice;
use crate::progress::Progress;
use crate::session::Interrupt;

/// Operations of one transaction; what servers take by default.
const OPS_MAX: usize = 128;
/// How often the leases of one transaction may be found gone before it can no longer be chance.
const LEASES_LOST_MAX: u32 = 10;
/// Time between two looks at how far the source is.
const LOOK_PAUSE: Duration = Duration::from_millis(500);
/// Time between two lines about the lag.
const REPORT_PAUSE: Duration = Duration::from_secs(10);

/// The command's grammar.
pub fn command() -> Command {
    manners(Command::new("migrate"))
        .about("Copies a running etcd (3.4 to 3.7) to the destination, and follows it to cut-over")
        .after_help(
            "The source is what --endpoints names. Keys, values and leases are carried over;\n\
             revisions are not: for those, take `snapshot save` and `snapshot restore`.\n\
             Nor are users, roles and permissions: a source with authentication enabled is\n\
             refused, unless --without-auth says that its keys shall go without them.\n\
             To cut over: stop the writers, then end this command with Ctrl-C or SIGTERM. It\n\
             catches up, compares every key and lease, and ends with 0 if they are equal.\n\
             A second signal ends it at once.",
        )
        .override_usage("althingctl migrate [options] <destination>")
        .arg(positional())
        .args([
            valued("prefix", "", "Migrate only the keys with this prefix"),
            switch(
                "overwrite",
                "Go on although the destination has keys: they are made equal to the source's",
            ),
            switch(
                "without-auth",
                "Go on although the source has authentication enabled: users, roles and \
                 permissions stay behind",
            ),
            switch("once", "Cut over as soon as both are in sync"),
            switch("dry-run", "Tell what would be written, and change nothing"),
        ])
        .args(destination::arguments())
}

/// Runs the command.
///
/// # Errors
/// Wrong arguments, a cluster that refuses or stays away, keys that differ in the end.
pub async fn run(
    values: Values<'_>,
    settings: &Settings,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let target = values.one("migrate takes one destination argument")?;
    let mut interrupt = Interrupt::catch()?;
    let target = destination::settings(values, settings, &target)?;
    let source = Client::open_lasting(settings).await?;
    let destination = Client::open_lasting(&target).await?;
    let prefix = values.bytes("prefix");
    let mut migration = Migration {
        leases: Leases::new(source.clone(), destination.clone()),
        source,
        writer: Writer::new(destination),
        rename: Rename::none(&prefix),
        prefix,
        applied: 0,
        watcher: None,
    };
    let consent = Consent {
        overwrite: values.switch("overwrite")?,
        without_auth: values.switch("without-auth")?,
        dry_run: values.switch("dry-run")?,
    };
    let goes_on = tokio::select! {
        goes_on = migration.begin(consent, out) => goes_on?,
        () = interrupt.arrived() => return Err(interrupted()),
    };
    if !goes_on {
        return Ok(());
    }
    // Ends with the command: until then renewals go on beside everything else.
    let all = migration.prefix.is_empty();
    let mut keeper = tokio::spawn(migration.leases.clone().keep(all));
    let once = values.switch("once")?;
    let mut impatience = Interrupt::catch()?;
    tokio::select! {
        biased;
        ended = &mut keeper => Err(unkept(ended)),
        migrated = migration.migrate(once, &mut interrupt, out) => migrated,
        () = impatience.arrived_twice() => Err(interrupted()),
    }
}

/// Why leases are not kept alive any more.
fn unkept(ended: Result<Result<(), Failure>, JoinError>) -> Failure {
    let reason = match ended {
        Ok(Err(failure)) => failure.text,
        Ok(Ok(())) => "their keeper has ended".to_owned(),
        Err(error) => error.to_string(),
    };
    let text = format!("leases could not be kept alive: {reason}");
    Failure::new(ERROR, text)
}

fn interrupted() -> Failure {
    let text = "interrupted before both were in sync; run it again with --overwrite to go on";
    Failure::new(ERROR, text)
}

/// What the watch reports next. This is cancel safe.
async fn next(watcher: &mut Option<Watcher>) -> Watched {
    let watcher = watcher.as_mut().expect("copying opened it");
    watcher.next().await
}

/// What the operator agreed to.
#[derive(Clone, Copy)]
struct Consent {
    /// To keys of the destination being changed or deleted.
    overwrite: bool,
    /// To keys going where nobody has to log in.
    without_auth: bool,
    /// To nothing: only what would happen is reported.
    dry_run: bool,
}

/// What was seen of the source while it was followed.
struct Sight {
    progress: Progress,
    /// Its revision at the last look.
    last: Option<i64>,
    /// Whether everything was at the destination, once.
    in_sync: bool,
    /// When that was last reported.
    reported: Instant,
}

/// A migration under way.
pub(super) struct Migration {
    source: Client,
    writer: Writer,
    leases: Leases,
    prefix: Bytes,
    rename: Rename,
    /// The source's revision up to which everything is at the destination.
    applied: i64,
    watcher: Option<Watcher>,
}

impl Migration {
    /// Describes both sides, and refuses what would destroy data; `false` after a dry run.
    async fn begin(&mut self, consent: Consent, out: &mut dyn Write) -> Result<bool, Failure> {
        let Consent {
            overwrite, dry_run, ..
        } = consent;
        guard::check_auth(&mut self.source, consent.without_auth, dry_run).await?;
        let ours = self.source.status().await?;
        let theirs = self.writer.client().status().await?;
        let id = |header: Option<_>| -> u64 {
            header.map_or(0, |header: althing_api::etcdserverpb::ResponseHeader| {
                header.cluster_id
            })
        };
        let (from, to) = (id(ours.header), id(theirs.header));
        if from == to && dry_run {
            let text = "Warning: both have the same cluster id; if they are the same cluster, \
                        migrate will refuse to begin";
            notice::tell(text);
        } else if from == to
            && guard::is_one_cluster(&mut self.source, self.writer.client()).await?
        {
            let text = format!("source and destination are the same cluster, {from:x}");
            return Err(Failure::arguments(text));
        }
        let (revision, keys) = follow::revision(&mut self.source, &self.prefix).await?;
        let (_, present) = follow::revision(self.writer.client(), &self.prefix).await?;
        writeln!(
            out,
            "source {from:x}, version {}: revision {revision}, {keys} keys",
            ours.version
        )?;
        let version = &theirs.version;
        writeln!(out, "destination {to:x}, version {version}: {present} keys")?;
        out.flush()?;
        if dry_run {
            let found = self.compare(false, 0).await?;
            let Difference {
                equal,
                missing,
                changed,
                surplus,
            } = found;
            writeln!(
                out,
                "would add {missing} keys, change {changed}, delete {surplus}; {equal} are equal; \
                 nothing was changed"
            )?;
            return Ok(false);
        }
        if present > 0 && !overwrite {
            let text = format!(
                "the destination has {present} keys already, which would become equal to the \
                 source's or be deleted; look with --dry-run, go on with --overwrite"
            );
            return Err(Failure::new(ERROR, text));
        }
        Ok(true)
    }

    /// Copies, follows, and cuts over.
    async fn migrate(
        &mut self,
        once: bool,
        interrupt: &mut Interrupt,
        out: &mut dyn Write,
    ) -> Result<(), Failure> {
        tokio::select! {
            copied = self.copy(out) => copied?,
            () = interrupt.arrived() => return Err(interrupted()),
        }
        self.follow(once, interrupt, out).await?;
        self.cut_over(out).await
    }

    /// Makes the destination equal to the source as it is read now, and begins to watch from before
    /// that: what changed meanwhile comes again.
    async fn copy(&mut self, out: &mut dyn Write) -> Result<(), Failure> {
        let (revision, _) = follow::revision(&mut self.source, &self.prefix).await?;
        if self.prefix.is_empty() {
            self.leases.carry_all().await?;
        }
        let before = self.writer.written;
        let found = self.compare(true, 0).await?;
        let leases = self.leases.count();
        let (keys, written) = (found.source_keys(), self.writer.written - before);
        writeln!(
            out,
            "copied: {keys} keys compared, {written} written, {leases} leases"
        )?;
        out.flush()?;
        self.applied = revision;
        let next = revision + 1;
        self.watcher = Some(follow::watch(&self.source, &self.prefix, next));
        Ok(())
    }

    /// Compares all keys with the source's at `revision` (0: the newest); with `write`, makes them
    /// equal.
    async fn compare(&mut self, write: bool, revision: i64) -> Result<Difference, Failure> {
        let (_, keys) = follow::revision(&mut self.source, &self.prefix).await?;
        let progress = Progress::of(u64::try_from(keys).unwrap_or(0));
        progress.say("keys compared".to_owned());
        let mut walk = Walk::new(&self.prefix, revision);
        while let Some(changes) = walk.next(&mut self.source, self.writer.client()).await? {
            progress.at(walk.difference.source_keys());
            if write {
                let mut batches = Batches::new(OPS_MAX);
                changes
                    .into_iter()
                    .for_each(|change| batches.add(vec![change]));
                for changes in batches.finish() {
                    self.write(changes).await?;
                }
            }
        }
        Ok(walk.difference)
    }

    /// Makes changes at the destination, with the leases that they name.
    async fn write(&mut self, mut changes: Vec<Change>) -> Result<(), Failure> {
        let mut patience = Patience::default();
        for _ in 0..LEASES_LOST_MAX {
            while let Err(failure) = self.leases.carry_for(&mut changes).await {
                patience.again(failure).await?;
            }
            match self.writer.write(changes.clone()).await {
                // The lease has ended since it was carried over, here or on both sides.
                Err(failure) if failure.text == ApiError::LeaseNotFound.text() => {
                    self.leases.forget(&changes);
                }
                written => return written,
            }
        }
        let text = "leases of the source end at the destination as soon as they are granted";
        Err(Failure::new(ERROR, text))
    }

    /// Follows the source until it is time to cut over.
    async fn follow(
        &mut self,
        once: bool,
        interrupt: &mut Interrupt,
        out: &mut dyn Write,
    ) -> Result<(), Failure> {
        let mut looks = interval(LOOK_PAUSE);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut sight = Sight {
            progress: Progress::counter(),
            last: None,
            in_sync: false,
            reported: Instant::now(),
        };
        loop {
            tokio::select! {
                () = interrupt.arrived() => return Ok(()),
                watched = next(&mut self.watcher) => self.take(watched).await?,
                _ = looks.tick() => {
                    self.look(&mut sight, out).await?;
                    if sight.in_sync && once {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Looks how far the source is, and reports it from time to time.
    async fn look(&mut self, sight: &mut Sight, out: &mut dyn Write) -> Result<(), Failure> {
        let is_time = sight.reported.elapsed() >= REPORT_PAUSE;
        let revision = match follow::revision(&mut self.source, &self.prefix).await {
            Ok((revision, _)) => revision,
            // The watch goes on when the source does.
            Err(failure) if passes(&failure) => {
                if is_time {
                    writeln!(out, "the source does not answer: {failure}")?;
                    out.flush()?;
                    sight.reported = Instant::now();
                }
                return Ok(());
            }
            Err(failure) => return Err(failure),
        };
        let lag = (revision - self.applied).max(0);
        // Other keys move the revision too, perhaps without end: a destination that has reached
        // what was the last revision at the look before is in sync.
        let is_level = lag == 0 || sight.last.is_some_and(|last| self.applied >= last);
        sight.last = Some(revision);
        if lag > 0 {
            // Only a notification of progress shows that a revision was another key's.
            self.watcher
                .iter()
                .for_each(|watcher| watcher.bell().ring());
        }
        sight.progress.at(self.writer.written);
        let text = format!("written; revision {revision}, lag {lag}");
        sight.progress.say(text);
        if (is_level && !sight.in_sync) || is_time {
            let state = if is_level { "in sync" } else { "behind" };
            writeln!(out, "{state}: revision {revision}, lag {lag} revisions")?;
            out.flush()?;
            sight.reported = Instant::now();
        }
        sight.in_sync |= is_level;
        Ok(())
    }

    /// Carries what the watch reported to the destination.
    async fn take(&mut self, watched: Watched) -> Result<(), Failure> {
        let answer = match watched {
            Watched::Answer(answer) => answer,
            Watched::Lost(_) => return Ok(()),
            Watched::Canceled(answer, _) if answer.compact_revision > 0 => {
                // The source has compacted what was not read yet: compare all keys again.
                return self.copy(&mut std::io::sink()).await;
            }
            Watched::Canceled(_, reason) => return Err(Failure::new(ERROR, reason)),
        };
        let last = answer.events.iter().filter_map(|event| event.kv.as_ref());
        let last = last.map(|kv| kv.mod_revision).max();
        let revision = answer.header.unwrap_or_default().revision;
        for changes in follow::transactions(answer.events, &self.rename, OPS_MAX) {
            self.write(changes).await?;
        }
        self.applied = self.applied.max(last.unwrap_or(revision));
        Ok(())
    }
}
