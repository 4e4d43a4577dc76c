//! From arguments and environment to a configuration that can be started.

use crate::config::{AutoCompaction, Client, Cluster, Config, InitialState, Log};
use crate::config::{LogFormat, Member, Metrics, Peer, Raft, Store, Trace, Url};
use crate::error::{LoadError, Mistake};
use crate::flags::{self, CONFIG_FILE, Flags};
use crate::layers::{self, DEFAULT, Layer, Remarks, Values};
use crate::option::OPTIONS;
use crate::reader::{self, Meanings, Reader};
use crate::reload::FileInstead;
use crate::{DEFAULT_TOML, check, reach, units, urls};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;
const MILLISECOND: u64 = 1_000_000;
const HOUR: u64 = 3_600 * 1_000 * MILLISECOND;

/// The quota that etcd's 0 stands for, in bytes.
const QUOTA_DEFAULT: u64 = 2 * GIB;

/// A configuration, and what is worth telling about it.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration; every rule holds.
    pub config: Config,
    /// Sentences for the log: what was accepted but has no effect.
    pub warnings: Vec<String>,
    pub(crate) values: Values,
    pub(crate) meanings: Meanings,
    given: Vec<Given>,
}

/// One option as it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// `section.key`, as in the file.
    pub key: &'static str,
    /// The flag without dashes.
    pub flag: &'static str,
    /// The value as written; empty where the default is derived from other options.
    pub value: String,
    /// Where it was written.
    pub origin: String,
}

impl Given {
    /// Whether somebody set it, to whatever value.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.origin != DEFAULT
    }
}

impl Loaded {
    /// Every option with its value and where that came from, in the manual's order.
    #[must_use]
    pub fn origins(&self) -> &[Given] {
        &self.given
    }
}

impl Config {
    /// Reads all layers and checks them. `args` begins with the program's name, as the process got
    /// it; `env` is the process environment. Looks at the file system only to read the file of
    /// `--config-file` and to see whether the directories can be used.
    ///
    /// Errors: help and version when asked for, a command line that cannot be read, and every
    /// mistake of all layers together.
    pub fn load(
        args: impl IntoIterator<Item = OsString>,
        env: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Loaded, LoadError> {
        let (values, remarks) = read(args, env, None)?;
        judge(values, remarks)
    }
}

/// The lowest layer alone.
pub(crate) fn defaults() -> Values {
    let default = layers::default(DEFAULT_TOML).expect("default.toml is TOML: a test reads it");
    layers::merge([default]).expect("one layer of plain keys merges")
}

/// Merges all layers; `file` is read in place of the file of `--config-file`. Errors: help and
/// version when asked for, and a command line that cannot be read.
pub(crate) fn read(
    args: impl IntoIterator<Item = OsString>,
    env: impl IntoIterator<Item = (OsString, OsString)>,
    file: Option<FileInstead<'_>>,
) -> Result<(Values, Remarks), LoadError> {
    let flags = flags::parse(args)?;
    let mut remarks = Remarks::default();
    let vars = own_variables(env, &mut remarks);
    let file = match file {
        Some(file) => layers::file(file.name, file.text, &mut remarks),
        None => file_layer(&flags, &vars, &mut remarks),
    };
    let environment = layers::environment(&vars, &mut remarks);
    let flag_layer = layers::flags(&flags, &mut remarks);
    let default = layers::default(DEFAULT_TOML).expect("default.toml is TOML: a test reads it");
    let values = layers::merge([default, file, environment, flag_layer])
        .expect("layers hold known plain keys only");
    Ok((values, remarks))
}

/// The admin socket that the environment or the file it names gives to a member, if either does.
/// Nothing is judged: a file with mistakes names it, too.
pub fn admin_socket(env: impl IntoIterator<Item = (OsString, OsString)>) -> Option<PathBuf> {
    let (values, _) = read([OsString::from("althingd")], env, None).ok()?;
    let socket = reader::shown(values.get("member.admin_socket")?);
    (!socket.is_empty()).then(|| PathBuf::from(socket))
}

/// Types the values and judges every rule. Errors: every mistake.
pub(crate) fn judge(values: Values, remarks: Remarks) -> Result<Loaded, LoadError> {
    finish(values, remarks, reach::check)
}

/// The same, but for a machine that need not be this one.
pub(crate) fn judge_without_directories(
    values: Values,
    remarks: Remarks,
) -> Result<Loaded, LoadError> {
    finish(values, remarks, |_, _| {})
}

fn finish(
    values: Values,
    remarks: Remarks,
    reach: impl FnOnce(&Config, &mut Reader<'_>),
) -> Result<Loaded, LoadError> {
    let defaults = defaults();
    let mut reader = Reader::new(&values, &defaults, remarks.mistakes);
    let config = resolve(&mut reader);
    check::check(&config, &mut reader);
    reach(&config, &mut reader);
    if !reader.mistakes.is_empty() {
        return Err(LoadError::Refused(reader.mistakes));
    }
    Ok(Loaded {
        config,
        meanings: reader.meanings,
        warnings: remarks.warnings,
        given: given(&values),
        values,
    })
}

fn given(values: &Values) -> Vec<Given> {
    let one = |option: &'static crate::option::Setting| {
        let value = values
            .get(option.key)
            .expect("default.toml names every option");
        Given {
            key: option.key,
            flag: option.flag,
            value: reader::shown(value),
            origin: value.origin().unwrap_or(DEFAULT).to_owned(),
        }
    };
    OPTIONS.iter().map(one).collect()
}

/// The variables that may be meant for us. One that is not text is refused, not guessed at.
fn own_variables(
    env: impl IntoIterator<Item = (OsString, OsString)>,
    remarks: &mut Remarks,
) -> BTreeMap<String, String> {
    let mut vars = BTreeMap::new();
    for (name, value) in env {
        let Some(name) = name.to_str().map(str::to_owned) else {
            continue;
        };
        if !name.starts_with("ALTHING_") && !name.starts_with("ETCD_") {
            continue;
        }
        match value.into_string() {
            Ok(value) => {
                vars.insert(name, value);
            }
            Err(value) => remarks.mistakes.push(Mistake {
                option: name.clone(),
                flag: String::new(),
                value: value.to_string_lossy().into_owned(),
                origin: format!("the variable {name}"),
                problem: "is not UTF-8".to_owned(),
                remedy: "set it to plain text".to_owned(),
            }),
        }
    }
    vars
}

fn file_layer(flags: &Flags, vars: &BTreeMap<String, String>, remarks: &mut Remarks) -> Layer {
    let (path, origin) = match &flags.config_file {
        Some(path) => (path.clone(), format!("the flag --{CONFIG_FILE}")),
        None => match layers::lookup(vars, CONFIG_FILE) {
            Some((name, path)) => (path, format!("the variable {name}")),
            None => return Layer::default(),
        },
    };
    match std::fs::read(&path).map(String::from_utf8) {
        Ok(Ok(text)) => layers::file(&path, &text, remarks),
        Ok(Err(_)) => refuse_file(path, origin, "is not UTF-8 text", remarks),
        Err(error) => refuse_file(path, origin, &format!("cannot be read: {error}"), remarks),
    }
}

fn refuse_file(path: String, origin: String, problem: &str, remarks: &mut Remarks) -> Layer {
    remarks.mistakes.push(Mistake {
        option: "the configuration file".to_owned(),
        flag: CONFIG_FILE.to_owned(),
        value: path,
        origin,
        problem: problem.to_owned(),
        remedy: "name a TOML file that this user may read".to_owned(),
    });
    Layer::default()
}

fn resolve(reader: &mut Reader<'_>) -> Config {
    let member = member(reader);
    let client = client(reader);
    let peer = Peer {
        listen_urls: reader.list("peer.listen_urls", urls::listen),
        advertise_urls: reader.list("peer.advertise_urls", urls::advertise),
    };
    let cluster = cluster(reader, &member, &peer);
    Config {
        member,
        cluster,
        client,
        peer,
        raft: raft(reader),
        store: store(reader),
        log: log(reader),
        trace: trace(reader),
    }
}

fn member(reader: &mut Reader<'_>) -> Member {
    let name = reader.text("member.name");
    let unset = PathBuf::from(format!("{name}.althing"));
    let data_dir = reader.path("member.data_dir", unset);
    let admin_socket = reader.path("member.admin_socket", data_dir.join("admin.sock"));
    Member {
        name,
        data_dir,
        wal_dir: reader.path_if_set("member.wal_dir"),
        admin_socket,
    }
}

fn cluster(reader: &mut Reader<'_>, member: &Member, peer: &Peer) -> Cluster {
    let mut initial = reader.list("cluster.initial", urls::members);
    if initial.is_empty() {
        initial = vec![(member.name.clone(), peer.advertise_urls.clone())];
    }
    let states = [
        ("new", InitialState::New),
        ("existing", InitialState::Existing),
    ];
    Cluster {
        initial,
        initial_state: reader.choice("cluster.initial_state", &states),
        token: reader.text("cluster.token"),
        discovery_srv: reader.text("cluster.discovery_srv"),
        discovery_srv_name: reader.text("cluster.discovery_srv_name"),
        discovery_srv_servers: reader.list("cluster.discovery_srv_servers", urls::addresses),
        join: reader.list("cluster.join", urls::client_urls),
        learners_max: reader.size("cluster.learners_max", 0, 64),
    }
}

fn client(reader: &mut Reader<'_>) -> Client {
    let metrics_urls = |items: &[String]| -> Result<Vec<Url>, crate::error::Fault> {
        if items.is_empty() {
            Ok(Vec::new())
        } else {
            urls::listen(items)
        }
    };
    let details = [("basic", Metrics::Basic), ("extensive", Metrics::Extensive)];
    Client {
        listen_urls: reader.list("client.listen_urls", urls::listen),
        advertise_urls: reader.list("client.advertise_urls", urls::advertise),
        metrics_urls: reader.list("client.metrics_urls", metrics_urls),
        metrics: reader.choice("client.metrics", &details),
        request_bytes_max: reader.bytes("client.request_bytes_max", 1, GIB),
        txn_ops_max: reader.size("client.txn_ops_max", 1, 1 << 20),
        streams_max: u32::try_from(reader.count("client.streams_max", 1, u32::MAX.into()))
            .expect("the reader kept it within a u32"),
        connections_max: reader.size("client.connections_max", 1, 1 << 20),
        keepalive_min_time: reader.duration("client.keepalive_min_time", None),
        keepalive_interval: reader.duration("client.keepalive_interval", None),
        keepalive_timeout: reader.duration("client.keepalive_timeout", None),
        grpc_gateway: reader.bool("client.grpc_gateway"),
        cors: reader.list("client.cors", |items| Ok(items.to_vec())),
        host_whitelist: reader.list("client.host_whitelist", |items| Ok(items.to_vec())),
        workers: reader.size("client.workers", 0, 1024),
        read_bytes_max: reader.bytes("client.read_bytes_max", MIB, TIB),
        watch_progress_interval: reader.duration("client.watch_progress_interval", None),
        shutdown_timeout: reader.duration("client.shutdown_timeout", None),
    }
}

fn raft(reader: &mut Reader<'_>) -> Raft {
    Raft {
        heartbeat_interval: reader.duration("raft.heartbeat_interval", Some(MILLISECOND)),
        election_timeout: reader.duration("raft.election_timeout", Some(MILLISECOND)),
        snapshot_count: reader.count("raft.snapshot_count", 1, u64::MAX),
        // The consensus library queues 65,536; ours must be fewer, so handing over never waits.
        proposals_max: reader.size("raft.proposals_max", 1, 32_768),
        wal_segment_bytes: reader.bytes("raft.wal_segment_bytes", MIB, 2 * GIB),
        wal_tail_bytes: reader.bytes("raft.wal_tail_bytes", 0, TIB),
    }
}

fn store(reader: &mut Reader<'_>) -> Store {
    let quota = |value: &config::Value| {
        let text = reader::shown(value);
        match text.trim().strip_prefix('-') {
            Some(negative) => units::bytes(negative).map(|_| None),
            None => {
                units::bytes(&text).map(|size| Some(if size == 0 { QUOTA_DEFAULT } else { size }))
            }
        }
    };
    Store {
        record_cache_bytes: reader.bytes("store.record_cache_bytes", 0, TIB),
        page_cache_bytes: reader.bytes("store.page_cache_bytes", MIB, TIB),
        pending_bytes_max: reader.bytes("store.pending_bytes_max", MIB, TIB),
        disk_reserve_bytes: reader.bytes("store.disk_reserve_bytes", 0, TIB),
        quota_bytes: reader.read("store.quota_bytes", quota),
        auto_compaction: auto_compaction(reader),
        corrupt_check_interval: reader.duration("store.corrupt_check_interval", None),
        initial_corrupt_check: reader.bool("store.initial_corrupt_check"),
    }
}

/// As etcd reads it: a plain number of a period is hours.
fn auto_compaction(reader: &mut Reader<'_>) -> AutoCompaction {
    let modes = [("periodic", false), ("revision", true)];
    let by_revision = reader.choice("store.auto_compaction_mode", &modes);
    reader.read("store.auto_compaction_retention", |value| {
        let text = reader::shown(value);
        if by_revision {
            let kept = i64::try_from(units::count(&text)?).unwrap_or(i64::MAX);
            return Ok(match kept {
                0 => AutoCompaction::Off,
                kept => AutoCompaction::Revisions(kept),
            });
        }
        Ok(match units::duration(&text, Some(HOUR))? {
            Duration::ZERO => AutoCompaction::Off,
            period => AutoCompaction::Period(period),
        })
    })
}

fn log(reader: &mut Reader<'_>) -> Log {
    let formats = [
        ("json", LogFormat::Json),
        ("console", LogFormat::Text),
        ("text", LogFormat::Text),
    ];
    Log {
        level: reader.read("log.level", check::log_level),
        format: reader.choice("log.format", &formats),
        slow_request: reader.duration("log.slow_request", None),
        slow_call: reader.duration("log.slow_call", None),
    }
}

fn trace(reader: &mut Reader<'_>) -> Trace {
    Trace {
        enabled: reader.bool("trace.enabled"),
        address: reader.text("trace.address"),
        service_name: reader.text("trace.service_name"),
        instance_id: reader.text("trace.instance_id"),
        sampling_rate: u32::try_from(reader.count("trace.sampling_rate", 0, 1_000_000))
            .expect("the reader kept it within a million"),
    }
}
