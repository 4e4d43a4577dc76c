//! Why a configuration was not loaded.

use std::fmt;

/// The outcome of a load that does not end in a running daemon.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LoadError {
    /// `--help` was asked for; the text belongs on standard output.
    #[error("{0}")]
    Help(String),
    /// `--version` was asked for; the text belongs on standard output.
    #[error("{0}")]
    Version(String),
    /// The command line itself could not be read: unknown flag, missing value, stray argument.
    #[error("{0}")]
    Usage(String),
    /// The command line was read; what the layers say is refused. Never empty.
    #[error("{}", listed(.0))]
    Refused(Vec<Mistake>),
}

impl LoadError {
    /// What the process should end with: 0 after help and version, 2 after a command line that
    /// could not be read (as etcd), 78 after a refused configuration, which no service manager
    /// need retry.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            LoadError::Help(_) | LoadError::Version(_) => 0,
            LoadError::Usage(_) => 2,
            LoadError::Refused(_) => 78,
        }
    }

    /// Whether the text is what the operator asked for, so that it belongs on standard output.
    #[must_use]
    pub fn is_answer(&self) -> bool {
        matches!(self, LoadError::Help(_) | LoadError::Version(_))
    }
}

/// One mistake in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The option's key in the file (`client.listen_urls`), or the name that was used instead.
    pub option: String,
    /// The option's flag without dashes; empty if it has no flag.
    pub flag: String,
    /// The value that was given.
    pub value: String,
    /// Where the value was given.
    pub origin: String,
    /// What is wrong with it.
    pub problem: String,
    /// What to do; empty when the problem says it already.
    pub remedy: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.option)?;
        if !self.flag.is_empty() {
            write!(f, " (--{})", self.flag)?;
        }
        if !self.value.is_empty() {
            write!(f, " = {:?}", self.value)?;
        }
        if !self.origin.is_empty() {
            write!(f, ", from {}", self.origin)?;
        }
        write!(f, ": {}", self.problem)?;
        if !self.remedy.is_empty() {
            write!(f, "; {}", self.remedy)?;
        }
        Ok(())
    }
}

fn listed(mistakes: &[Mistake]) -> String {
    let mut text = match mistakes.len() {
        1 => "the configuration is refused:".to_owned(),
        count => format!("the configuration is refused, {count} mistakes:"),
    };
    for mistake in mistakes {
        text.push_str("\n  ");
        text.push_str(&mistake.to_string());
    }
    text
}

/// What is wrong with one value, before it is known which option holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub problem: String,
    pub remedy: String,
}

impl Fault {
    pub fn new(problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Fault {
            problem: problem.into(),
            remedy: remedy.into(),
        }
    }
}
