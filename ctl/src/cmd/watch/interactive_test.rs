//! The grammar of a line in interactive mode.

use super::*;
use crate::failure::BAD_ARGS;

fn surroundings(variables: &[(&str, &str)]) -> Surroundings {
    let found = |name: &str| {
        let found = variables.iter().find(|(variable, _)| *variable == name);
        found.map(|(_, value)| value.into())
    };
    Surroundings::new(&found).unwrap()
}

fn key_only(key: &'static str) -> WatchCreateRequest {
    WatchCreateRequest {
        key: Bytes::from_static(key.as_bytes()),
        ..WatchCreateRequest::default()
    }
}

#[test]
fn a_watch_is_read_with_its_flags_range_and_command() {
    let cases = [
        ("watch a", key_only("a"), vec![]),
        ("  watch\t'a b' ", key_only("a b"), vec![]),
        (
            "watch --rev=7 \"a\\tb\" c --prev-kv",
            WatchCreateRequest {
                range_end: Bytes::from_static(b"c"),
                start_revision: 7,
                prev_kv: true,
                ..key_only("a\tb")
            },
            vec![],
        ),
        (
            "watch a --prefix --progress-notify -- echo -n a",
            WatchCreateRequest {
                range_end: Bytes::from_static(b"b"),
                progress_notify: true,
                ..key_only("a")
            },
            vec!["echo", "-n", "a"],
        ),
        // The command's own words are its own, even where they repeat its name.
        ("watch a -- echo echo", key_only("a"), vec!["echo", "echo"]),
    ];
    let nothing = surroundings(&[]);
    for (line, request, command) in cases {
        let command = command.into_iter().map(Bytes::from).collect();
        let expected = Line::Watch(request, command);
        assert_eq!(read(line.as_bytes(), &nothing), Ok(expected), "{line}");
    }
}

#[test]
fn a_line_that_cannot_be_done_is_told_and_the_next_one_awaited() {
    let cases = [
        ("", "Invalid command:  (watch and progress supported)"),
        (
            "watch",
            "Invalid command watch (command type or key is not provided)",
        ),
        ("exit", "Invalid command exit (only support watch)"),
        (
            "watch a b --prefix",
            "Invalid command watch a b --prefix (`range_end` and `--prefix` are mutually \
             exclusive)",
        ),
        (
            "watch -- echo",
            "Invalid command watch -- echo (bad number of arguments)",
        ),
    ];
    let nothing = surroundings(&[]);
    for (line, text) in cases {
        let expected = Ok(Line::Invalid(text.to_owned()));
        assert_eq!(read(line.as_bytes(), &nothing), expected, "{line}");
    }
    for line in ["progress", "progress x"] {
        assert_eq!(read(line.as_bytes(), &nothing), Ok(Line::Progress));
    }
}

#[test]
fn a_line_that_etcdctl_gives_up_over_ends_the_command() {
    let cases = [
        ("watch --bogus a", "unknown flag: --bogus"),
        ("watch -z a", "unknown shorthand flag: 'z' in -z"),
        ("watch -h", "pflag: help requested"),
        ("watch --prefix", "bad number of arguments"),
        ("watch --rev", "flag needs an argument: --rev"),
        (
            "watch a --",
            "bad number of arguments (found separator --, but no commands)",
        ),
        (
            "watch --rev=x a",
            "invalid argument \"x\" for \"--rev\" flag: strconv.ParseInt: parsing \"x\": invalid \
             syntax",
        ),
    ];
    let nothing = surroundings(&[]);
    for (line, text) in cases {
        let expected = Err(Failure::new(BAD_ARGS, text));
        assert_eq!(read(line.as_bytes(), &nothing), expected, "{line}");
    }
    let bad = read(b"watch \"\\q\"", &nothing);
    assert_eq!(bad, Err(Failure::new(INVALID_INPUT, "invalid syntax")));
}

#[test]
fn the_environment_gives_the_key_and_nothing_else_may() {
    let both = surroundings(&[
        ("ETCDCTL_WATCH_KEY", "a"),
        ("ETCDCTL_WATCH_RANGE_END", "c"),
        ("ALTHINGCTL_WATCH_KEY", "b"),
    ]);
    let expected = WatchCreateRequest {
        range_end: Bytes::from_static(b"c"),
        ..key_only("b")
    };
    let expected = Ok(Line::Watch(expected, vec![]));
    assert_eq!(read(b"watch", &both), expected);
    let conflict = "bad number of arguments (found conflicting environment key)";
    let conflict = Err(Failure::new(BAD_ARGS, conflict));
    assert_eq!(read(b"watch x", &both), conflict);
}

#[test]
fn a_range_end_without_a_key_is_refused() {
    let failure =
        Surroundings::new(&|name| (name == "ETCDCTL_WATCH_RANGE_END").then(|| "x".into()));
    let text = "ETCDCTL_WATCH_KEY is empty but got ETCDCTL_WATCH_RANGE_END=\"x\"";
    assert_eq!(failure, Err(Failure::new(BAD_ARGS, text)));
}
