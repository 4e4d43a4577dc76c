//! Whole loads: layers, origins, refusals. No test touches the process environment.

#![allow(clippy::unwrap_used)]

use althing_conf::config::{AutoCompaction, LogFormat};
use althing_conf::{Config, LoadError, Loaded, Mistake};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

fn load(args: &[&str], env: &[(&str, &str)]) -> Result<Loaded, LoadError> {
    let args = std::iter::once("althingd")
        .chain(args.iter().copied())
        .map(OsString::from);
    let env = env
        .iter()
        .map(|(name, value)| (OsString::from(name), OsString::from(value)));
    Config::load(args, env)
}

fn mistakes(args: &[&str], env: &[(&str, &str)]) -> Vec<Mistake> {
    match load(args, env) {
        Err(LoadError::Refused(mistakes)) => mistakes,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

fn origin<'a>(loaded: &'a Loaded, key: &str) -> &'a str {
    &loaded
        .origins()
        .iter()
        .find(|given| given.key == key)
        .unwrap()
        .origin
}

fn write(dir: &Path, text: &str) -> String {
    let path = dir.join("althing.toml");
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn nothing_said_gives_etcds_defaults() {
    let loaded = load(&[], &[]).unwrap();
    let config = &loaded.config;
    assert_eq!(config.member.name, "default");
    assert_eq!(config.member.data_dir, PathBuf::from("default.althing"));
    assert_eq!(config.member.wal_dir, None);
    let own = (
        "default".to_owned(),
        vec!["http://localhost:2380".to_owned()],
    );
    assert_eq!(config.cluster.initial, [own]);
    assert_eq!(config.cluster.token, "etcd-cluster");
    assert_eq!(
        config.client.listen_urls[0].to_string(),
        "http://localhost:2379"
    );
    assert_eq!(config.client.advertise_urls, ["http://localhost:2379"]);
    assert_eq!(config.client.request_bytes_max, 1_572_864);
    assert_eq!(config.client.txn_ops_max, 128);
    assert_eq!(config.client.streams_max, u32::MAX);
    assert_eq!(config.raft.heartbeat_interval, Duration::from_millis(100));
    assert_eq!(config.raft.election_timeout, Duration::from_secs(1));
    assert_eq!(config.raft.snapshot_count, 10_000);
    assert_eq!(config.store.quota_bytes, Some(2 << 30));
    assert_eq!(config.log.format, LogFormat::Json);
    assert!(loaded.warnings.is_empty());
    assert!(
        loaded
            .origins()
            .iter()
            .all(|given| given.origin == "the built-in default")
    );
}

#[test]
fn each_layer_wins_over_those_below_and_is_remembered() {
    let dir = tempfile::tempdir().unwrap();
    let text = "[raft]\nsnapshot_count = 1\nheartbeat_interval = 10\n\
                [client]\ntxn_ops_max = 5\n[member]\nname = \"file\"\n";
    let path = write(dir.path(), text);
    let env = [
        ("ALTHING_CONFIG_FILE", path.as_str()),
        ("ALTHING_SNAPSHOT_COUNT", "2"),
        ("ETCD_SNAPSHOT_COUNT", "3"),
        ("ETCD_MAX_TXN_OPS", "6"),
        ("ALTHING_NAME", "variable"),
        ("ETCD_CORS", ""),
    ];
    let loaded = load(&["-name", "flag"], &env).unwrap();
    assert_eq!(loaded.config.member.name, "flag");
    assert_eq!(loaded.config.member.data_dir, PathBuf::from("flag.althing"));
    assert_eq!(loaded.config.raft.snapshot_count, 2);
    assert_eq!(loaded.config.client.txn_ops_max, 6);
    assert_eq!(
        loaded.config.raft.heartbeat_interval,
        Duration::from_millis(10)
    );
    assert_eq!(origin(&loaded, "member.name"), "the flag --name");
    assert_eq!(
        origin(&loaded, "raft.snapshot_count"),
        "the variable ALTHING_SNAPSHOT_COUNT"
    );
    assert_eq!(
        origin(&loaded, "client.txn_ops_max"),
        "the variable ETCD_MAX_TXN_OPS"
    );
    assert_eq!(
        origin(&loaded, "raft.heartbeat_interval"),
        format!("{path} line 3")
    );
    assert_eq!(origin(&loaded, "client.cors"), "the built-in default");
}

#[test]
fn all_mistakes_of_all_layers_are_told_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(
        dir.path(),
        "[client]\nlisten_url = \"x\"\ntxn_ops_max = \"many\"\n",
    );
    let args = [
        "--config-file",
        &path,
        "--heartbeat-interval=500",
        "--log-level=loud",
    ];
    let found = mistakes(&args, &[("ALTHING_MAX_REQUEST_BYTES", "1XB")]);
    let by = |option: &str| {
        found
            .iter()
            .find(|mistake| mistake.option == option)
            .unwrap()
    };
    assert_eq!(found.len(), 5, "{found:#?}");
    assert_eq!(
        by("client.listen_url").remedy,
        "did you mean client.listen_urls?"
    );
    assert_eq!(by("client.listen_url").origin, format!("{path} line 2"));
    assert_eq!(by("client.txn_ops_max").value, "many");
    assert_eq!(
        by("client.request_bytes_max").origin,
        "the variable ALTHING_MAX_REQUEST_BYTES"
    );
    assert_eq!(by("log.level").flag, "log-level");
    assert!(by("raft.election_timeout").remedy.contains("2500 ms"));
}

#[test]
fn a_refusal_reads_as_option_value_origin_problem_and_remedy() {
    let error = load(&["--listen-peer-urls=http://example.com:1"], &[]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the configuration is refused:\n  peer.listen_urls (--listen-peer-urls) = \
         \"http://example.com:1\", from the flag --listen-peer-urls: the host of \
         \"http://example.com:1\" is a name, not an address of this machine; listen on an IP \
         address, 0.0.0.0 or localhost, and advertise the name"
    );
    assert_eq!(error.exit_code(), 78);
}

#[test]
fn a_rule_keeps_silent_about_a_value_that_was_refused_already() {
    let found = mistakes(
        &["--election-timeout=soon", "--heartbeat-interval=900"],
        &[],
    );
    assert_eq!(found.len(), 1, "{found:#?}");
}

#[test]
fn rules_across_options_hold() {
    let cases: &[(&[&str], &str, &str)] = &[
        (
            &["--heartbeat-interval=300"],
            "raft.election_timeout",
            "five heartbeats",
        ),
        (
            &["--election-timeout=50001"],
            "raft.election_timeout",
            "too long",
        ),
        (
            &["--heartbeat-interval=0"],
            "raft.heartbeat_interval",
            "too short",
        ),
        (
            &["--listen-client-urls=http://127.0.0.1:1"],
            "client.advertise_urls",
            "--advertise-client-urls is required when --listen-client-urls is set explicitly",
        ),
        (
            &["--initial-cluster=other=http://localhost:2380"],
            "cluster.initial",
            "does not name",
        ),
        (
            &["--initial-cluster=default=http://localhost:1"],
            "cluster.initial",
            "gives this member, \"default\", the URLs http://localhost:1, but it advertises",
        ),
        (
            &["--initial-cluster=default=http://localhost:2380,b=http://localhost:2380"],
            "cluster.initial",
            "gives http://localhost:2380 to both \"default\" and \"b\"",
        ),
        (
            &[
                "--initial-cluster=default=http://localhost:2380",
                "--initial-cluster-state=existing",
            ],
            "cluster.initial",
            "nobody to join",
        ),
        (
            &["--listen-peer-urls=http://localhost:2379"],
            "peer.listen_urls",
            "already one of",
        ),
        (
            &["--wal-segment-bytes=1MiB"],
            "raft.wal_segment_bytes",
            "does not fit",
        ),
        (
            &["--max-request-bytes=2MiB", "--max-pending-bytes=1MiB"],
            "store.pending_bytes_max",
            "less than one request",
        ),
        (&["--name=a=b"], "member.name", "no name"),
        (&["--max-txn-ops=0"], "client.txn_ops_max", "too small"),
        (
            &["--enable-grpc-gateway=maybe"],
            "client.grpc_gateway",
            "neither true nor false",
        ),
        (&["--log-format=xml"], "log.format", "choices"),
    ];
    for (args, option, problem) in cases {
        let found = mistakes(args, &[]);
        assert_eq!(found.len(), 1, "{args:?}: {found:#?}");
        assert_eq!(&found[0].option, option, "{args:?}");
        assert!(found[0].problem.contains(problem), "{args:?}: {}", found[0]);
    }
}

#[test]
fn who_joins_names_members_to_ask_and_no_list_of_its_own() {
    let loaded = load(&["--join", "http://a:2379,http://b:2379"], &[]).unwrap();
    assert_eq!(
        loaded.config.cluster.join,
        ["http://a:2379", "http://b:2379"]
    );
    assert_eq!(loaded.config.cluster.learners_max, 1);
    let list = "default=http://localhost:2380";
    let both = ["--join", "http://a:2379", "--initial-cluster", list];
    let refused = mistakes(&both, &[]);
    assert_eq!(refused[0].option, "cluster.join");
    assert!(refused[0].problem.contains("--initial-cluster"));
    let own = "http://localhost:2379";
    for wrong in ["a:2379", "https://a:2379", "http://a", own] {
        assert_eq!(mistakes(&["--join", wrong], &[])[0].option, "cluster.join");
    }
}

#[test]
fn a_flag_that_names_nobody_begins_no_cluster_of_its_own() {
    for flag in ["--join", "--initial-cluster"] {
        let refused = mistakes(&[flag, ""], &[]);
        assert!(refused[0].problem.contains("this member alone"), "{flag}");
    }
    load(&[], &[("ETCD_INITIAL_CLUSTER", "")]).unwrap();
}

#[test]
fn a_quota_may_be_etcds_default_a_size_or_none() {
    let quota = |text: &str| {
        load(&["--quota-backend-bytes", text], &[])
            .unwrap()
            .config
            .store
    };
    assert_eq!(quota("0").quota_bytes, Some(2 << 30));
    assert_eq!(quota("8GiB").quota_bytes, Some(8 << 30));
    assert_eq!(quota("1000").quota_bytes, Some(1000));
    assert_eq!(quota("-1").quota_bytes, None);
}

#[test]
fn harmless_flags_of_etcd_warn_and_the_others_are_refused() {
    let args = [
        "--max-wals=5",
        "--logger=zap",
        "--log-outputs=stderr",
        "--auto-tls=false",
    ];
    let loaded = load(
        &args,
        &[("ETCD_MAX_SNAPSHOTS", "5"), ("ETCD_UNHEARD_OF", "1")],
    )
    .unwrap();
    for name in [
        "--max-wals",
        "--logger",
        "--log-outputs",
        "--auto-tls",
        "ETCD_MAX_SNAPSHOTS",
    ] {
        assert!(
            loaded.warnings.iter().any(|warning| warning.contains(name)),
            "{name}"
        );
    }
    let unknown = loaded
        .warnings
        .iter()
        .find(|warning| warning.contains("unknown"))
        .unwrap();
    assert!(unknown.contains("ETCD_UNHEARD_OF"));

    let args = [
        "--cert-file=a.pem",
        "--client-cert-auth",
        "--discovery=http://d",
    ];
    let found = mistakes(&args, &[("ETCD_AUTH_TOKEN", "jwt,sign-method=RS256")]);
    let names: Vec<&str> = found
        .iter()
        .map(|mistake| mistake.option.as_str())
        .collect();
    let expected = ["auth-token", "cert-file", "client-cert-auth", "discovery"];
    assert_eq!(names, expected);
}

#[test]
fn a_flags_former_name_counts_where_the_present_one_is_not_set() {
    let args = [
        "--experimental-warning-apply-duration=1s",
        "--experimental-initial-corrupt-check=false",
    ];
    let env = [("ETCD_EXPERIMENTAL_CORRUPT_CHECK_TIME", "5m")];
    let loaded = load(&args, &env).unwrap();
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    let (log, store) = (&loaded.config.log, &loaded.config.store);
    assert_eq!(log.slow_request, Duration::from_secs(1));
    assert!(!store.initial_corrupt_check);
    assert_eq!(store.corrupt_check_interval, Duration::from_secs(300));
    let given = origin(&loaded, "log.slow_request");
    assert_eq!(given, "the flag --experimental-warning-apply-duration");

    let args = [
        "--warning-apply-duration=2s",
        "--experimental-warning-apply-duration=1s",
    ];
    let loaded = load(&args, &[]).unwrap();
    assert_eq!(loaded.config.log.slow_request, Duration::from_secs(2));
}

#[test]
fn a_collector_is_a_host_and_a_port_and_the_rate_counts_a_million() {
    let args = [
        "--experimental-enable-distributed-tracing",
        "--distributed-tracing-address=[::1]:1",
        "--distributed-tracing-sampling-rate=1000000",
    ];
    let trace = load(&args, &[]).unwrap().config.trace;
    assert!(trace.enabled);
    assert_eq!(trace.sampling_rate, 1_000_000);
    let args = [
        "--distributed-tracing-address=http://localhost:4317",
        "--distributed-tracing-sampling-rate=1000001",
    ];
    let found = mistakes(&args, &[]);
    let options: Vec<&str> = found
        .iter()
        .map(|mistake| mistake.option.as_str())
        .collect();
    assert_eq!(options, ["trace.sampling_rate", "trace.address"]);
    assert_eq!(mistakes(&["--distributed-tracing-address=a"], &[]).len(), 1);
}

#[test]
fn an_etcd_key_in_the_file_is_answered_with_ours() {
    let dir = tempfile::tempdir().unwrap();
    let text = "listen-client-urls = \"x\"\n[store]\ncors = \"*\"\ncert_file = \"y\"\n[nothing]\n";
    let path = write(dir.path(), text);
    let found = mistakes(&["--config-file", &path], &[]);
    let told: Vec<(&str, &str)> = found
        .iter()
        .map(|m| (m.option.as_str(), m.remedy.as_str()))
        .collect();
    let expected = [
        ("listen-client-urls", "did you mean client.listen_urls?"),
        ("nothing", "see default.toml for all of them"),
        ("store.cert_file", "leave it out"),
        ("store.cors", "did you mean client.cors?"),
    ];
    assert_eq!(told, expected);
}

#[test]
fn a_file_that_is_missing_or_no_toml_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing.toml");
    let found = mistakes(&["--config-file", missing.to_str().unwrap()], &[]);
    assert!(found[0].problem.contains("cannot be read"), "{}", found[0]);
    let path = write(dir.path(), "name: default\ndata-dir: x\n");
    let found = mistakes(&[], &[("ETCD_CONFIG_FILE", &path)]);
    assert!(found[0].problem.contains("is not TOML"), "{}", found[0]);
    assert_eq!(found[0].value, path);
}

#[test]
fn directories_that_cannot_be_used_are_refused_at_start() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let missing = dir.path().join("no/such/parent");
    for path in [&file, &missing, &file.join("below")] {
        let text = path.to_str().unwrap();
        let found = mistakes(&["--data-dir", text], &[]);
        assert_eq!(found.len(), 1, "{found:#?}");
        assert_eq!(
            (found[0].option.as_str(), found[0].value.as_str()),
            ("member.data_dir", text)
        );
        let found = mistakes(&["--wal-dir", text], &[]);
        assert_eq!(found[0].option, "member.wal_dir");
    }
    let fresh = dir.path().join("fresh");
    assert!(load(&["--data-dir", fresh.to_str().unwrap()], &[]).is_ok());
    assert!(!fresh.exists(), "looking must not make the directory");
}

#[test]
fn the_history_to_keep_is_a_time_or_a_number_of_revisions_as_the_mode_says() {
    let kept = |mode: &str, retention: &str| {
        let flags = [
            format!("--auto-compaction-mode={mode}"),
            format!("--auto-compaction-retention={retention}"),
        ];
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        load(&flags, &[]).unwrap().config.store.auto_compaction
    };
    let hours = |hours: u64| AutoCompaction::Period(Duration::from_secs(hours * 3600));
    assert_eq!(kept("periodic", "0"), AutoCompaction::Off);
    assert_eq!(kept("periodic", "2"), hours(2));
    assert_eq!(kept("periodic", "1h"), hours(1));
    assert_eq!(kept("revision", "1000"), AutoCompaction::Revisions(1000));
    assert_eq!(kept("revision", "0"), AutoCompaction::Off);
    let flags = [
        "--auto-compaction-mode=revision",
        "--auto-compaction-retention=1h",
    ];
    assert_eq!(
        mistakes(&flags, &[])[0].option,
        "store.auto_compaction_retention"
    );
}

#[test]
fn a_log_level_is_a_word_or_a_list_of_levels_by_module() {
    for level in [
        "info",
        "OFF",
        "warn,althing=debug",
        "a::b[span{x}]=trace,info",
        "[span]=debug",
    ] {
        assert!(load(&["--log-level", level], &[]).is_ok(), "{level}");
    }
    for level in [
        "", "loud", "a=b=info", "=info", "a b=info", "althing", "a[b=info", "a=loud",
    ] {
        let found = mistakes(&["--log-level", level], &[]);
        assert_eq!(found[0].option, "log.level", "{level}");
    }
}

#[test]
fn what_is_left_of_a_first_start_is_not_compared_at_a_later_one() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("data");
    let flag = format!("--data-dir={}", data_dir.display());
    let both = [
        "--initial-cluster=default=http://localhost:2380",
        "--discovery-srv=example.com",
    ];
    let idle = ["--discovery-srv-name=blue"];
    let judged = |flags: &[&str]| load(&[&[flag.as_str()], flags].concat(), &[]).is_ok();
    assert!(!judged(&both) && !judged(&idle));
    std::fs::create_dir_all(data_dir.join("member")).unwrap();
    std::fs::write(data_dir.join("member/id"), "").unwrap();
    assert!(judged(&both) && judged(&idle));
}
