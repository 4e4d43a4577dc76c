//! `--write-out=table`, and the rows that `simple` joins by commas.

use std::io::{self, Write};

use althing_api::etcdserverpb::Member;

use crate::print::{HashKv, Health, Status};

/// The columns of `member list`.
pub const MEMBER_HEADINGS: &[&str] = &[
    "ID",
    "Status",
    "Name",
    "Peer Addrs",
    "Client Addrs",
    "Is Learner",
];

/// What is one row of a table.
pub trait Rows {
    /// The columns' names.
    const HEADINGS: &'static [&'static str];

    /// One cell for each column.
    fn cells(&self) -> Vec<String>;
}

/// The rows of many.
pub fn rows<T: Rows>(items: &[T]) -> Vec<Vec<String>> {
    items.iter().map(Rows::cells).collect()
}

impl Rows for Member {
    const HEADINGS: &'static [&'static str] = MEMBER_HEADINGS;

    fn cells(&self) -> Vec<String> {
        // A member that was added but never ran has not told its name yet.
        let state = if self.name.is_empty() {
            "unstarted"
        } else {
            "started"
        };
        vec![
            format!("{:x}", self.id),
            state.to_owned(),
            self.name.clone(),
            self.peer_ur_ls.join(","),
            self.client_ur_ls.join(","),
            self.is_learner.to_string(),
        ]
    }
}

impl Rows for Health {
    const HEADINGS: &'static [&'static str] = &["endpoint", "health", "took", "error"];

    fn cells(&self) -> Vec<String> {
        let healthy = self.healthy.to_string();
        vec![
            self.endpoint.clone(),
            healthy,
            self.took.clone(),
            self.error.clone(),
        ]
    }
}

impl Rows for Status {
    const HEADINGS: &'static [&'static str] = &[
        "endpoint",
        "ID",
        "version",
        "db size",
        "is leader",
        "is learner",
        "raft term",
        "raft index",
        "raft applied index",
        "errors",
    ];

    fn cells(&self) -> Vec<String> {
        let status = &self.answer;
        let own = status.header.unwrap_or_default().member_id;
        vec![
            self.endpoint.clone(),
            format!("{own:x}"),
            status.version.clone(),
            human_bytes(u64::try_from(status.db_size).unwrap_or(0)),
            (status.leader == own).to_string(),
            status.is_learner.to_string(),
            status.raft_term.to_string(),
            status.raft_index.to_string(),
            status.raft_applied_index.to_string(),
            status.errors.join(", "),
        ]
    }
}

impl Rows for HashKv {
    const HEADINGS: &'static [&'static str] = &["endpoint", "hash"];

    fn cells(&self) -> Vec<String> {
        vec![self.endpoint.clone(), self.answer.hash.to_string()]
    }
}

/// A size in decimal units, with one digit behind the point below ten: `20 kB`, `2.1 GB`.
fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 10 {
        return format!("{bytes} B");
    }
    let mut unit = 0;
    let mut divisor = 1u64;
    while unit + 1 < UNITS.len() && bytes / divisor >= 1000 {
        divisor *= 1000;
        unit += 1;
    }
    let value = (bytes as f64 / divisor as f64 * 10.0 + 0.5).floor() / 10.0;
    let digits = usize::from(value < 10.0);
    format!("{value:.digits$} {}", UNITS[unit])
}

/// Writes a framed table: headings in capitals and centred, cells to the right.
///
/// # Errors
/// `out` cannot be written.
pub fn write(out: &mut dyn Write, headings: &[&str], rows: &[Vec<String>]) -> io::Result<()> {
    let headings: Vec<String> = headings
        .iter()
        .map(|heading| heading.to_uppercase())
        .collect();
    let width = |text: &String| text.chars().count();
    let mut widths: Vec<usize> = headings.iter().map(width).collect();
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            widths[column] = widths[column].max(width(cell));
        }
    }
    let dashes: Vec<String> = widths.iter().map(|width| "-".repeat(width + 2)).collect();
    let border = format!("+{}+", dashes.join("+"));

    writeln!(out, "{border}")?;
    for (heading, width) in headings.iter().zip(&widths) {
        write!(out, "| {heading:^width$} ")?;
    }
    writeln!(out, "|\n{border}")?;
    for row in rows {
        for (cell, width) in row.iter().zip(&widths) {
            write!(out, "| {cell:>width$} ")?;
        }
        writeln!(out, "|")?;
    }
    writeln!(out, "{border}")
}
