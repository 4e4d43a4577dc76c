//! Where the global flags' values come from, and what is refused.

use super::*;
use crate::command;

fn settings(line: &[&str], variables: &[(&str, &str)]) -> Result<Settings, Failure> {
    let line = ["althingctl"].iter().chain(line);
    let matches = command().try_get_matches_from(line).unwrap();
    let (_, matches) = matches.subcommand().expect("the test names a command");
    let environment = |name: &str| {
        let found = variables.iter().find(|(variable, _)| *variable == name);
        found.map(|(_, value)| value.into())
    };
    Settings::new(matches, &environment)
}

#[test]
fn a_flag_wins_over_our_variable_over_etcdctls_over_the_default() {
    let (ours, theirs) = (
        ("ALTHINGCTL_ENDPOINTS", "o:1"),
        ("ETCDCTL_ENDPOINTS", "e:1"),
    );
    let endpoint = |line: &[&str], variables: &[(&str, &str)]| {
        settings(line, variables).unwrap().endpoints.join(",")
    };
    assert_eq!(endpoint(&["get", "a"], &[]), "127.0.0.1:2379");
    assert_eq!(endpoint(&["get", "a"], &[theirs]), "e:1");
    assert_eq!(endpoint(&["get", "a"], &[theirs, ours]), "o:1");
    assert_eq!(
        endpoint(&["get", "a"], &[theirs, ("ALTHINGCTL_ENDPOINTS", "")]),
        "e:1"
    );
    assert_eq!(endpoint(&["get", "a", "--endpoints=f:1"], &[ours]), "f:1");
}

#[test]
fn endpoints_add_up_and_other_flags_replace_each_other() {
    let line = [
        "get",
        "a",
        "--endpoints=a:1, b:2",
        "--endpoints",
        "c:3",
        "-wjson",
        "-w=fields",
    ];
    let settings = settings(&line, &[]).unwrap();
    assert_eq!(settings.endpoints, ["a:1", "b:2", "c:3"]);
    assert_eq!(settings.printer.format, Format::Fields);
}

#[test]
fn a_bad_variable_is_refused_by_its_name() {
    let failure = settings(&["get", "a"], &[("ETCDCTL_DIAL_TIMEOUT", "3")]).unwrap_err();
    assert_eq!(
        failure.text,
        "invalid argument \"3\" for \"--dial-timeout\" flag: \
         time: missing unit in duration \"3\" (from ETCDCTL_DIAL_TIMEOUT)"
    );
}

#[test]
fn user_and_password_are_taken_apart() {
    let login = |name: &str, password: Option<&str>| Login {
        name: name.to_owned(),
        password: password.map(str::to_owned),
    };
    let cases: [(&[&str], Login); 3] = [
        (&["get", "a", "--user=root:a:b"], login("root", Some("a:b"))),
        (&["get", "a", "--user=root"], login("root", None)),
        (
            &["get", "a", "--user=r:t", "--password=p"],
            login("r:t", Some("p")),
        ),
    ];
    for (line, expected) in cases {
        assert_eq!(
            settings(line, &[]).unwrap().login,
            Some(expected),
            "{line:?}"
        );
    }
}

#[test]
fn what_cannot_be_done_is_refused_clearly() {
    let cases: [(&[&str], u8, &str); 4] = [
        (
            &["get", "a", "--discovery-srv=example.com"],
            BAD_ARGS,
            "--discovery-srv",
        ),
        (
            &["get", "a", "--user=a:b", "--auth-jwt-token=t"],
            BAD_ARGS,
            "exclude",
        ),
        (
            &["get", "a", "--cert="],
            BAD_ARGS,
            "empty string is passed to --cert option",
        ),
        (
            &["get", "a", "-wbogus"],
            BAD_FEATURE,
            "unsupported output format",
        ),
    ];
    for (line, exit, part) in cases {
        let failure = settings(line, &[]).unwrap_err();
        assert_eq!(failure.exit, exit, "{line:?}");
        assert!(failure.text.contains(part), "{failure}");
    }
}

#[test]
fn the_trace_names_every_flag_and_hides_secrets() {
    let line = [
        "althingctl",
        "get",
        "a",
        "--user=root:secret",
        "--password=secret",
    ];
    let matches = command().try_get_matches_from(line).unwrap();
    let (_, matches) = matches.subcommand().expect("the test names a command");
    let lines = Settings::trace(matches, &|_| None);
    assert_eq!(lines.len(), arguments().len());
    for expected in ["WRITE_OUT=simple", "HEX=false", "INSECURE_TRANSPORT=true"] {
        assert!(
            lines.contains(&format!("ALTHINGCTL_{expected}")),
            "{expected}"
        );
    }
    assert!(
        lines.iter().all(|line| !line.contains("secret")),
        "{lines:?}"
    );
}

#[test]
fn the_grammar_is_sound() {
    command().debug_assert();
}
