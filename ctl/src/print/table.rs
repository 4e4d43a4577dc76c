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

/// One row for each of `items`.
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

/// A size in decimal units, with one digit after the point below ten: `20 kB`, `2.1 GB`.
pub(crate) fn human_bytes(bytes: u64) -> String {
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

/// A number of things, in the plural unless it is one: `1 key`, `2 keys`.
pub(crate) fn counted(count: u64, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

/// Cells wider than this are broken between words, if they have several (characters).
const CELL_WIDTH_MAX: usize = 30;

/// Breaks a cell into lines of at most [`CELL_WIDTH_MAX`], or as wide as its longest word, so that
/// the squares of what the lines leave empty add up to the least; the last line may be short.
fn wrap(cell: &str) -> Vec<String> {
    let words: Vec<&str> = cell.split(' ').collect();
    let longest = words.iter().map(|word| width(word)).max().unwrap_or(0);
    let limit = longest.max(CELL_WIDTH_MAX);
    // For the words from each position on: the least cost, and where the next line begins.
    let mut best = vec![(0, words.len()); words.len() + 1];
    for first in (0..words.len()).rev() {
        let mut line = 0;
        let mut least = (usize::MAX, words.len());
        for (next, word) in (first + 1..).zip(&words[first..]) {
            line += width(word) + usize::from(next > first + 1);
            if line > limit {
                break;
            }
            let last = next == words.len();
            let cost = if last {
                0
            } else {
                (limit - line).pow(2) + best[next].0
            };
            if cost < least.0 {
                least = (cost, next);
            }
        }
        best[first] = least;
    }
    let mut lines = Vec::new();
    let mut first = 0;
    while first < words.len() {
        let next = best[first].1;
        lines.push(words[first..next].join(" "));
        first = next;
    }
    lines
}

fn width(text: &str) -> usize {
    text.chars().count()
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
    let mut widths: Vec<usize> = headings.iter().map(|heading| width(heading)).collect();
    let mut wrapped = Vec::new();
    for row in rows {
        let cells: Vec<Vec<String>> = row.iter().map(|cell| wrap(cell)).collect();
        for (column, lines) in cells.iter().enumerate() {
            // A cell that was broken keeps the width it was broken for.
            let least = width(&row[column]).min(CELL_WIDTH_MAX);
            let widest = lines.iter().map(|line| width(line)).max().unwrap_or(0);
            widths[column] = widths[column].max(least).max(widest);
        }
        wrapped.push(cells);
    }
    let dashes: Vec<String> = widths.iter().map(|width| "-".repeat(width + 2)).collect();
    let border = format!("+{}+", dashes.join("+"));

    writeln!(out, "{border}")?;
    for (heading, width) in headings.iter().zip(&widths) {
        write!(out, "| {heading:^width$} ")?;
    }
    writeln!(out, "|\n{border}")?;
    for cells in &wrapped {
        let height = cells.iter().map(Vec::len).max().unwrap_or(0);
        for position in 0..height {
            for (lines, width) in cells.iter().zip(&widths) {
                let line = lines.get(position).map_or("", String::as_str);
                write!(out, "| {line:>width$} ")?;
            }
            writeln!(out, "|")?;
        }
    }
    writeln!(out, "{border}")
}
