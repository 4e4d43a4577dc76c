//! `althingctl doctor` and the dry runs, against healthy and sick members and directories.

// All of this file is tests.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use althing_tests::binaries::{althingctl, althingd};
use althing_tests::cluster::{Cluster, STEADY};
use althing_tests::member::Member;
use althing_tests::wait::until;
use serde_json::Value;

/// Keys of 100 kB each, but not enough that a running member copies the file by itself.
const KEYS: usize = 60;

/// Allows for a busy machine.
const PATIENT: &str = "--command-timeout=60s";

fn ctl(line: &[&str]) -> Output {
    let output = Command::new(althingctl()).args(line).output();
    output.expect("althingctl can be run")
}

fn told(output: &Output) -> String {
    let text = [output.stdout.as_slice(), &output.stderr].concat();
    String::from_utf8(text).unwrap()
}

fn ask(member: &Member, line: &[&str]) -> String {
    let endpoint = format!("--endpoints={}", member.client_url());
    let output = ctl(&[&[endpoint.as_str(), PATIENT][..], line].concat());
    assert!(output.status.success(), "{line:?}: {}", told(&output));
    told(&output)
}

/// The kinds of the doctor's findings, checking that it ended as a script expects. Findings about
/// the speed of the machine that runs the test are left out.
fn diagnosis(flags: &[&str]) -> Vec<String> {
    let output = ctl(&[&["doctor", "-w", "json"][..], flags].concat());
    let text = told(&output);
    let report: Value =
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let healthy = report["healthy"].as_bool().unwrap();
    assert_eq!(output.status.code(), Some(i32::from(!healthy)), "{text}");
    let findings = report["findings"].as_array().unwrap().iter();
    let of_machine = ["slow-disk", "disk-nearly-full", "clock-skew"];
    let kinds = findings.map(|finding| finding["what"].as_str().unwrap().to_owned());
    kinds
        .filter(|kind| !of_machine.contains(&kind.as_str()))
        .collect()
}

/// Waits for a diagnosis that begins like this: a cluster may elect meanwhile.
async fn diagnosed(flags: &[&str], expected: &[&str]) {
    let is_found = async || {
        let found = diagnosis(flags);
        println!("found {found:?}");
        found.len() >= expected.len() && found[..expected.len()] == *expected
    };
    until(is_found, "the diagnosis").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_doctor_tells_which_members_are_away_and_what_that_costs() {
    let mut cluster = Cluster::start(&althingd(), 3, &STEADY);
    let leader = cluster.leader_of(&[0, 1, 2]).await;
    let others = cluster.positions_without(&[leader]);
    let endpoint = |cluster: &Cluster| {
        let url = cluster.members()[leader].client_url();
        format!("--endpoints={url}")
    };
    // Whichever member is asked, the others are found through it.
    let well = endpoint(&cluster);
    until(async || diagnosis(&[&well]).is_empty(), "health").await;
    let ids = cluster.ids().await;
    let dry = |cluster: &Cluster, position: usize, timeout: &str| {
        let id = format!("{:x}", ids[position]);
        let flag = endpoint(cluster);
        ctl(&[&flag, timeout, "member", "remove", &id, "--dry-run"])
    };
    let safe = dry(&cluster, others[0], PATIENT);
    assert!(safe.status.success(), "{}", told(&safe));
    assert!(told(&safe).contains("to 2 voters, 2 of which answer and 2 are needed"));
    cluster.member(others[0]).kill();
    diagnosed(&[&endpoint(&cluster)], &["unreachable", "quorum-at-risk"]).await;
    let is_refused = async || {
        // How long it waits for the absent one.
        let stops = dry(&cluster, others[1], "--command-timeout=5s");
        assert_eq!(stops.status.code(), Some(1));
        println!("{}", told(&stops));
        told(&stops).contains("the cluster would stop")
    };
    until(is_refused, "a removal that stops the cluster").await;
    cluster.member(others[1]).kill();
    let lost = ["unreachable", "unreachable", "quorum-lost"];
    diagnosed(&[&endpoint(&cluster), "--command-timeout=2s"], &lost).await;
    let flag = endpoint(&cluster);
    // Everything is asked at once: what nobody answers costs the command's time once.
    let is_told = async || {
        let began = Instant::now();
        let text = told(&ctl(&["doctor", &flag, "--command-timeout=4s"]));
        let took = began.elapsed();
        println!("{text}after {took:?}");
        let says = text.contains("\nERROR quorum-lost: cluster\n") && text.contains("  do: ");
        says && took < Duration::from_secs(7)
    };
    until(is_told, "the loss and what to do").await;
}

#[test]
fn the_doctor_finds_what_ails_a_data_directory_and_changes_nothing() {
    let mut member = Member::start(&althingd(), &[]);
    ask(&member, &["put", "a", "b"]);
    let directory = member.data_dir().display().to_string();
    let flags = ["--data-dir", directory.as_str()];
    assert_eq!(diagnosis(&flags), ["directory-in-use"]);
    member.stop();
    let before = contents(Path::new(&directory));
    assert_eq!(diagnosis(&flags), [""; 0]);
    assert!(contents(Path::new(&directory)) == before);
    let text = told(&ctl(&["doctor", "--data-dir", &directory]));
    assert!(text.contains("revision 2, 1 key,"), "{text}");

    let member_dir = Path::new(&directory).join("member");
    fs::write(member_dir.join("snap/arrival-7.redb"), b"cut").unwrap();
    fs::write(member_dir.join("notes.txt"), b"mine").unwrap();
    assert_eq!(diagnosis(&flags), ["unknown-file", "left-over"]);
    fs::remove_file(member_dir.join("notes.txt")).unwrap();
    // A member starts nevertheless, and removes what was left.
    member.restart();
    assert_eq!(ask(&member, &["get", "a"]), "a\nb\n");
    member.stop();
    assert_eq!(diagnosis(&flags), [""; 0]);

    let store = member_dir.join("store.redb");
    let kept = fs::read(&store).unwrap();
    fs::write(&store, vec![7; 8192]).unwrap();
    assert_eq!(diagnosis(&flags), ["store-damaged"]);
    fs::write(&store, kept).unwrap();
    let identity = member_dir.join("id");
    let kept = fs::read(&identity).unwrap();
    fs::write(&identity, b"althing").unwrap();
    assert_eq!(diagnosis(&flags), ["identity-damaged"]);
    fs::remove_file(&identity).unwrap();
    assert_eq!(diagnosis(&flags), ["identity-missing"]);
    fs::write(&identity, kept).unwrap();
    let log = fs::read_dir(member_dir.join("wal")).unwrap();
    let log = log.map(|entry| entry.unwrap().path());
    let segment = log
        .into_iter()
        .find(|path| path.extension().is_some_and(|end| end == "wal"));
    fs::remove_file(segment.unwrap()).unwrap();
    assert_eq!(diagnosis(&flags), ["wal-and-store-differ"]);
    let nowhere = format!("{directory}-nowhere");
    assert_eq!(diagnosis(&["--data-dir", &nowhere]), ["directory-missing"]);
}

/// Every file below `path`, with its content.
fn contents(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(contents(&path));
        } else {
            found.push((path.display().to_string(), fs::read(&path).unwrap()));
        }
    }
    found.sort();
    found
}

#[test]
fn the_doctor_judges_a_configuration_and_the_directory_it_names() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("althing.toml");
    let data = place.path().join("data");
    fs::create_dir(&data).unwrap();
    let flags = ["--config-file", file.to_str().unwrap()];
    fs::write(&file, format!("[member]\ndata_dir = {data:?}\n")).unwrap();
    assert_eq!(diagnosis(&flags), ["directory-empty"]);
    fs::write(&file, "[member]\nnome = \"x\"\n").unwrap();
    assert_eq!(diagnosis(&flags), ["config-refused"]);
}

#[test]
fn a_dry_run_tells_what_would_go_and_changes_nothing() {
    let member = Member::start(&althingd(), &[]);
    let lease = ask(&member, &["lease", "grant", "3000"]);
    let lease = lease.split_whitespace().nth(1).unwrap().to_owned();
    for key in ["a", "b", "c"] {
        ask(&member, &["put", key, "v"]);
    }
    ask(&member, &["put", "leased", "v", "--lease", &lease]);
    let all = || ask(&member, &["get", "", "--prefix", "-w", "fields"]);
    let before = all();
    let listed = ask(&member, &["del", "a", "c", "--dry-run"]);
    assert_eq!(listed, "a\nb\nwould delete 2 keys; nothing was changed\n");
    let listed = ask(&member, &["del", "", "--prefix", "--dry-run"]);
    assert_eq!(
        listed,
        "a\nb\nc\nleased\nwould delete 4 keys; nothing was changed\n"
    );
    let listed = ask(&member, &["lease", "revoke", &lease, "--dry-run"]);
    let expected =
        format!("leased\nwould revoke lease {lease} and delete 1 keys; nothing was changed\n");
    assert_eq!(listed, expected);
    let listed = ask(&member, &["compaction", "3", "--dry-run"]);
    assert!(
        listed.starts_with("would compact at revision 3 of 5:"),
        "{listed}"
    );
    let flag = format!("--endpoints={}", member.client_url());
    let refused = ctl(&[&flag, "compaction", "6", "--dry-run"]);
    let future = "Error: etcdserver: mvcc: required revision is a future revision\n";
    assert_eq!(told(&refused), future);
    assert_eq!(all(), before);
    assert_eq!(ask(&member, &["del", "", "--prefix", "--yes"]), "4\n");
}

#[test]
fn a_stopped_members_store_gives_its_unused_space_back() {
    let mut member = Member::start(&althingd(), &[]);
    let value = "v".repeat(100_000);
    for number in 0..KEYS {
        ask(&member, &["put", &format!("k{number}"), &value]);
    }
    // On the disk before it is compacted, and with a key behind it: free space at the end goes
    // away.
    member.stop();
    member.restart();
    ask(&member, &["put", "x", &value]);
    member.stop();
    member.restart();
    ask(&member, &["del", "k", "--prefix"]);
    let revision = (KEYS + 3).to_string();
    ask(&member, &["compaction", &revision, "--physical"]);
    let directory = member.data_dir().display().to_string();
    let running = ctl(&["defrag", "--data-dir", &directory]);
    assert!(!running.status.success(), "{}", told(&running));
    member.stop();
    let size = || {
        let store = Path::new(&directory).join("member/store.redb");
        // The length of the file says little: it is sparse.
        fs::metadata(store).unwrap().blocks()
    };
    let before = size();
    let done = ctl(&["defrag", "--data-dir", &directory]);
    assert!(done.status.success(), "{}", told(&done));
    assert!(size() < before, "{before} -> {}", size());
    assert_eq!(diagnosis(&["--data-dir", &directory]), [""; 0]);
    member.restart();
    assert_eq!(ask(&member, &["get", "k", "--prefix", "--keys-only"]), "");
}
