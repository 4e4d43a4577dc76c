//! What a new reading of the configuration would change in a member that runs.
//!
//! The reading has to pass every rule that a start has. What needs a restart keeps its running
//! value, and the rules are judged once more over that mixture: a larger request must fit into the
//! log as it is, not as it will be after the restart.

use crate::effect::Effect;
use crate::error::{Fault, LoadError};
use crate::layers::{Remarks, Values};
use crate::load::{self, Given, Loaded};
use crate::reader::Reader;
use std::ffi::OsString;

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
        for change in changes.iter().filter(|c| c.effect == Effect::Restart) {
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
        pairs
            .filter(|(from, to)| from.value != to.value)
            .map(|(from, to)| Change {
                from: from.clone(),
                to: to.clone(),
                effect: Effect::of(from.key),
            })
    }
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
    match reader.mistakes.is_empty() {
        true => Ok(()),
        false => Err(LoadError::Refused(reader.mistakes)),
    }
}

/// The file alone is in order, so what is refused is its mixture with what runs.
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
