//! `snapshot save`, `status`, `restore`, `hashkv`: a member's state as a file of etcd's format.
//! `save` asks a member; the others read the file and ask nobody.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{ArgMatches, Command};

use crate::args::{Values, manners, positional, switch, valued};
use crate::client::Client;
use crate::cmd::chosen;
use crate::failure::{ERROR, Failure, INTERRUPTED};
use crate::flags::Settings;
use crate::offline::{self, RestoreWords};
use crate::progress::Progress;

/// Bytes collected for one write.
const WRITE_BYTES: usize = 256 * 1024;

/// The command's grammar.
pub fn command() -> Command {
    let save = manners(Command::new("save"))
        .about("Stores an etcd node backend snapshot to a given file")
        .override_usage("althingctl snapshot save <filename>");
    let status = manners(Command::new("status"))
        .about("Gets backend snapshot status of a given file")
        .after_help("Items of the simple format: hash, revision, total keys, total size.")
        .override_usage("althingctl snapshot status <filename>");
    let hashkv = hashkv().override_usage("althingctl snapshot hashkv <filename>");
    manners(Command::new("snapshot"))
        .about("Manages snapshots: saves one from a member, examines and restores files")
        .subcommands([save, status, restore()].map(|command| command.arg(positional())))
        .subcommand(hashkv)
}

/// The grammar of `hashkv`, which etcdutl has beside `snapshot`.
pub fn hashkv() -> Command {
    manners(Command::new("hashkv"))
        .about("Prints the KV history hash of a given file")
        .override_usage("althingctl hashkv <filename>")
        .arg(positional())
        .arg(valued(
            "rev",
            "0",
            "Maximum revision to hash (default: latest revision)",
        ))
}

/// Runs `hashkv`.
///
/// # Errors
/// Wrong arguments, a damaged file, a revision that it lacks.
pub fn run_hashkv(
    values: Values<'_>,
    settings: &Settings,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let path = values.path("hashkv requires exactly one argument")?;
    let hash = offline::hash_kv(&path, values.int("rev")?)?;
    settings.printer.backup_hash(out, &hash)
}

fn restore() -> Command {
    let switch_on = |name, help| switch(name, help).default_value("true");
    manners(Command::new("restore"))
        .about("Restores a snapshot of Althing or of etcd 3.4 to 3.7 to a new data directory")
        .after_help(
            "By default the restored cluster is another one than that of the snapshot, and its\n\
             revision is raised and marked as compacted, so that no client takes the old history\n\
             for the new one. To keep history and revision: --bump-revision 0. To get the ids of\n\
             etcd: --initial-cluster-token with the token of the old cluster.",
        )
        .override_usage("althingctl snapshot restore <filename> [options]")
        .args([
            valued("name", "default", "Human-readable name for this member"),
            valued(
                "data-dir",
                "",
                "Directory to make (default: <name>.althing)",
            ),
            valued("wal-dir", "", "Directory of the log, if it is to be apart"),
            valued(
                "initial-cluster",
                "",
                "Members of the new cluster, as name=url,... (default: this one alone)",
            ),
            valued(
                "initial-cluster-token",
                "",
                "Token of the new cluster (default: made of the snapshot's hash)",
            ),
            valued(
                "initial-advertise-peer-urls",
                "http://localhost:2380",
                "This member's peer URLs",
            ),
            switch(
                "skip-hash-check",
                "Accept a file without a hash, as copied from a data directory",
            ),
            valued(
                "bump-revision",
                "1000000000",
                "How much to increase the latest revision after restore (0: not at all)",
            ),
            switch_on(
                "mark-compacted",
                "Mark the latest revision after restore as compacted (goes with --bump-revision)",
            ),
            switch(
                "without-auth",
                "Restore keys although the snapshot's users and roles are lost",
            ),
            switch("dry-run", "Check everything and change nothing"),
            valued(
                "initial-memory-map-size",
                "0",
                "Accepted for etcdutl's sake: nothing is mapped here",
            ),
        ])
}

/// Runs one of the four commands.
///
/// # Errors
/// Wrong arguments, the server's refusal, a damaged file, a directory in use.
pub async fn run(
    matches: &ArgMatches,
    settings: &Settings,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let (name, values) = chosen(matches);
    match name {
        "save" => {
            let path = values.path("snapshot save expects one argument")?;
            let is_limited =
                values.0.value_source("command-timeout") == Some(ValueSource::CommandLine);
            let saved = save(settings, &path);
            if is_limited {
                tokio::time::timeout(settings.command_timeout, saved)
                    .await
                    .unwrap_or_else(|_| Err(Failure::deadline(Vec::new())))
            } else {
                saved.await
            }
            .map_err(|failure| Failure {
                exit: INTERRUPTED,
                ..failure
            })?;
            writeln!(out, "Snapshot saved at {}", path.display())?;
            Ok(())
        }
        "status" => {
            let path = values.path("snapshot status requires exactly one argument")?;
            settings
                .printer
                .backup_status(out, &offline::status(&path)?)
        }
        "hashkv" => run_hashkv(values, settings, out),
        _ => {
            let path = values.path("snapshot restore requires exactly one argument")?;
            offline::restore(&path, &words(values)?, out)
        }
    }
}

fn words(values: Values<'_>) -> Result<RestoreWords, Failure> {
    let bump = values.int("bump-revision")?;
    let bump = u64::try_from(bump)
        .map_err(|_| Failure::arguments("--bump-revision must not be negative"))?;
    let marks = values.switch("mark-compacted")?;
    let marks_given = values.0.value_source("mark-compacted") == Some(ValueSource::CommandLine);
    // Without a bump there is nothing to mark; the default of one flag follows from the other.
    if (bump > 0 && !marks) || (bump == 0 && marks && marks_given) {
        let text = "--mark-compacted required if --revision-bump > 0";
        return Err(Failure::arguments(text));
    }
    let path = |name| Some(PathBuf::from(values.text(name))).filter(|path| *path != *"");
    Ok(RestoreWords {
        name: values.text("name"),
        data_dir: path("data-dir"),
        wal_dir: path("wal-dir"),
        initial_cluster: values.text("initial-cluster"),
        token: values.text("initial-cluster-token"),
        peer_urls: values.text("initial-advertise-peer-urls"),
        skip_hash_check: values.switch("skip-hash-check")?,
        bump,
        without_auth: values.switch("without-auth")?,
        dry_run: values.switch("dry-run")?,
    })
}

/// Writes to a file beside `path`, which is renamed to it once it is whole, verified and on disk.
async fn save(settings: &Settings, path: &Path) -> Result<(), Failure> {
    if settings.endpoints.len() != 1 {
        let text = "snapshot must be requested to one selected node, not multiple";
        let shown = settings.endpoints.join(" ");
        return Err(Failure::new(INTERRUPTED, format!("{text} [{shown}]")));
    }
    let mut client = Client::open(settings).await?;
    let mut pieces = client.snapshot().await?;
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let failed = |error: io::Error| {
        Failure::new(
            INTERRUPTED,
            format!("could not write {}: {error}", part.display()),
        )
    };
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let file = options.open(&part).map_err(failed)?;
    let _unfinished = Unfinished(&part);
    let mut file = BufWriter::with_capacity(WRITE_BYTES, file);
    let (mut progress, mut written) = (None, 0u64);
    while let Some(piece) = pieces.next().await? {
        file.write_all(&piece.blob).map_err(failed)?;
        written += piece.blob.len() as u64;
        let total = written + piece.remaining_bytes;
        progress
            .get_or_insert_with(|| Progress::bytes(total))
            .at(written);
    }
    let file = file
        .into_inner()
        .map_err(|error| failed(error.into_error()));
    file?.sync_all().map_err(failed)?;
    let verified = offline::verify(&part);
    if let Err(failure) = verified {
        let text = format!("the snapshot arrived damaged, {failure}; take it again");
        return Err(Failure::new(INTERRUPTED, text));
    }
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let directory = directory.unwrap_or(Path::new("."));
    fs::rename(&part, path)
        .and_then(|()| File::open(directory)?.sync_all())
        .map_err(|error| {
            let text = format!("could not rename {} to {}", part.display(), path.display());
            Failure::new(ERROR, format!("{text}: {error}"))
        })
}

/// The part of a snapshot that has arrived; removed, if it is never renamed.
struct Unfinished<'a>(&'a Path);

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        // The failure itself has been reported.
        _ = fs::remove_file(self.0);
    }
}
