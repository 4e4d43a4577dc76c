//! A member whose configuration is reloaded while clients are connected: what is changed is in
//! force, what is wrong changes nothing, and no stream breaks.

// All of this file is tests.
#![allow(clippy::unwrap_used)]

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use althing_api::etcdserverpb as pb;
use althing_tests::binaries::{althingctl, althingd};
use althing_tests::cluster::Cluster;
use althing_tests::grpc::{Grpc, path};
use althing_tests::json::Json;
use althing_tests::member::{Member, free_port};
use althing_tests::wait::until;
use bytes::Bytes;
use pb::watch_request::RequestUnion;
use prost::Message;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tonic::{Code, Status, Streaming};

const RELOADS: usize = 100;
const WRITERS: usize = 4;
const WATCHERS: usize = 8;
const MIB: usize = 1 << 20;

/// A member with a file that the test rewrites.
struct Reloaded {
    dir: TempDir,
    member: Member,
}

impl Reloaded {
    fn start(text: &str) -> Reloaded {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("althing.toml");
        std::fs::write(&file, text).unwrap();
        let file = file.to_str().unwrap().to_owned();
        let member = Member::start(&althingd(), &["--config-file", &file]);
        Reloaded { dir, member }
    }

    fn write(&self, text: &str) {
        std::fs::write(self.dir.path().join("althing.toml"), text).unwrap();
    }

    fn ctl(&self, words: &[&str]) -> Output {
        let socket = self.member.data_dir().join("admin.sock");
        let mut command = Command::new(althingctl());
        command.arg("config").args(words);
        command.arg("--admin-socket").arg(socket);
        // A slow machine is not a failure.
        command.args(["--command-timeout", "60s"]);
        command.output().unwrap()
    }

    /// Reloads; returns what the command printed.
    fn reload(&self) -> Result<String, String> {
        let output = self.ctl(&["reload"]);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() {
            Ok(text(&output.stdout))
        } else {
            Err(text(&output.stderr))
        }
    }

    /// Writes the file and reloads.
    fn take(&self, text: &str) -> String {
        self.write(text);
        self.reload().unwrap()
    }
}

async fn put(client: &mut Grpc, value_bytes: usize) -> Result<i64, Status> {
    let put = pb::PutRequest {
        key: "k".into(),
        value: vec![b'v'; value_bytes].into(),
        ..pb::PutRequest::default()
    };
    let answer = client.unary::<pb::PutResponse>(path::PUT, &put).await?;
    Ok(answer.header.expect("every answer has one").revision)
}

/// The time to live granted to a lease that asks for a second: the minimum of the present timing.
async fn shortest_lease(client: &mut Grpc) -> i64 {
    let request = pb::LeaseGrantRequest { id: 0, ttl: 1 };
    let answer = client.unary::<pb::LeaseGrantResponse>(path::LEASE_GRANT, &request);
    answer.await.unwrap().ttl
}

async fn metric(json: &mut Json, name: &str) -> String {
    let page = json.get("/metrics").await.unwrap();
    let page = String::from_utf8(page.body.to_vec()).unwrap();
    let line = page.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_else(|| panic!("no {name}"))
        .trim()
        .to_owned()
}

/// A watch of key `k`, open for as long as the sender is held.
async fn watch(client: &mut Grpc) -> (mpsc::UnboundedSender<Bytes>, Streaming<Bytes>) {
    let (sender, requests) = mpsc::unbounded_channel();
    let create = pb::WatchCreateRequest {
        key: "k".into(),
        ..pb::WatchCreateRequest::default()
    };
    let request = pb::WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(create)),
    };
    sender.send(request.encode_to_vec().into()).unwrap();
    let mut stream = client.open(path::WATCH, requests).await.unwrap();
    assert!(next(&mut stream).await.created);
    (sender, stream)
}

async fn next(stream: &mut Streaming<Bytes>) -> pb::WatchResponse {
    let message = stream.message().await.expect("the stream goes on");
    pb::WatchResponse::decode(message.expect("the stream goes on")).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changed_limits_are_in_force_for_the_next_request_of_an_open_connection() {
    let reloaded = Reloaded::start("");
    let mut client = reloaded.member.grpc().await;
    let mut json = reloaded.member.json();
    let refused = put(&mut client, 2 * MIB).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    let said = reloaded.take("[client]\nrequest_bytes_max = \"4MiB\"\ntxn_ops_max = 1\n");
    assert!(
        said.contains("client.request_bytes_max: \"1.5MiB\" -> \"4MiB\""),
        "{said}"
    );
    assert!(said.ends_with("reloaded, 2 changed\n"), "{said}");
    put(&mut client, 2 * MIB).await.unwrap();
    let range = pb::RequestOp {
        request: Some(pb::request_op::Request::RequestRange(pb::RangeRequest {
            key: "k".into(),
            ..pb::RangeRequest::default()
        })),
    };
    let txn = pb::TxnRequest {
        success: vec![range.clone(), range],
        ..pb::TxnRequest::default()
    };
    let refused = client
        .unary::<pb::TxnResponse>(path::TXN, &txn)
        .await
        .unwrap_err();
    assert_eq!(
        refused.message(),
        "etcdserver: too many operations in txn request"
    );

    assert_eq!(
        metric(&mut json, "etcd_server_quota_backend_bytes ").await,
        "2147483648"
    );
    reloaded.take("[store]\nquota_bytes = \"1KiB\"\n");
    assert_eq!(
        metric(&mut json, "etcd_server_quota_backend_bytes ").await,
        "1024"
    );
    let refused = put(&mut client, 10).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);

    assert_eq!(
        json.post("/v3/kv/range", "{\"key\":\"aw==\"}")
            .await
            .unwrap()
            .status,
        200
    );
    reloaded.take("[client]\ngrpc_gateway = false\nhost_whitelist = \"127.0.0.1\"\n");
    assert_eq!(
        json.post("/v3/kv/range", "{\"key\":\"aw==\"}")
            .await
            .unwrap()
            .status,
        404
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listeners_come_and_go_while_the_others_keep_their_connections() {
    let reloaded = Reloaded::start("");
    let mut client = reloaded.member.grpc().await;
    let (_held, mut events) = watch(&mut client).await;
    let port = free_port();
    let metrics = format!("[client]\nmetrics_urls = [\"http://127.0.0.1:{port}\"]\n");
    reloaded.take(&metrics);
    let mut probes = Json::new(port);
    assert_eq!(probes.get("/health").await.unwrap().status, 200);
    assert_eq!(probes.get("/version").await.unwrap().status, 404);
    reloaded.take("");
    let gone = async || Json::new(port).get("/health").await.is_err();
    until(gone, "the listener that was removed is closed").await;
    let revision = put(&mut client, 1).await.unwrap();
    assert_eq!(next(&mut events).await.header.unwrap().revision, revision);

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let text = format!(
        "[log]\nlevel = \"error\"\n[client]\nmetrics_urls = [\"http://127.0.0.1:{port}\"]\n"
    );
    reloaded.write(&text);
    let refused = reloaded.reload().unwrap_err();
    assert!(
        refused.contains("of --listen-metrics-urls cannot be opened"),
        "{refused}"
    );
    let shown = reloaded.ctl(&["show"]).stdout;
    let shown = String::from_utf8(shown).unwrap();
    assert!(
        shown.contains("log.level = \"info\""),
        "nothing changed: {shown}"
    );
}

#[test]
fn a_mistake_changes_nothing_and_the_answer_names_it() {
    let reloaded = Reloaded::start("");
    reloaded.write("[log]\nlevel = \"warn\"\n[raft]\nelection_timeout = \"10ms\"\n");
    let refused = reloaded.reload().unwrap_err();
    assert!(refused.contains("less than five heartbeats"), "{refused}");
    reloaded.write("[member]\nadmin_socket = \"x\"\n[log]\nlevel = \"warn\"\n");
    let said = reloaded.reload().unwrap();
    assert!(said.contains("(takes effect: restart)"), "{said}");
    assert!(
        said.ends_with("reloaded, 1 changed, 1 not by a reload\n"),
        "{said}"
    );
}

#[test]
fn the_log_changes_its_level_and_its_format_on_sighup() {
    let mut reloaded = Reloaded::start("");
    reloaded.write("[log]\nformat = \"console\"\nlevel = \"debug\"\n");
    let id = i32::try_from(reloaded.member.process_id()).unwrap();
    kill_process(Pid::from_raw(id).unwrap(), Signal::HUP).unwrap();
    let line = reloaded
        .member
        .process()
        .wait_for_line("configuration reloaded")
        .unwrap();
    assert!(line.contains(" INFO ") && !line.starts_with('{'), "{line}");
}

#[test]
fn the_configuration_is_shown_with_its_origins_and_compared_with_a_draft() {
    let reloaded = Reloaded::start("[store]\nquota_bytes = \"4GiB\"\n");
    let output = reloaded.ctl(&["show", "--origin"]);
    let shown = String::from_utf8(output.stdout).unwrap();
    let quota = shown
        .lines()
        .find(|line| line.starts_with("store.quota"))
        .unwrap();
    assert!(
        quota.starts_with("store.quota_bytes = \"4GiB\"  # "),
        "{quota}"
    );
    assert!(quota.ends_with("althing.toml line 2"), "{quota}");
    assert!(shown.contains("# the flag --data-dir") && shown.contains("# the built-in default"));
    let draft = reloaded.dir.path().join("draft.toml");
    std::fs::write(&draft, "[client]\nworkers = 1\n").unwrap();
    let output = reloaded.ctl(&["diff", draft.to_str().unwrap()]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        said.contains("store.quota_bytes: \"4GiB\" -> \"0\""),
        "{said}"
    );
    assert!(said.contains("client.workers: \"0\" -> \"1\"") && said.contains("restart"));
    let output = reloaded.ctl(&["diff"]);
    assert_eq!(output.stdout, b"a reload would change nothing\n");
    let mut command = Command::new(althingctl());
    let output = command
        .args(["config", "check"])
        .arg(&draft)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[tokio::test]
async fn only_the_socket_answers_about_the_configuration_and_only_to_the_members_user() {
    let reloaded = Reloaded::start("");
    let socket = reloaded.member.data_dir().join("admin.sock");
    let mode = std::fs::metadata(socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut client = reloaded.member.grpc().await;
    let refused = client
        .raw("/adminpb.Admin/Show", Bytes::new())
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
}

/// Puts until told to end; returns the last revision.
async fn write(mut client: Grpc, ends: Arc<AtomicBool>) -> i64 {
    let mut revision = 0;
    while !ends.load(Ordering::Relaxed) {
        revision = put(&mut client, 100)
            .await
            .expect("no put fails over a reload");
    }
    revision
}

/// Reads events until a revision has come; none may be missing.
async fn follow(mut stream: Streaming<Bytes>, last: Arc<tokio::sync::watch::Sender<i64>>) -> i64 {
    let (mut seen, mut last) = (None, last.subscribe());
    loop {
        tokio::select! {
            response = next(&mut stream) => for event in response.events {
                let revision = event.kv.unwrap().mod_revision;
                assert!(seen.is_none_or(|seen| revision == seen + 1), "{seen:?}, then {revision}");
                seen = Some(revision);
            },
            _ = last.changed() => {}
        }
        let end = *last.borrow();
        if end != 0 && seen.is_some_and(|seen| seen >= end) {
            return end;
        }
    }
}

#[tokio::test]
async fn what_is_told_of_calls_changes_with_the_next_one() {
    let mut reloaded = Reloaded::start("");
    let mut client = reloaded.member.grpc().await;
    let mut json = reloaded.member.json();
    let mut times_calls = async || {
        let page = json.get("/metrics").await.unwrap().body;
        String::from_utf8_lossy(&page).contains("grpc_server_handling_seconds")
    };
    put(&mut client, 1).await.unwrap();
    assert!(times_calls().await);
    reloaded.take("[client]\nmetrics = \"basic\"\n[log]\nslow_call = \"0s\"\n");
    assert!(!times_calls().await);
    put(&mut client, 1).await.unwrap();
    let line = reloaded.member.process().wait_for_line("request stats");
    let line = line.unwrap();
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["response type"], "/etcdserverpb.KV/Put");
    assert_eq!(line["code"], "Ok");
    let remote = line["remote"].as_str().unwrap();
    assert!(remote.starts_with("127.0.0.1:"), "{remote}");
    for key in ["start time", "time spent", "response size"] {
        assert!(!line[key].is_null(), "no {key}: {line}");
    }
    reloaded.take("[client]\nmetrics = \"extensive\"\n");
    assert!(times_calls().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_timing_of_a_cluster_changes_under_load_and_no_write_fails() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("althing.toml");
    // Long enough that a busy machine is not taken for a dead leader.
    std::fs::write(&file, "[raft]\nelection_timeout = \"20s\"\n").unwrap();
    let mut cluster = Cluster::start(&althingd(), 3, &["--config-file", file.to_str().unwrap()]);
    let ends = Arc::new(AtomicBool::new(false));
    let mut writers = Vec::new();
    for position in 0..3 {
        let client = cluster.grpc(position).await;
        writers.push(tokio::spawn(write(client, Arc::clone(&ends))));
    }
    let before = cluster.status(cluster.leader_of(&[0, 1, 2]).await).await;
    let timings = [
        ("10ms", "40s", 60),
        ("500ms", "50s", 75),
        ("100ms", "20s", 30),
    ];
    for (heartbeat, election, lease_seconds) in timings {
        let text = format!(
            "[raft]\nheartbeat_interval = \"{heartbeat}\"\nelection_timeout = \"{election}\"\n"
        );
        std::fs::write(&file, text).unwrap();
        for position in 0..3 {
            let id = i32::try_from(cluster.process_id(position)).unwrap();
            kill_process(Pid::from_raw(id).unwrap(), Signal::HUP).unwrap();
            let mut client = cluster.grpc(position).await;
            let is_taken_over = async || shortest_lease(&mut client).await == lease_seconds;
            until(is_taken_over, "the new timing").await;
        }
    }
    let after = cluster.status(cluster.leader_of(&[0, 1, 2]).await).await;
    assert_eq!(after.raft_term, before.raft_term, "the leader stays");
    ends.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    let leader = cluster.leader_of(&[0, 1, 2]).await;
    cluster.member(leader).kill();
    let rest = cluster.positions_without(&[leader]);
    cluster.leader_of(&rest).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_reloads_under_load_break_no_stream_and_lose_no_event() {
    let reloaded = Reloaded::start("");
    let port = free_port();
    let texts = [
        String::new(),
        format!(
            "[log]\nlevel = \"warn\"\nformat = \"console\"\nslow_request = \"1s\"\n\
             [cluster]\nlearners_max = 2\n[raft]\nproposals_max = 100\n\
             heartbeat_interval = \"50ms\"\nelection_timeout = \"2s\"\nsnapshot_count = 100\n\
             [store]\nquota_bytes = \"3GiB\"\ndisk_reserve_bytes = \"1MiB\"\n[client]\n\
             request_bytes_max = \"2MiB\"\ntxn_ops_max = 64\nstreams_max = 10\n\
             connections_max = 1000\nkeepalive_interval = \"1m\"\nread_bytes_max = \"64MiB\"\n\
             cors = \"http://a\"\nmetrics_urls = \"http://127.0.0.1:{port}\"\n"
        ),
    ];
    let last = Arc::new(tokio::sync::watch::Sender::new(0));
    let (mut held, mut watchers) = (Vec::new(), Vec::new());
    for _ in 0..WATCHERS {
        let mut client = reloaded.member.grpc().await;
        let (sender, stream) = watch(&mut client).await;
        held.push((client, sender));
        watchers.push(tokio::spawn(follow(stream, Arc::clone(&last))));
    }
    let ends = Arc::new(AtomicBool::new(false));
    let mut writers = Vec::new();
    for _ in 0..WRITERS {
        let client = reloaded.member.grpc().await;
        writers.push(tokio::spawn(write(client, Arc::clone(&ends))));
    }
    for number in 1..=RELOADS {
        let said = tokio::task::block_in_place(|| reloaded.take(&texts[number % 2]));
        assert!(said.contains("reloaded, 18 changed"), "{said}");
    }
    ends.store(true, Ordering::Relaxed);
    let mut newest = 0;
    for writer in writers {
        newest = newest.max(writer.await.unwrap());
    }
    last.send_replace(newest);
    for watcher in watchers {
        assert_eq!(watcher.await.unwrap(), newest);
    }
}
