//! Shows what a watch delivers and runs the operator's command for every event.

use std::cell::RefCell;
use std::ffi::OsString;
use std::io::Write;

use althing_api::etcdserverpb::WatchResponse;
use althing_api::mvccpb::Event;
use bytes::Bytes;

use crate::client::{Watched, Watcher};
use crate::cmd::child;
use crate::failure::{ERROR, Failure};
use crate::notice;
use crate::print::Printer;
use crate::text::quote::quote;

/// Where and how a watch is shown.
pub struct Shown<'a, 'w> {
    /// Shared by all watches; nobody holds it while waiting.
    pub out: &'a RefCell<&'w mut dyn Write>,
    /// The format.
    pub printer: Printer,
    /// The command to run for every event; empty for none.
    pub command: Vec<Bytes>,
    /// After how many events to stop; `None` for never.
    pub count: Option<u64>,
}

/// How a watch that did not fail ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// All events that were asked for are shown.
    Complete,
    /// The server canceled it, which has been reported.
    Canceled,
}

/// Shows the watch to its end.
///
/// # Errors
/// The output cannot be written, or the command failed.
pub async fn follow(mut watcher: Watcher, shown: Shown<'_, '_>) -> Result<Ended, Failure> {
    let mut left = shown.count;
    loop {
        match watcher.next().await {
            Watched::Lost(reason) => {
                notice::tell(format_args!("Warning: not connected, trying on: {reason}"));
            }
            Watched::Canceled(answer, reason) => {
                notice::tell(format_args!("watch was canceled ({reason})"));
                shown.show(&answer)?;
                return Ok(Ended::Canceled);
            }
            Watched::Answer(mut answer) => {
                take(&mut answer.events, &mut left);
                shown.show(&answer)?;
                for event in &answer.events {
                    shown.run(&answer, event).await?;
                }
                if left == Some(0) {
                    return Ok(Ended::Complete);
                }
            }
        }
    }
}

/// Drops the events that nobody asked for; `left` counts down those that are taken.
fn take(events: &mut Vec<Event>, left: &mut Option<u64>) {
    let Some(left) = left else { return };
    events.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
    *left = left.saturating_sub(events.len() as u64);
}

impl Shown<'_, '_> {
    fn show(&self, answer: &WatchResponse) -> Result<(), Failure> {
        let mut out = self.out.borrow_mut();
        if !answer.canceled && answer.events.is_empty() {
            let revision = answer.header.unwrap_or_default().revision;
            writeln!(out, "progress notify: {revision}")?;
        }
        self.printer.watch(&mut **out, answer)?;
        // A reader that waits for an event must not wait for a full buffer.
        Ok(out.flush()?)
    }

    async fn run(&self, answer: &WatchResponse, event: &Event) -> Result<(), Failure> {
        if self.command.is_empty() {
            return Ok(());
        }
        let ended = child::run(&self.command, variables(answer, event)).await;
        ended.map_err(|failure| {
            let words: Vec<String> = self.command.iter().map(|word| quote(word)).collect();
            notice::tell(format_args!(
                "command [{}] error ({failure})",
                words.join(" ")
            ));
            Failure::new(ERROR, "")
        })
    }
}

fn variables(answer: &WatchResponse, event: &Event) -> Vec<(&'static str, OsString)> {
    let revision = answer.header.unwrap_or_default().revision;
    let (key, value) = match &event.kv {
        Some(kv) => (quote(&kv.key), quote(&kv.value)),
        None => (quote(b""), quote(b"")),
    };
    let kind = quote(event.r#type().as_str_name().as_bytes());
    vec![
        ("ETCD_WATCH_REVISION", revision.to_string().into()),
        ("ETCD_WATCH_EVENT_TYPE", kind.into()),
        ("ETCD_WATCH_KEY", key.into()),
        ("ETCD_WATCH_VALUE", value.into()),
    ]
}

#[cfg(test)]
#[path = "follow_test.rs"]
mod tests;
