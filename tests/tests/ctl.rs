//! `althingctl` beside endpoints that are of no use, and with limits of its own.

// All of this file is tests.
#![allow(clippy::unwrap_used)]

use std::net::TcpListener;
use std::process::{Command, Output};

use althing_tests::binaries::{althingctl, althingd};
use althing_tests::member::Member;

fn ctl(endpoints: &str, line: &[&str]) -> Output {
    let mut command = Command::new(althingctl());
    // Allows for a busy machine.
    command.args(["--command-timeout=60s", "--dial-timeout=20s"]);
    let output = command.args(["--endpoints", endpoints]).args(line).output();
    output.expect("althingctl can be run")
}

fn told(output: &Output) -> String {
    let text = [output.stdout.as_slice(), &output.stderr].concat();
    let text = String::from_utf8(text).unwrap();
    assert!(output.status.success(), "{text}");
    text
}

#[test]
fn an_endpoint_that_accepts_and_says_nothing_does_not_hide_the_one_behind_it() {
    let member = Member::start(&althingd(), &[]);
    // The system accepts connections for it; nobody ever reads them.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let endpoints = format!("http://{address},{}", member.client_url());
    assert_eq!(told(&ctl(&endpoints, &["put", "a", "1"])), "OK\n");
    assert_eq!(told(&ctl(&endpoints, &["get", "a"])), "a\n1\n");
}

#[test]
fn an_answer_larger_than_the_client_wants_is_refused_in_etcdctls_words() {
    let member = Member::start(&althingd(), &[]);
    let endpoint = member.client_url();
    told(&ctl(&endpoint, &["put", "a", &"v".repeat(100)]));
    for line in [&["get", "a"][..], &["member", "list"]] {
        let limited = [&["--max-recv-bytes=20"][..], line].concat();
        let output = ctl(&endpoint, &limited);
        let text = String::from_utf8(output.stderr).unwrap();
        let start = "Error: rpc error: code = ResourceExhausted desc = grpc: received message \
                     larger than max (";
        assert!(text.starts_with(start), "{text}");
        assert!(text.ends_with(" vs. 20)\n"), "{text}");
    }
}
