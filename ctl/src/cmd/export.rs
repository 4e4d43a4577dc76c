//! `export`: keys as readable JSON, at one revision.

use std::io::Write;

use althing_api::etcdserverpb::RangeRequest;
use bytes::Bytes;
use clap::Command;

use crate::args::{Values, manners, positional, switch, valued};
use crate::client::{Client, pages};
use crate::cmd::{exclude, key_range};
use crate::failure::Failure;
use crate::flags::Settings;
use crate::portable::{Head, Record};
use crate::progress::Progress;

/// The command's grammar.
pub fn command() -> Command {
    manners(Command::new("export"))
        .about("Writes keys as readable JSON, one a line: text where it is UTF-8, else base64")
        .override_usage("althingctl export [options] [key] [range_end]")
        .arg(positional())
        .args([
            switch("prefix", "Export keys with matching prefix"),
            switch(
                "from-key",
                "Export keys that are greater than or equal to the given key",
            ),
            valued("rev", "0", "Revision to export at (0: the newest)"),
        ])
}

/// Runs the command.
///
/// # Errors
/// Wrong arguments, the server's refusal.
pub async fn run(
    values: Values<'_>,
    settings: &Settings,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let arguments = values.arguments();
    let (prefix, from_key) = (values.switch("prefix")?, values.switch("from-key")?);
    exclude(("prefix", prefix), ("from-key", from_key))?;
    let (key, range_end) = match arguments.as_slice() {
        [] => key_range(&[Bytes::new()], true, false)?,
        [_] | [_, _] => key_range(&arguments, prefix, from_key)?,
        _ => return Err(Failure::arguments("export takes a key and a range end")),
    };
    let mut client = Client::open_lasting(settings).await?;
    let revision = values.int("rev")?;
    let mut pages = Pages::new(key.clone(), range_end.clone(), revision);
    let mut progress = None;
    while let Some(page) = pages.next(&mut client).await? {
        if progress.is_none() {
            let count = u64::try_from(pages.count).unwrap_or(0);
            let head = Head {
                revision: pages.revision,
                key: key.clone(),
                range_end: range_end.clone(),
                count,
            };
            head.write(out)?;
            progress = Some(Progress::of(count));
        }
        for record in &page {
            record.write(out)?;
        }
        progress.iter().for_each(|bar| bar.add(page.len() as u64));
    }
    Ok(())
}

/// The records of a range at one revision.
pub(super) struct Pages {
    pages: pages::Pages,
    /// The revision at which the range is read; known after the first page.
    pub revision: i64,
    /// How many keys there are; known after the first page.
    pub count: i64,
}

impl Pages {
    /// Begins; `revision` 0 is the newest.
    pub fn new(key: Bytes, range_end: Bytes, revision: i64) -> Pages {
        Pages {
            pages: pages::Pages::new(RangeRequest {
                key,
                range_end,
                revision,
                ..RangeRequest::default()
            }),
            revision,
            count: -1,
        }
    }

    /// The next page, the first even if it is empty; `None` at the end.
    pub async fn next(&mut self, client: &mut Client) -> Result<Option<Vec<Record>>, Failure> {
        let Some(page) = self.pages.next(client).await? else {
            return Ok(None);
        };
        if self.count < 0 {
            self.count = page.count;
        }
        if self.revision == 0 {
            self.revision = page.header.unwrap_or_default().revision;
        }
        Ok(Some(page.kvs.into_iter().map(Record::from).collect()))
    }

    /// All records of the range.
    pub async fn all(mut self, client: &mut Client) -> Result<Vec<Record>, Failure> {
        let mut records = Vec::new();
        while let Some(page) = self.next(client).await? {
            records.extend(page);
        }
        Ok(records)
    }
}
