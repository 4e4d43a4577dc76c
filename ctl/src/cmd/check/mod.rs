//! `check perf` and `check datascale`: puts below a prefix, and a verdict in etcdctl's words. The
//! keys are deleted in the end, also when the operator interrupts.

mod datascale;
mod load;
mod perf;
mod tally;

use std::io::Write;

use althing_api::etcdserverpb::{CompactionRequest, DeleteRangeRequest, RangeRequest};
use bytes::Bytes;
use clap::{ArgMatches, Command};

use crate::args::{manners, positional, switch, valued};
use crate::client::Client;
use crate::cmd::chosen;
use crate::failure::{BAD_FEATURE, Failure, INVALID_INPUT};
use crate::flags::Settings;
use crate::mirror::range_of;

/// The command's grammar.
pub fn command() -> Command {
    let check = |name: &'static str, about: &'static str, prefix: &'static str| {
        manners(Command::new(name)).about(about).args([
            valued(
                "load",
                "s",
                "The workload: s(small), m(medium), l(large), xl(xLarge)",
            ),
            valued("prefix", prefix, "The prefix of the keys that are written"),
            switch(
                "auto-compact",
                "Compact storage with last revision after test is finished",
            ),
            switch("auto-defrag", "Defragment storage after test is finished"),
        ])
    };
    manners(Command::new("check"))
        .about("commands for checking properties of the etcd cluster")
        .subcommands([
            check(
                "perf",
                "Check the performance of the etcd cluster",
                "/etcdctl-check-perf/",
            )
            .arg(positional()),
            check(
                "datascale",
                "Check the memory usage of holding data for different workloads",
                "/etcdctl-check-datascale/",
            )
            .arg(positional()),
        ])
}

/// Runs one of the two commands.
///
/// # Errors
/// An unknown load, keys that are there already, a verdict that is not good.
pub async fn run(
    matches: &ArgMatches,
    settings: &Settings,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let (name, values) = chosen(matches);
    let size = size(&values.text("load"))?;
    let site = Site {
        settings,
        prefix: values.bytes("prefix"),
        auto_compact: values.switch("auto-compact")?,
        auto_defrag: values.switch("auto-defrag")?,
    };
    match name {
        "perf" => perf::run(&site, size, out).await,
        _ => datascale::run(&site, size, out).await,
    }
}

/// The four workloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Size {
    Small,
    Medium,
    Large,
    ExtraLarge,
}

fn size(name: &str) -> Result<Size, Failure> {
    match name {
        "s" | "small" => Ok(Size::Small),
        "m" | "medium" => Ok(Size::Medium),
        "l" | "large" => Ok(Size::Large),
        "xl" | "xLarge" => Ok(Size::ExtraLarge),
        _ => {
            let text = format!("unknown load option {name}");
            Err(Failure::new(BAD_FEATURE, text))
        }
    }
}

/// Where a check writes.
struct Site<'a> {
    settings: &'a Settings,
    prefix: Bytes,
    auto_compact: bool,
    auto_defrag: bool,
}

impl Site<'_> {
    /// One client for each of `count` connections.
    async fn clients(&self, count: usize) -> Result<Vec<Client>, Failure> {
        let mut clients = Vec::with_capacity(count);
        for _ in 0..count {
            clients.push(Client::open_lasting(self.settings).await?);
        }
        Ok(clients)
    }

    /// Refuses a prefix that has keys already: they are not ours to delete. `quote` is how etcdctl
    /// quotes the remedy.
    async fn refuse_keys(&self, client: &mut Client, quote: &str) -> Result<(), Failure> {
        let (key, range_end) = range_of(&self.prefix);
        let request = RangeRequest {
            key,
            range_end,
            limit: 1,
            ..RangeRequest::default()
        };
        if client.range(request).await?.kvs.is_empty() {
            return Ok(());
        }
        let prefix = String::from_utf8_lossy(&self.prefix);
        let remedy = format!("etcdctl del --prefix {prefix}");
        let text = format!("prefix {prefix:?} has keys. Delete with {quote}{remedy}{quote} first");
        Err(Failure::new(INVALID_INPUT, text))
    }

    /// Deletes what was written, and gives its space back if that is asked for.
    async fn clean_up(&self, client: &mut Client, out: &mut dyn Write) -> Result<(), Failure> {
        let (key, range_end) = range_of(&self.prefix);
        let request = DeleteRangeRequest {
            key,
            range_end,
            prev_kv: false,
        };
        let deleted = client.delete_range(request).await?;
        if self.auto_compact {
            let revision = deleted.header.unwrap_or_default().revision;
            let request = CompactionRequest {
                revision,
                physical: true,
            };
            writeln!(out, "Compacting with revision {revision}")?;
            client.compact(request).await?;
            writeln!(out, "Compacted with revision {revision}")?;
        }
        if self.auto_defrag {
            for endpoint in &self.settings.endpoints {
                let settings = self.settings.with_endpoint(endpoint);
                writeln!(out, "Defragmenting {endpoint:?}")?;
                Client::open_lasting(&settings).await?.defragment().await?;
                writeln!(out, "Defragmented {endpoint:?}")?;
            }
        }
        Ok(())
    }
}
