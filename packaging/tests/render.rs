//! What is rendered, read back.

#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

fn read(files: &[PathBuf], name: &str) -> String {
    let path = files.iter().find(|path| path.file_name().unwrap() == name);
    std::fs::read_to_string(path.unwrap_or_else(|| panic!("{name} is not among {files:?}")))
        .unwrap()
}

#[test]
fn every_binary_has_a_man_page_that_names_its_flags() {
    let dir = tempfile::tempdir().unwrap();
    let files = althing_packaging::man(&dir.path().join("made")).unwrap();
    for command in althing_packaging::commands() {
        let name = command.get_name().to_owned();
        let page = read(&files, &format!("{name}.1"));
        assert!(page.contains(".SH NAME"), "{name}");
        for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
            let Some(flag) = arg.get_long() else { continue };
            assert!(
                page.contains(&format!("\\-\\-{}", flag.replace('-', "\\-"))),
                "{name} {flag}"
            );
        }
    }
}

#[test]
fn every_binary_has_completions_for_three_shells() {
    let dir = tempfile::tempdir().unwrap();
    let files = althing_packaging::completion(dir.path()).unwrap();
    for command in althing_packaging::commands() {
        let name = command.get_name();
        for file in [
            format!("{name}.bash"),
            format!("_{name}"),
            format!("{name}.fish"),
        ] {
            assert!(read(&files, &file).contains(name), "{file}");
        }
    }
}

#[test]
fn every_command_of_the_client_has_a_man_page_with_its_flags() {
    let dir = tempfile::tempdir().unwrap();
    let files = althing_packaging::man(dir.path()).unwrap();
    let cases = [
        (
            "watch",
            &["once", "count", "prev\\-kv", "progress\\-notify"][..],
        ),
        ("lease-grant", &[]),
        ("lease-timetolive", &["keys"]),
        ("lease-keep-alive", &["once"]),
        ("lock", &["ttl"]),
        ("elect", &["listen"]),
        ("put", &["lease", "ttl"]),
    ];
    for (command, flags) in cases {
        let page = read(&files, &format!("althingctl-{command}.1"));
        for flag in flags {
            assert!(page.contains(&format!("\\-\\-{flag}")), "{command} {flag}");
        }
    }
}
