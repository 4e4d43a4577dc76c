//! `default.toml` against the options, and hostile files.

use althing_conf::{Config, DEFAULT_TOML, LoadError, command};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::ffi::OsString;

fn keys_of_the_manual() -> BTreeSet<String> {
    let mut section = String::new();
    let mut keys = BTreeSet::new();
    for line in DEFAULT_TOML.lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']').to_owned();
        } else if let Some((key, _)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) {
            keys.insert(format!("{section}.{key}"));
        }
    }
    keys
}

#[test]
fn the_manual_names_every_option_and_no_other() {
    let loaded = Config::load([OsString::from("althingd")], []).unwrap();
    let options: BTreeSet<String> = loaded
        .origins()
        .iter()
        .map(|given| given.key.to_owned())
        .collect();
    assert_eq!(keys_of_the_manual(), options);
}

#[test]
fn every_field_of_the_tree_is_an_option() {
    let source = include_str!("../src/config.rs");
    let mut fields = BTreeSet::new();
    let mut section = String::new();
    for line in source.lines() {
        if let Some(rest) = line.strip_prefix("pub struct ") {
            section = rest.split(' ').next().unwrap_or_default().to_lowercase();
        } else if let Some(rest) = line.strip_prefix("    pub ") {
            let field = rest.split(':').next().unwrap_or_default();
            if section != "config" && section != "url" && !field.contains("fn ") {
                fields.insert(format!("{section}.{field}"));
            }
        }
    }
    // What is kept of the history is one field, which two options make.
    assert!(fields.remove("store.auto_compaction"));
    for option in ["mode", "retention"] {
        fields.insert(format!("store.auto_compaction_{option}"));
    }
    assert_eq!(fields, keys_of_the_manual());
}

#[test]
fn the_manual_gives_every_option_two_lines_of_why_and_its_flag() {
    let mut comment: Vec<&str> = Vec::new();
    let mut seen = 0;
    for line in DEFAULT_TOML.lines() {
        if line.starts_with('#') {
            comment.push(line);
            continue;
        }
        if line.contains(" = ") {
            seen += 1;
            assert!(comment.len() >= 2, "{line} has no two lines above it");
            let flag = comment[0]
                .trim_start_matches("# --")
                .split(' ')
                .next()
                .unwrap();
            let known = command()
                .get_arguments()
                .any(|arg| arg.get_long() == Some(flag));
            assert!(known, "{line} names the unknown flag {flag}");
        }
        comment.clear();
    }
    assert!(seen > 30, "the manual was not read: {seen} options");
}

#[test]
fn every_flag_in_the_help_is_explained() {
    for arg in command().get_arguments() {
        assert!(
            arg.is_hide_set() || arg.get_help().is_some(),
            "{:?}",
            arg.get_id()
        );
    }
}

fn load_file(bytes: &[u8]) -> Result<(), LoadError> {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let path = dir.path().join("althing.toml");
    std::fs::write(&path, bytes).expect("the temporary directory is writable");
    let args = [
        "althingd".into(),
        "--config-file".into(),
        path.into_os_string(),
    ];
    Config::load(args, []).map(|_| ())
}

fn line() -> impl Strategy<Value = String> {
    let keys: Vec<String> = keys_of_the_manual()
        .iter()
        .flat_map(|key| {
            let (section, name) = key.split_once('.').expect("keys have a section");
            [
                format!("[{section}]"),
                format!("{name} = "),
                format!("{key} = "),
            ]
        })
        .collect();
    let value = prop_oneof![
        Just("\"1.5MiB\"".to_owned()),
        Just("-1".to_owned()),
        Just("1e300".to_owned()),
        Just("[\"http://[::1]:1\", 7, [true]]".to_owned()),
        Just("{ a = 1 }".to_owned()),
        Just("1979-05-27T07:32:00Z".to_owned()),
        "\"[ -~]{0,12}\"",
        any::<i64>().prop_map(|number| number.to_string()),
    ];
    (prop::sample::select(keys), value).prop_map(|(key, value)| {
        if key.starts_with('[') {
            key
        } else {
            format!("{key}{value}")
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_of_a_file_bring_it_down(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = load_file(&bytes);
    }

    #[test]
    fn no_lines_like_toml_bring_it_down(lines in prop::collection::vec(line(), 0..12)) {
        if let Err(error) = load_file(lines.join("\n").as_bytes()) {
            prop_assert!(matches!(error, LoadError::Refused(ref all) if !all.is_empty()));
        }
    }
}
