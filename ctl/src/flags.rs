//! The flags that every command takes, and the settings that follow from them. A flag wins over
//! `ALTHINGCTL_<NAME>`, that over etcdctl's `ETCDCTL_<NAME>`, and that over the default; an empty
//! variable counts as unset.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches};

use crate::args::{self, switch, valued};
use crate::failure::{BAD_ARGS, BAD_FEATURE, Failure};
use crate::print::{Format, Printer};
use crate::text::number;

const HEADING: &str = "Global options";
const PREFIXES: [&str; 2] = ["ALTHINGCTL", "ETCDCTL"];
/// Largest request that is sent when `--max-request-bytes` does not say, in bytes.
const REQUEST_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Largest answer that is accepted when `--max-recv-bytes` does not say, in bytes.
const RECEIVE_BYTES_MAX: usize = i32::MAX as usize;

/// Looks a variable of the environment up; tests bring their own.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// The value of variable `name` with the prefix that is set, and that prefix; ours goes first. An
/// empty variable counts as unset.
pub fn variable(
    environment: Environment<'_>,
    name: &str,
) -> (Option<&'static str>, Option<OsString>) {
    let value = |prefix: &str| environment(&format!("{prefix}_{name}"));
    for prefix in PREFIXES {
        if let Some(value) = value(prefix).filter(|value| !value.is_empty()) {
            return (Some(prefix), Some(value));
        }
    }
    (None, None)
}

/// Everything the global flags say.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the members listen, in the order given; tried in that order.
    pub endpoints: Vec<String>,
    /// How long one connection attempt, or one login, may take.
    pub dial_timeout: Duration,
    /// How long a command may take in all.
    pub command_timeout: Duration,
    /// Silence on a connection after which it is probed.
    pub keepalive_time: Duration,
    /// How long a probe may stay unanswered.
    pub keepalive_timeout: Duration,
    /// Largest request that is sent, in bytes.
    pub request_bytes_max: usize,
    /// Largest answer that is accepted, in bytes.
    pub receive_bytes_max: usize,
    /// The user to log in as.
    pub login: Option<Login>,
    /// A ready-made token, sent as it is.
    pub token: Option<String>,
    /// Certificates, and how strictly to use them.
    pub tls: TlsSettings,
    /// How answers are written.
    pub printer: Printer,
    /// Whether the values of the flags are shown on stderr.
    pub debug: bool,
}

/// `--user` and `--password`, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// The user's name.
    pub name: String,
    /// `None` if it has to be asked for.
    pub password: Option<String>,
}

/// The TLS flags.
#[derive(Clone, Debug, Default)]
pub struct TlsSettings {
    /// `--cacert`
    pub ca_file: Option<PathBuf>,
    /// `--cert`
    pub cert_file: Option<PathBuf>,
    /// `--key`
    pub key_file: Option<PathBuf>,
    /// Whether TLS is used also for endpoints that name no scheme, even without certificates.
    pub required: bool,
    /// `--insecure-skip-tls-verify`
    pub skip_verify: bool,
}

/// The global flags, in the order of etcdctl's manual.
pub fn arguments() -> Vec<Arg> {
    let flags = [
        valued(
            "endpoints",
            "127.0.0.1:2379",
            "gRPC endpoints, separated by commas",
        )
        .action(ArgAction::Append),
        switch(
            "debug",
            "Tell on stderr what the flags and variables came to",
        ),
        valued(
            "write-out",
            "simple",
            "Output format: fields, json, protobuf, simple, table",
        )
        .short('w'),
        switch("hex", "Print byte strings as hex encoded strings"),
        valued("dial-timeout", "2s", "Time for one connection attempt"),
        valued("command-timeout", "5s", "Time for a whole command"),
        valued(
            "keepalive-time",
            "2s",
            "Silence after which a connection is probed",
        ),
        valued("keepalive-timeout", "6s", "Time for the answer to a probe"),
        valued(
            "max-request-bytes",
            "0",
            "Largest request to send in bytes (0: 2 MiB)",
        ),
        valued(
            "max-recv-bytes",
            "0",
            "Largest answer to accept in bytes (0: 2 GiB)",
        ),
        switch(
            "insecure-transport",
            "No TLS where an endpoint names no scheme",
        )
        .default_value("true")
        .hide_default_value(false),
        switch("insecure-discovery", "Accept insecure SRV records")
            .default_value("true")
            .hide_default_value(false),
        switch(
            "insecure-skip-tls-verify",
            "Accept any server certificate (for tests only)",
        ),
        valued(
            "cert",
            "",
            "TLS certificate file that identifies this client",
        ),
        valued("key", "", "TLS key file that identifies this client"),
        valued(
            "cacert",
            "",
            "File of CA certificates that verify the server's certificate",
        ),
        valued(
            "user",
            "",
            "name[:password] for authentication (asks when there is none)",
        ),
        valued("password", "", "Password; then --user holds the name only"),
        valued(
            "auth-jwt-token",
            "",
            "Ready-made token for authentication, instead of --user",
        ),
        valued(
            "discovery-srv",
            "",
            "Domain to query for SRV records (refused)",
        )
        .short('d'),
        valued(
            "discovery-srv-name",
            "",
            "Service name to query when using DNS discovery",
        ),
    ];
    let global = |flag: Arg| flag.global(true).help_heading(HEADING);
    flags.into_iter().map(global).collect()
}

/// The global flags' values, wherever they come from.
struct Sources<'a> {
    matches: &'a ArgMatches,
    environment: Environment<'a>,
}

impl Sources<'_> {
    /// Whether the flag was given on the command line.
    fn on_line(&self, name: &str) -> bool {
        self.matches.value_source(name) == Some(ValueSource::CommandLine)
    }

    /// All texts given for `name`, and the name to blame when they are wrong.
    fn texts(&self, name: &str) -> (Vec<String>, String) {
        if !self.on_line(name) {
            let suffix = name.to_uppercase().replace('-', "_");
            for variable in PREFIXES.map(|prefix| format!("{prefix}_{suffix}")) {
                match (self.environment)(&variable) {
                    Some(value) if !value.is_empty() => {
                        let text = value.to_string_lossy().into_owned();
                        return (vec![text], variable);
                    }
                    _ => {}
                }
            }
        }
        let values = self
            .matches
            .get_many::<OsString>(name)
            .into_iter()
            .flatten();
        let texts = values.map(|value| value.to_string_lossy().into_owned());
        (texts.collect(), String::new())
    }

    fn text(&self, name: &str) -> String {
        self.texts(name).0.pop().unwrap_or_default()
    }

    /// Reads the last text given for `name`.
    fn read<T>(
        &self,
        name: &str,
        parse: impl Fn(&str, &str) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let (mut texts, variable) = self.texts(name);
        let text = texts.pop().expect("every global flag has a default");
        parse(name, &text).map_err(|mut failure| {
            if !variable.is_empty() {
                failure.text = format!("{} (from {variable})", failure.text);
            }
            failure
        })
    }

    fn switch(&self, name: &str) -> Result<bool, Failure> {
        self.read(name, |name, text| {
            args::read_text(name, text, number::parse_bool)
        })
    }

    fn duration(&self, name: &str) -> Result<Duration, Failure> {
        let nanoseconds = self.read(name, args::read_duration)?;
        // A time that lies in the past is over at once, as zero is.
        Ok(Duration::from_nanos(
            u64::try_from(nanoseconds).unwrap_or(0),
        ))
    }

    fn bytes(&self, name: &str, default: usize) -> Result<usize, Failure> {
        let parse =
            |name: &str, text: &str| args::read_text(name, text, |text| number::parse_int(text, 0));
        let limit = self.read(name, parse)?;
        Ok(usize::try_from(limit)
            .ok()
            .filter(|limit| *limit > 0)
            .unwrap_or(default))
    }

    /// A file's path; an empty one on the command line is a script's mistake.
    fn file(&self, name: &str) -> Result<Option<PathBuf>, Failure> {
        let path = self.text(name);
        if path.is_empty() && self.on_line(name) {
            let text = format!("empty string is passed to --{name} option");
            return Err(Failure::new(BAD_ARGS, text));
        }
        Ok((!path.is_empty()).then(|| path.into()))
    }

    fn endpoints(&self) -> Vec<String> {
        let lists = self.texts("endpoints").0;
        let items = lists.iter().flat_map(|list| list.split(','));
        items
            .map(str::trim)
            .filter(|item| !item.is_empty())
            .map(str::to_owned)
            .collect()
    }

    fn login(&self) -> Result<(Option<Login>, Option<String>), Failure> {
        let (user, password) = (self.text("user"), self.text("password"));
        let token = Some(self.text("auth-jwt-token")).filter(|token| !token.is_empty());
        if user.is_empty() {
            return Ok((None, token));
        }
        if token.is_some() {
            let text = "--user and --auth-jwt-token exclude each other";
            return Err(Failure::new(BAD_ARGS, text));
        }
        let (name, password) = match user.split_once(':') {
            _ if !password.is_empty() => (user, Some(password)),
            Some((name, password)) => (name.to_owned(), Some(password.to_owned())),
            None => (user, None),
        };
        Ok((Some(Login { name, password }), None))
    }
}

impl Settings {
    /// Reads the global flags out of a parsed command line.
    ///
    /// # Errors
    /// A value that cannot be read, or a flag that this client refuses.
    pub fn new(matches: &ArgMatches, environment: Environment<'_>) -> Result<Settings, Failure> {
        let sources = Sources {
            matches,
            environment,
        };
        if !sources.text("discovery-srv").is_empty() {
            let text = "--discovery-srv is not supported: name the members with --endpoints";
            return Err(Failure::new(BAD_ARGS, text));
        }
        let unsupported = || Failure::new(BAD_FEATURE, "unsupported output format");
        let (login, token) = sources.login()?;
        // Discovery is refused above, so how insecure its records may be cannot matter.
        sources.switch("insecure-discovery")?;
        Ok(Settings {
            endpoints: sources.endpoints(),
            dial_timeout: sources.duration("dial-timeout")?,
            command_timeout: sources.duration("command-timeout")?,
            keepalive_time: sources.duration("keepalive-time")?,
            keepalive_timeout: sources.duration("keepalive-timeout")?,
            request_bytes_max: sources.bytes("max-request-bytes", REQUEST_BYTES_MAX)?,
            receive_bytes_max: sources.bytes("max-recv-bytes", RECEIVE_BYTES_MAX)?,
            login,
            token,
            tls: TlsSettings {
                ca_file: sources.file("cacert")?,
                cert_file: sources.file("cert")?,
                key_file: sources.file("key")?,
                required: !sources.switch("insecure-transport")?,
                skip_verify: sources.switch("insecure-skip-tls-verify")?,
            },
            printer: Printer {
                format: Format::named(&sources.text("write-out")).ok_or_else(unsupported)?,
                hex: sources.switch("hex")?,
                value_only: false,
            },
            debug: sources.switch("debug")?,
        })
    }

    /// The same settings for the one endpoint `endpoint`.
    pub fn with_endpoint(&self, endpoint: &str) -> Settings {
        Settings {
            endpoints: vec![endpoint.to_owned()],
            ..self.clone()
        }
    }

    /// One line per flag for `--debug`; secrets are not shown.
    pub fn trace(matches: &ArgMatches, environment: Environment<'_>) -> Vec<String> {
        let sources = Sources {
            matches,
            environment,
        };
        let line = |flag: Arg| {
            let name = flag.get_id().as_str();
            let secret = matches!(name, "password" | "user" | "auth-jwt-token");
            let value = match sources.texts(name).0.join(",") {
                value if secret && !value.is_empty() => "***".to_owned(),
                value => value,
            };
            let suffix = name.to_uppercase().replace('-', "_");
            format!("{}_{suffix}={value}", PREFIXES[0])
        };
        let mut lines: Vec<String> = arguments().into_iter().map(line).collect();
        lines.sort();
        lines
    }
}

#[cfg(test)]
#[path = "flags_test.rs"]
mod tests;
