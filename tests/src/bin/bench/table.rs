//! The report: a table for people, a line of JSON for each row for programs.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use althing_tests::load::Sample;
use serde_json::json;
use tokio::time::error::Elapsed;

use crate::scenario::{Bound, Figure};
use crate::{Effort, Outcome, median};

/// The target for a single figure.
#[derive(Clone, Copy, Debug)]
pub enum Target {
    /// Bounds the ratio of ours to etcd's.
    Ratio(Bound),
    /// Bounds ours, whatever etcd's is.
    Ours(Bound),
}

/// Prints rows and counts targets that were met and missed, and what could not be measured.
#[derive(Debug)]
pub struct Table {
    lines: File,
    began: Instant,
    effort: Effort,
    met: usize,
    missed: usize,
    failed: usize,
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (met, missed, failed) = (self.met, self.missed, self.failed);
        let took = self.began.elapsed().as_secs();
        write!(f, "targets: {met} met, {missed} missed; ")?;
        write!(f, "{failed} rows not measured; {took} s")
    }
}

/// The medians of one program.
#[derive(Clone, Copy, Debug)]
struct Medians {
    throughput: f64,
    p50_us: f64,
    p99_us: f64,
    cpu_us: f64,
}

impl Medians {
    fn of(samples: &[Sample]) -> Medians {
        let of = |figure: fn(&Sample) -> f64| median(samples.iter().map(figure));
        Medians {
            throughput: of(|sample| sample.throughput),
            p50_us: of(|sample| sample.p50_us),
            p99_us: of(|sample| sample.p99_us),
            cpu_us: of(|sample| sample.cpu_us),
        }
    }

    fn ratio(&self, theirs: &Medians, figure: Figure) -> f64 {
        match figure {
            Figure::Throughput => self.throughput / theirs.throughput,
            Figure::P50 => self.p50_us / theirs.p50_us,
            Figure::P99 => self.p99_us / theirs.p99_us,
            Figure::Cpu => self.cpu_us / theirs.cpu_us,
        }
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "throughput": self.throughput, "p50_us": self.p50_us,
            "p99_us": self.p99_us, "cpu_us": self.cpu_us,
        })
    }
}

impl Table {
    /// A report whose lines of JSON go to `path`.
    ///
    /// # Errors
    /// When the file cannot be created.
    pub fn create(path: &Path, effort: Effort) -> io::Result<Table> {
        Ok(Table {
            lines: File::create(path)?,
            began: Instant::now(),
            effort,
            met: 0,
            missed: 0,
            failed: 0,
        })
    }

    /// The longest time for the next row.
    pub fn time_for_a_row(&self) -> Duration {
        let left = self.effort.all_max.saturating_sub(self.began.elapsed());
        left.min(self.effort.row_max)
    }

    /// The number of rows that were not measured.
    pub fn failed(&self) -> usize {
        self.failed
    }

    /// Reports a row if it was not measured.
    ///
    /// # Errors
    /// When the line cannot be written.
    pub fn settle(&mut self, name: &str, outcome: Result<Outcome, Elapsed>) -> io::Result<()> {
        let why = match outcome {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it took too long".to_owned(),
        };
        self.failed += 1;
        println!("{name:<26} NOT MEASURED: {why}");
        let line = json!({ "scenario": name, "failed": why });
        writeln!(self.lines, "{line}")
    }

    /// The head of the table of scenarios.
    pub fn head(&self) {
        println!("Each figure: ours | etcd's | ratio. Latency and CPU in microseconds.\n");
        println!(
            "{:<26} {:>24} {:>22} {:>24} {:>22}  targets",
            "", "answers/s", "p50", "p99", "CPU/answer"
        );
    }

    /// A row of the table of scenarios.
    ///
    /// # Errors
    /// When the line cannot be written.
    pub fn row(
        &mut self,
        name: &str,
        clients: usize,
        targets: &[(Figure, Bound)],
        samples: &[Vec<Sample>; 2],
    ) -> io::Result<()> {
        let [ours, theirs] = samples.each_ref().map(|samples| Medians::of(samples));
        let cell = |ours: f64, theirs: f64, width: usize| {
            format!(
                "{:>width$}",
                format!("{ours:.0} | {theirs:.0} | {:.2}", ours / theirs)
            )
        };
        let mut verdicts = Vec::new();
        for (figure, bound) in targets {
            let ratio = ours.ratio(&theirs, *figure);
            verdicts.push(self.judge(&format!("{figure:?}"), ratio, *bound));
        }
        println!(
            "{:<26} {} {} {} {}  {}",
            name,
            cell(ours.throughput, theirs.throughput, 24),
            cell(ours.p50_us, theirs.p50_us, 22),
            cell(ours.p99_us, theirs.p99_us, 24),
            cell(ours.cpu_us, theirs.cpu_us, 22),
            verdicts.join(", ")
        );
        let line = json!({
            "scenario": name, "clients": clients,
            "ours": ours.json(), "etcd": theirs.json(), "targets": verdicts,
        });
        writeln!(self.lines, "{line}")
    }

    /// Prints rows of single figures below a title: name, ours, etcd's, target.
    ///
    /// # Errors
    /// When a line cannot be written.
    pub fn figures(
        &mut self,
        title: &str,
        rows: &[(&str, f64, f64, Option<Target>)],
    ) -> io::Result<()> {
        println!("\n{title}: ours | etcd's | ratio");
        for (name, ours, theirs, target) in rows {
            let ratio = ours / theirs;
            let verdict = match target {
                Some(Target::Ratio(bound)) => self.judge("", ratio, *bound),
                Some(Target::Ours(bound)) => self.judge("ours", *ours, *bound),
                None => String::new(),
            };
            println!("  {name:<36} {ours:>10.1} | {theirs:>10.1} | {ratio:.2}  {verdict}");
            let line = json!({
                "of": title, "figure": name, "ours": ours, "etcd": theirs, "target": verdict,
            });
            writeln!(self.lines, "{line}")?;
        }
        Ok(())
    }

    fn judge(&mut self, figure: &str, ratio: f64, bound: Bound) -> String {
        let held = bound.holds(ratio);
        if held {
            self.met += 1
        } else {
            self.missed += 1
        }
        let (sign, limit) = match bound {
            Bound::AtLeast(limit) => (">=", limit),
            Bound::AtMost(limit) => ("<=", limit),
        };
        let verdict = if held { "met" } else { "MISSED" };
        format!("{figure} {ratio:.2} {sign} {limit} {verdict}")
            .trim()
            .to_owned()
    }
}
