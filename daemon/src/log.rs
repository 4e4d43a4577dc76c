//! Log lines on standard error: JSON objects with etcd's keys, so that what reads etcd's logs can
//! read ours, or text for people.

use std::fmt;
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use althing_conf::config::{Log, LogFormat};
use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::{Format, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, Registry, reload};

/// Microseconds in UTC, as etcd writes them.
const TIMESTAMP: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z");

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter cannot be read.
    #[error("--log-level {level:?}: {reason}; use debug, info, warn, error or target=level,...")]
    Filter {
        /// What was given.
        level: String,
        /// The parser's complaint.
        reason: String,
    },
    /// A logger was set before.
    #[error("logging was set up twice")]
    Twice,
}

/// What the modules of our crates begin with.
const OURS: &str = "althing";

/// openraft warns of each message that a member does not answer, a dozen a second for as long as it
/// is down, and of each that comes too late. That a member cannot be reached, and that it can
/// again, is logged once by its link; RaftNode tells who leads. A call that finds raft ended is an
/// error to openraft, even where the member stops in order; RaftNode tells why it ended.
const REPEATED: &str = "openraft::core::heartbeat=error,openraft::replication=error,\
                        openraft::core::raft_core=error,openraft::raft::raft_inner=off,\
                        openraft::engine::handler::replication_handler=error";

/// The filter of a level. A bare level is ours: at `info` and below, libraries log what only their
/// authors need, so only their warnings pass. A list of targets is taken as it is.
fn directives(level: &str) -> String {
    match level.parse::<LevelFilter>() {
        Ok(own) if own >= LevelFilter::WARN => format!("warn,{REPEATED},{OURS}={level}"),
        _ => level.to_owned(),
    }
}

/// Changes what is logged, and how, while the process runs.
#[derive(Clone, Debug)]
pub struct Control {
    filter: reload::Handle<EnvFilter, Registry>,
    is_json: Arc<AtomicBool>,
}

/// What is to be logged, and how; checked already.
#[derive(Debug)]
pub struct Lines {
    filter: EnvFilter,
    is_json: bool,
}

impl Control {
    /// Reads the options. Error: a filter that cannot be read.
    pub fn prepare(&self, log: &Log) -> Result<Lines, LogError> {
        prepare(log)
    }

    /// Logs like this from now on.
    pub fn take_over(&self, lines: Lines) {
        self.is_json.store(lines.is_json, Ordering::Relaxed);
        if let Err(error) = self.filter.reload(lines.filter) {
            // This fails only without a subscriber, and the subscriber lives as long as the
            // process.
            tracing::warn!(%error, "the log keeps its level");
        }
    }
}

fn prepare(log: &Log) -> Result<Lines, LogError> {
    let filter = EnvFilter::try_new(directives(&log.level));
    let filter = filter.map_err(|error| LogError::Filter {
        level: log.level.clone(),
        reason: error.to_string(),
    })?;
    let is_json = log.format == LogFormat::Json;
    Ok(Lines { filter, is_json })
}

/// Sends the log of this process to standard error.
pub fn start(log: &Log) -> Result<Control, LogError> {
    let Lines { filter, is_json } = prepare(log)?;
    let (filter, handle) = reload::Layer::new(filter);
    let is_json = Arc::new(AtomicBool::new(is_json));
    let lines = tracing_subscriber::fmt::layer()
        .event_format(Line {
            is_json: Arc::clone(&is_json),
            text: tracing_subscriber::fmt::format().with_target(false),
        })
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    let subscriber = tracing_subscriber::registry().with(filter).with(lines);
    let started = tracing::subscriber::set_global_default(subscriber);
    started.map_err(|_| LogError::Twice)?;
    Ok(Control {
        filter: handle,
        is_json,
    })
}

/// A line in the format of the moment.
struct Line {
    is_json: Arc<AtomicBool>,
    text: Format,
}

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if self.is_json.load(Ordering::Relaxed) {
            JsonLine.format_event(context, writer, event)
        } else {
            self.text.format_event(context, writer, event)
        }
    }
}

/// One JSON object per line: level, ts, caller, msg, then the fields in their order.
struct JsonLine;

impl<S, N> FormatEvent<S, N> for JsonLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let line = line_of(event, OffsetDateTime::now_utc());
        writeln!(writer, "{line}")
    }
}

fn line_of(event: &Event<'_>, now: OffsetDateTime) -> Value {
    let metadata = event.metadata();
    let mut fields = Fields::default();
    event.record(&mut fields);
    let mut line = Map::new();
    let mut add = |key: &str, value: String| line.insert(key.to_owned(), Value::String(value));
    add("level", level_name(*metadata.level()).to_owned());
    add("ts", timestamp(now));
    if let (Some(file), Some(number)) = (metadata.file(), metadata.line()) {
        add("caller", format!("{}:{number}", short_path(file)));
    }
    add("msg", fields.message);
    line.extend(fields.others);
    Value::Object(line)
}

/// A moment as the lines show it.
pub(crate) fn timestamp(moment: OffsetDateTime) -> String {
    moment.format(TIMESTAMP).unwrap_or_default()
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        // etcd's most verbose level.
        Level::DEBUG | Level::TRACE => "debug",
    }
}

/// The last two parts of a path: enough to find the file, as etcd shows it.
fn short_path(path: &str) -> &str {
    let mut parts = path.rmatch_indices('/').map(|(at, _)| at + 1);
    parts.nth(1).map_or(path, |at| &path[at..])
}

/// The message and the fields of one event.
#[derive(Default)]
struct Fields {
    message: String,
    others: Vec<(String, Value)>,
}

impl Fields {
    fn add(&mut self, field: &Field, value: impl Into<Value>) {
        // etcd separates words by hyphens; a field's name in Rust cannot hold one.
        let name = field.name().replace('_', "-");
        self.others.push((name, value.into()));
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        if field.name() == "message" {
            self.message = text;
        } else {
            self.add(field, text);
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message = value.to_owned();
        } else {
            self.add(field, value);
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.add(field, value.to_string());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, value);
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no writer panics").extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn every_level_that_a_configuration_may_have_can_be_logged_by() {
        let texts = [
            "info",
            "off",
            "warn,a_b::c=debug",
            "a-b=off",
            "a[s{x}]=trace",
            "[s]=info",
        ];
        for text in texts
            .into_iter()
            .chain(["a=b=info", "a b=info", "=info", "a[b=info"])
        {
            let args = ["althingd", "--log-level", text].map(Into::into);
            match althing_conf::Config::load(args, []) {
                Ok(loaded) => drop(prepare(&loaded.config.log).expect(text)),
                Err(error) => assert!(!texts.contains(&text), "{error}"),
            }
        }
    }

    #[test]
    fn a_line_has_the_keys_of_etcd_in_their_order() {
        let lines = Written::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .event_format(JsonLine)
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(member_id = "8e9e", count = 3, ok = true, "a \"word\"");
        });
        let bytes = lines.0.lock().expect("no writer panics").clone();
        let text = String::from_utf8(bytes).expect("JSON is text");
        assert!(text.ends_with("}\n"), "{text}");
        let line: Map<String, Value> = serde_json::from_str(&text).expect("one object");
        let keys: Vec<_> = line.keys().map(String::as_str).collect();
        let expected = ["level", "ts", "caller", "msg", "member-id", "count", "ok"];
        assert_eq!(keys, expected);
        assert_eq!(line["level"], "warn");
        assert_eq!(line["msg"], "a \"word\"");
        assert_eq!(line["count"], 3);
        let ts = line["ts"].as_str().expect("a text");
        assert_eq!(ts.len(), "2026-08-20T10:00:00.000000Z".len(), "{ts}");
        let caller = line["caller"].as_str().expect("a text");
        assert!(caller.starts_with("src/log.rs:"), "{caller}");
    }

    #[test]
    fn a_caller_is_shown_by_its_last_two_parts() {
        assert_eq!(short_path("daemon/src/rpc/kv.rs"), "rpc/kv.rs");
        assert_eq!(short_path("a/b"), "a/b");
        assert_eq!(short_path("b"), "b");
    }

    #[test]
    fn a_bare_level_is_ours_and_a_list_is_taken_as_it_is() {
        for level in ["warn", "info", "debug"] {
            let expected = format!("warn,{REPEATED},althing={level}");
            assert_eq!(directives(level), expected);
        }
        assert_eq!(directives("error"), "error");
        assert_eq!(directives("info,openraft=debug"), "info,openraft=debug");
        assert_eq!(directives("openraft=debug"), "openraft=debug");
    }

    #[test]
    fn our_lines_pass_at_the_level_and_those_of_libraries_only_as_warnings() {
        let seen = |level: &str| {
            let lines = Written::default();
            let writer = lines.clone();
            let subscriber = tracing_subscriber::fmt()
                .with_env_filter(EnvFilter::try_new(directives(level)).expect("a filter"))
                .with_writer(move || writer.clone())
                .event_format(JsonLine)
                .finish();
            tracing::subscriber::with_default(subscriber, || {
                tracing::info!(target: "althing_actors::node", "own");
                tracing::info!(target: "openraft::core", "foreign");
                tracing::warn!(target: "hyper::proto", "warning");
                tracing::warn!(target: "openraft::core::heartbeat::worker", "repeated");
            });
            let bytes = lines.0.lock().expect("no writer panics").clone();
            let text = String::from_utf8(bytes).expect("JSON is text");
            let messages = ["own", "foreign", "warning", "repeated"];
            messages.map(|message| text.contains(message))
        };
        assert_eq!(seen("info"), [true, false, true, false]);
        assert_eq!(seen("debug"), [true, false, true, false]);
        assert_eq!(seen("error"), [false, false, false, false]);
        assert_eq!(seen("warn,openraft=info"), [false, true, true, true]);
    }

    #[test]
    fn a_filter_that_cannot_be_read_is_refused() {
        let log = Log {
            level: "a=b=c=".to_owned(),
            format: LogFormat::Json,
            slow_request: std::time::Duration::ZERO,
            slow_call: std::time::Duration::ZERO,
        };
        assert!(matches!(start(&log), Err(LogError::Filter { .. })));
    }
}
