//! What a new reading of the configuration would change in a member that runs.
//!
//! Values are compared, not their texts: `1s` is `1000ms`. The reading has to pass every rule that
//! a start has. What a reload does not change keeps its running value, and the rules are judged
//! once more over that mixture: a larger request must fit into the log as it is, not as it will be
//! after the restart.

use crate::config::{Config, Url};
use crate::effect::Effect;
use crate::error::{Fault, LoadError};
use crate::layers::{Remarks, Values};
use crate::load::{self, Given, Loaded};
use crate::reader::Reader;
use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr};

/// A file's name and text, read in place of the file of `--config-file`.
#[derive(Clone, Copy, Debug)]
pub struct FileInstead<'a> {
    /// As messages call it.
    pub name: &'a str,
    /// TOML.
    pub text: &'a str,
}

/// A configuration that may take the place of the running one.
#[derive(Clone, Debug)]
pub struct Reload {
    /// What the member is to run with from now on.
    pub next: Loaded,
    /// What differs from before, in the manual's order.
    pub changes: Vec<Change>,
}

/// One option whose value differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The running value, and where it came from.
    pub from: Given,
    /// The new value, and where it comes from.
    pub to: Given,
    /// When it takes effect.
    pub effect: Effect,
}

impl Loaded {
    /// Reads all layers again, as at the start, and compares. Errors: every mistake that would
    /// refuse a start, a changed identity, and a combination that only a restart can bring about;
    /// each refuses the whole.
    pub fn reload(
        &self,
        args: impl IntoIterator<Item = OsString>,
        env: impl IntoIterator<Item = (OsString, OsString)>,
        file: Option<FileInstead<'_>>,
    ) -> Result<Reload, LoadError> {
        let (values, remarks) = load::read(args, env, file)?;
        let wanted = load::judge(values, remarks)?;
        let changes: Vec<Change> = self.changes(&wanted).collect();
        refuse_identity(&wanted.values, &changes)?;
        let mut values = wanted.values;
        for change in changes.iter().filter(|c| c.effect != Effect::Reload) {
            let kept = &self.values[change.from.key];
            values.insert(change.from.key.to_owned(), kept.clone());
        }
        let warnings = wanted.warnings;
        let mut next = load::judge(values, Remarks::default()).map_err(needs_restart)?;
        next.warnings = warnings;
        Ok(Reload { next, changes })
    }

    fn changes<'a>(&'a self, wanted: &'a Loaded) -> impl Iterator<Item = Change> + 'a {
        let pairs = self.origins().iter().zip(wanted.origins());
        // A value that is derived from another option's changes with that one, and is not named.
        let differ = |from: &Given, to: &Given| {
            from.value != to.value && self.meanings.get(from.key) != wanted.meanings.get(to.key)
        };
        pairs
            .filter(move |(from, to)| differ(from, to))
            .map(|(from, to)| Change {
                from: from.clone(),
                to: to.clone(),
                effect: self.effect(wanted, from.key),
            })
    }

    /// When the change of an option takes effect. No listener is closed before another one is open
    /// in its place, so one that covers the address of an open one has to wait for a restart, and
    /// so has the URL that advertises it.
    fn effect(&self, wanted: &Loaded, key: &str) -> Effect {
        let of = |config: &Config| match key {
            "client.listen_urls" | "client.advertise_urls" => config.client.listen_urls.clone(),
            "client.metrics_urls" => config.client.metrics_urls.clone(),
            "peer.listen_urls" => config.peer.listen_urls.clone(),
            _ => Vec::new(),
        };
        let (open, wanted) = (of(&self.config), of(&wanted.config));
        let mut missing = wanted.iter().filter(|url| !open.contains(url));
        let (client, peer) = (&self.config.client, &self.config.peer);
        let all = [&client.listen_urls, &client.metrics_urls, &peer.listen_urls];
        if missing.any(|url| all.into_iter().flatten().any(|open| overlap(open, url))) {
            Effect::Restart
        } else {
            Effect::of(key)
        }
    }
}

/// Whether two listeners cannot be open at once.
fn overlap(one: &Url, other: &Url) -> bool {
    // As the member opens it.
    let address = |url: &Url| match url.host.as_str() {
        "localhost" => Some(IpAddr::from(Ipv4Addr::LOCALHOST)),
        host => host.parse().ok(),
    };
    let (Some(a), Some(b)) = (address(one), address(other)) else {
        return false;
    };
    // The wildcard address of IPv6 is open to IPv4 too.
    let covers = |wide: IpAddr, b: IpAddr| wide.is_unspecified() && (wide.is_ipv6() || b.is_ipv4());
    one.port != 0 && one.port == other.port && (a == b || covers(a, b) || covers(b, a))
}

fn refuse_identity(wanted: &Values, changes: &[Change]) -> Result<(), LoadError> {
    let defaults = load::defaults();
    let mut reader = Reader::new(wanted, &defaults, Vec::new());
    for change in changes.iter().filter(|c| c.effect == Effect::Identity) {
        let fault = Fault::new(
            format!(
                "says who the member is, which runs with {:?}",
                change.from.value
            ),
            "set it back; to change it, stop the member first",
        );
        reader.refuse(change.from.key, fault);
    }
    if reader.mistakes.is_empty() {
        Ok(())
    } else {
        Err(LoadError::Refused(reader.mistakes))
    }
}

/// The file alone is in order, so its mixture with the running values is what is refused.
fn needs_restart(error: LoadError) -> LoadError {
    match error {
        LoadError::Refused(mut mistakes) => {
            for mistake in &mut mistakes {
                mistake.remedy = "it fits what only a restart changes: restart the member".into();
            }
            LoadError::Refused(mistakes)
        }
        other => other,
    }
}

/// Judges a file over the built-in defaults alone, without looking at directories: it may be meant
/// for another machine. Errors: every mistake.
pub fn check_file(file: FileInstead<'_>) -> Result<Loaded, LoadError> {
    let (values, remarks) = load::read([OsString::from("althingd")], [], Some(file))?;
    load::judge_without_directories(values, remarks)
}
