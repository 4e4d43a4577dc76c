//! What ails a cluster, a data directory or a configuration, and what to do about it.
//!
//! ```text
//!  ask (members) ------------> cluster ----\
//!  offline::look (files) ----> directory ---+--> Report --> text or JSON
//!  althing_conf (a file) ----> configuration/
//! ```
//! `cluster`, `member`, `directory` and `configuration` decide: facts in, findings out, nobody is
//! asked. `ask` and `offline::look` collect the facts and judge nothing. What could not be learned
//! is a missing fact, not a failure: a report is made of whatever was found.

pub mod ask;
pub mod cluster;
pub mod configuration;
pub mod directory;
pub mod member;
pub mod page;

use std::io::Write;

use serde::Serialize;

use crate::failure::Failure;
use crate::print::{Format, Printer, counted};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It does not work, or data is at stake.
    Error,
    /// It works, and will not for long, or not after the next failure.
    Warning,
    /// Worth knowing; nothing is wrong.
    Note,
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What kind of trouble, in a word that scripts may rely on.
    pub what: &'static str,
    /// Where: a member, a file, an option.
    pub place: String,
    /// What is the matter.
    pub text: String,
    /// Why it matters.
    pub why: String,
    /// What to do, a command where there is one.
    pub remedy: String,
}

impl Finding {
    /// An error.
    pub fn error(what: &'static str, place: impl Into<String>, text: impl Into<String>) -> Self {
        Finding::new(Severity::Error, what, place.into(), text.into())
    }

    /// A warning.
    pub fn warning(what: &'static str, place: impl Into<String>, text: impl Into<String>) -> Self {
        Finding::new(Severity::Warning, what, place.into(), text.into())
    }

    /// A note.
    pub fn note(what: &'static str, place: impl Into<String>, text: impl Into<String>) -> Self {
        Finding::new(Severity::Note, what, place.into(), text.into())
    }

    fn new(severity: Severity, what: &'static str, place: String, text: String) -> Self {
        Finding {
            severity,
            what,
            place,
            text,
            why: String::new(),
            remedy: String::new(),
        }
    }

    /// Says why it matters.
    #[must_use]
    pub fn because(self, why: impl Into<String>) -> Self {
        Finding {
            why: why.into(),
            ..self
        }
    }

    /// Says what to do.
    #[must_use]
    pub fn so(self, remedy: impl Into<String>) -> Self {
        Finding {
            remedy: remedy.into(),
            ..self
        }
    }
}

/// What was looked at and what was found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Whether nothing is wrong; there may be notes.
    pub healthy: bool,
    /// What was looked at, one sentence each.
    pub examined: Vec<String>,
    /// The findings, the worst first.
    pub findings: Vec<Finding>,
}

impl Report {
    /// A report of what was examined and found.
    pub fn new(examined: Vec<String>, mut findings: Vec<Finding>) -> Report {
        findings.sort_by_key(|finding| finding.severity);
        let is_harmless = |finding: &Finding| finding.severity == Severity::Note;
        Report {
            healthy: findings.iter().all(is_harmless),
            examined,
            findings,
        }
    }

    /// Writes the report for people, or as JSON.
    ///
    /// # Errors
    /// The format does not exist for it, or `out` cannot be written.
    pub fn write(&self, printer: &Printer, out: &mut dyn Write) -> Result<(), Failure> {
        match printer.format {
            Format::Simple => self.text(out),
            Format::Json => {
                let text = serde_json::to_string(self).expect("strings have a JSON form");
                Ok(writeln!(out, "{text}")?)
            }
            _ => Err(printer.unsupported()),
        }
    }

    /// Refuses a format that [`Report::write`] lacks before anybody is asked.
    ///
    /// # Errors
    /// The format is neither simple nor JSON.
    pub fn check(printer: &Printer) -> Result<(), Failure> {
        match printer.format {
            Format::Simple | Format::Json => Ok(()),
            _ => Err(printer.unsupported()),
        }
    }

    fn text(&self, out: &mut dyn Write) -> Result<(), Failure> {
        for sentence in &self.examined {
            writeln!(out, "examined: {sentence}")?;
        }
        for finding in &self.findings {
            let severity = match finding.severity {
                Severity::Error => "ERROR",
                Severity::Warning => "WARNING",
                Severity::Note => "NOTE",
            };
            let Finding {
                what,
                place,
                text,
                why,
                remedy,
                ..
            } = finding;
            writeln!(out, "\n{severity} {what}: {place}\n  {text}")?;
            for (name, sentence) in [("why", why), ("do", remedy)] {
                if !sentence.is_empty() {
                    writeln!(out, "  {name}: {sentence}")?;
                }
            }
        }
        let count = |severity, noun| {
            let same = self.findings.iter().filter(|one| one.severity == severity);
            counted(same.count() as u64, noun)
        };
        let verdict = if self.healthy {
            "healthy"
        } else {
            "not healthy"
        };
        let errors = count(Severity::Error, "error");
        let warnings = count(Severity::Warning, "warning");
        let notes = count(Severity::Note, "note");
        Ok(writeln!(out, "\n{verdict}: {errors}, {warnings}, {notes}")?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(report: &Report, format: Format) -> String {
        let printer = Printer {
            format,
            hex: false,
            value_only: false,
        };
        let mut out = Vec::new();
        report.write(&printer, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_report_says_the_worst_first_and_what_to_do() {
        let findings = vec![
            Finding::note("learner", "b", "is a learner"),
            Finding::error("no-leader", "a", "has no leader")
                .because("nothing can be written")
                .so("start the others"),
        ];
        let report = Report::new(vec!["a cluster".to_owned()], findings);
        let text = "examined: a cluster\n\nERROR no-leader: a\n  has no leader\n  why: nothing can \
                    be written\n  do: start the others\n\nNOTE learner: b\n  is a learner\n\nnot \
                    healthy: 1 error, 0 warnings, 1 note\n";
        assert_eq!(printed(&report, Format::Simple), text);
        let json = "{\"healthy\":false,\"examined\":[\"a cluster\"],\"findings\":[{\"severity\":\
                    \"error\",\"what\":\"no-leader\",\"place\":\"a\",\"text\":\"has no leader\",\
                    \"why\":\"nothing can be written\",\"remedy\":\"start the others\"},";
        assert!(printed(&report, Format::Json).starts_with(json));
    }

    #[test]
    fn notes_alone_are_healthy() {
        let report = Report::new(Vec::new(), vec![Finding::note("learner", "b", "is one")]);
        assert!(report.healthy);
        assert!(!Report::new(Vec::new(), vec![Finding::warning("x", "b", "t")]).healthy);
    }
}
