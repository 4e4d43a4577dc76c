//! `import`: writes the keys of an export.

use std::collections::BTreeSet;
use std::io::Write;

use clap::Command;

use super::export::Pages;
use crate::args::{Values, manners, positional, switch};
use crate::client::Client;
use crate::failure::Failure;
use crate::flags::Settings;
use crate::mirror::batch::{Batches, Change};
use crate::mirror::writer::Writer;
use crate::portable::{Differs, ExportFile, differences};
use crate::progress::Progress;

/// Operations of one transaction; what servers take by default.
const OPS_MAX: usize = 128;

/// The command's grammar.
pub fn command() -> Command {
    manners(Command::new("import"))
        .about("Writes the keys of an export, if they differ; `-` reads standard input")
        .after_help(
            "Keys that had a lease get it again if the cluster has a lease of that id, else none.",
        )
        .override_usage("althingctl import [options] <filename>")
        .arg(positional())
        .args([
            switch(
                "delete",
                "Delete keys of the exported range that the file lacks",
            ),
            switch("dry-run", "Tell what would be written, and change nothing"),
        ])
}

/// Runs the command.
///
/// # Errors
/// Wrong arguments, a damaged file, the server's refusal.
pub async fn run(
    values: Values<'_>,
    settings: &Settings,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let path = values.one("import takes one file")?;
    let (delete, dry_run) = (values.switch("delete")?, values.switch("dry-run")?);
    let file = ExportFile::open(&String::from_utf8_lossy(&path))?;
    let head = file.head.clone();
    // Read to its end before anything is written: a cut file changes nothing.
    let records = file.records()?;
    let mut client = Client::open_lasting(settings).await?;
    let leases = client.leases().await?.leases;
    let leases: BTreeSet<i64> = leases.into_iter().map(|lease| lease.id).collect();
    let there = Pages::new(head.key, head.range_end, 0);
    let there = there.all(&mut client).await?;
    let all = records.len();
    let (mut added, mut changed, mut deleted, mut without_lease) = (0u64, 0u64, 0u64, 0u64);
    let mut batches = Batches::new(OPS_MAX);
    for differs in differences(there, records) {
        let record = match differs {
            Differs::Removed(record) => {
                if delete {
                    deleted += 1;
                    batches.add(vec![Change::Delete(record.key)]);
                }
                continue;
            }
            Differs::Added(record) => {
                added += 1;
                record
            }
            Differs::Changed(_, record) => {
                changed += 1;
                record
            }
        };
        let has_lease = leases.contains(&record.lease);
        without_lease += u64::from(record.lease != 0 && !has_lease);
        batches.add(vec![Change::Put {
            key: record.key,
            value: record.value,
            lease: if has_lease { record.lease } else { 0 },
        }]);
    }
    let equal = all as u64 - added - changed;
    let mut writer = Writer::new(client);
    if !dry_run {
        let progress = Progress::of(added + changed + deleted);
        for changes in batches.finish() {
            progress.add(changes.len() as u64);
            writer.write(changes).await?;
        }
    }
    writeln!(
        out,
        "{}{added} added, {changed} changed, {deleted} deleted, {equal} equal",
        if dry_run {
            "nothing was changed; would be: "
        } else {
            ""
        }
    )?;
    if without_lease > 0 {
        writeln!(
            out,
            "{without_lease} keys are without the lease that they had"
        )?;
    }
    Ok(())
}
