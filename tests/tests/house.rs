//! The house rules as assertions: sizes, names, imports between crates, headers, and
//! ARCHITECTURE.md's tables against the code. Reads sources as text; plain scanning is enough for
//! code that `cargo fmt` has laid out.

#![allow(clippy::unwrap_used)]

use cargo_metadata::{DependencyKind, MetadataCommand};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

const LINES_MAX: usize = 500;
const COLUMNS_MAX: usize = 100;
const SOURCES: [&str; 6] = ["rs", "proto", "toml", "go", "py", "sh"];
const FORBIDDEN: [&str; 9] = [
    "util", "utils", "helper", "helpers", "common", "misc", "manager", "managers", "base",
];

/// Our crates, and which of ours each may use outside its tests.
const ARROWS: [(&str, &[&str]); 9] = [
    ("althing-actors", &["althing-api", "althing-storage"]),
    ("althing-api", &[]),
    ("althing-conf", &[]),
    (
        "althing-ctl",
        &["althing-api", "althing-conf", "althing-storage"],
    ),
    (
        "althing-daemon",
        &[
            "althing-actors",
            "althing-api",
            "althing-conf",
            "althing-storage",
        ],
    ),
    ("althing-packaging", &["althing-conf", "althing-ctl"]),
    ("althing-storage", &["althing-api"]),
    ("althing-tests", &["althing-api"]),
    ("base2histogram", &[]),
];

/// Frameworks by the beginning of their names, and the crates that may use each outside their
/// tests.
const FRAMEWORKS: [(&str, &[&str]); 11] = [
    ("redb", &["althing-storage"]),
    ("openraft", &["althing-actors"]),
    ("actix", &["althing-actors", "althing-daemon"]),
    ("actix-web", &["althing-daemon"]),
    ("actix-http", &["althing-daemon"]),
    ("hyper", &["althing-daemon", "althing-tests"]),
    (
        "tonic",
        &[
            "althing-api",
            "althing-ctl",
            "althing-daemon",
            "althing-tests",
        ],
    ),
    (
        "clap",
        &["althing-conf", "althing-ctl", "althing-packaging"],
    ),
    ("config", &["althing-conf"]),
    ("opentelemetry", &["althing-daemon"]),
    (
        "tokio",
        &[
            "althing-actors",
            "althing-ctl",
            "althing-daemon",
            "althing-tests",
        ],
    ),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

/// Every file that belongs to the repository, by its path from the root.
fn files() -> Vec<String> {
    let git = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output();
    let mut files: Vec<String> = match git {
        Ok(output) if output.status.success() => String::from_utf8(output.stdout)
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect(),
        // A source archive without git: everything except what builds and tools leave behind.
        _ => walk(&root(), ""),
    };
    files.retain(|file| root().join(file).is_file());
    assert!(files.len() > 50, "only {} files were found", files.len());
    files
}

fn walk(dir: &Path, prefix: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let path = format!("{prefix}{name}");
        if entry.file_type().unwrap().is_dir() {
            if name != "target" && (!name.starts_with('.') || name == ".ci") {
                found.extend(walk(&entry.path(), &format!("{path}/")));
            }
        } else {
            found.push(path);
        }
    }
    found
}

fn read(file: &str) -> String {
    let bytes = std::fs::read(root().join(file)).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn extension(file: &str) -> &str {
    Path::new(file)
        .extension()
        .and_then(|extension| extension.to_str())
        .unwrap_or_default()
}

/// Sources, with their text.
fn sources() -> Vec<(String, String)> {
    let is_source = |file: &String| SOURCES.contains(&extension(file)) || file.starts_with(".ci/");
    files()
        .into_iter()
        .filter(is_source)
        .map(|file| (file.clone(), read(&file)))
        .collect()
}

fn rust() -> Vec<(String, String)> {
    sources()
        .into_iter()
        .filter(|(file, _)| extension(file) == "rs")
        .collect()
}

/// The part of a source that is not an inline test module.
fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests {").next().unwrap()
}

fn is_test_file(file: &str) -> bool {
    file.ends_with("_test.rs") || file.contains("/tests/")
}

/// Fails with all violations, one per line.
fn report(rule: &str, violations: &[String]) {
    assert!(
        violations.is_empty(),
        "{rule}:\n  {}",
        violations.join("\n  ")
    );
}

#[test]
fn no_source_is_longer_or_wider_than_the_house_allows() {
    let mut found = Vec::new();
    for (file, text) in sources() {
        let lines = text.lines().count();
        if lines > LINES_MAX {
            found.push(format!("{file}: {lines} lines, at most {LINES_MAX}"));
        }
        if file.ends_with("Cargo.toml") || file.ends_with("clippy.toml") {
            // Tables with one entry per line, which TOML does not allow to be broken.
            continue;
        }
        for (position, line) in text.lines().enumerate() {
            if line.chars().count() > COLUMNS_MAX {
                found.push(format!(
                    "{file}:{}: wider than {COLUMNS_MAX} columns",
                    position + 1
                ));
            }
        }
    }
    report("split long files, break long lines", &found);
}

#[test]
fn sources_are_ascii() {
    let mut found = Vec::new();
    for (file, text) in sources() {
        for (position, line) in text.lines().enumerate() {
            if let Some(letter) = line.chars().find(|letter| !letter.is_ascii()) {
                found.push(format!("{file}:{}: {letter:?}", position + 1));
            }
        }
    }
    report("draw with - | + > and escape what a test needs", &found);
}

#[test]
fn every_rust_file_opens_by_saying_what_it_is_for() {
    let silent = |(_, text): &(String, String)| !text.starts_with("//! ");
    let found: Vec<String> = rust()
        .into_iter()
        .filter(silent)
        .map(|(file, _)| file)
        .collect();
    report("begin each file with //!", &found);
}

#[test]
fn names_say_what_a_thing_is() {
    let mut found = Vec::new();
    for file in files() {
        let words = file.split(['/', '_', '-', '.']);
        found.extend(
            words
                .filter(|w| FORBIDDEN.contains(w))
                .map(|word| format!("{file}: {word}")),
        );
    }
    for (file, text) in rust() {
        for line in text.lines().map(str::trim_start) {
            let Some((kind, name)) = declared(line) else {
                continue;
            };
            let words = words(name);
            let vague = words.iter().any(|word| FORBIDDEN.contains(&word.as_str()));
            let suffix = kind != "fn" && words.len() > 1 && words.last().unwrap() == "impl";
            let prefix = kind == "fn" && (name.starts_with("do_") || name.starts_with("handle_"));
            if vague || suffix || prefix {
                found.push(format!("{file}: {kind} {name}"));
            }
        }
    }
    report("vague names", &found);
}

/// What a line declares: the keyword and the name.
fn declared(line: &str) -> Option<(&str, &str)> {
    let mut words = line
        .split([' ', '(', '<', '{', ';', ':'])
        .filter(|word| !word.is_empty());
    let keywords = ["struct", "enum", "trait", "type", "fn", "mod"];
    let before = ["pub", "in", "crate", "super", "async", "const", "unsafe"];
    loop {
        let word = words.next()?;
        if keywords.contains(&word) {
            return Some((word, words.next()?));
        }
        // `pub(super)`, `pub(in crate::raft_node)`
        let ends_visibility = word.ends_with(')');
        if !before.contains(&word) && !ends_visibility {
            return None;
        }
    }
}

/// The words of a CamelCase or snake_case name, in small letters.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for letter in name.chars() {
        if letter == '_' || letter.is_ascii_uppercase() {
            words.push(String::new());
        }
        if letter != '_' {
            words.last_mut().unwrap().push(letter.to_ascii_lowercase());
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[test]
fn crates_import_only_along_the_arrows() {
    let metadata = MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .no_deps()
        .other_options(["--offline".to_owned()])
        .exec()
        .unwrap();
    let arrows: BTreeMap<&str, &[&str]> = ARROWS.into_iter().collect();
    let mut found = Vec::new();
    for package in &metadata.packages {
        let name = package.name.as_str();
        let Some(allowed) = arrows.get(name) else {
            found.push(format!("{name} has no row in the table of arrows"));
            continue;
        };
        let outside_tests = |kind: DependencyKind| kind != DependencyKind::Development;
        for dependency in package
            .dependencies
            .iter()
            .filter(|d| outside_tests(d.kind))
        {
            let used = dependency.name.as_str();
            if used.starts_with("althing-") && !allowed.contains(&used) {
                found.push(format!("{name} -> {used}"));
            }
            // The longest matching beginning is the framework's row: actix-web is not actix.
            let rows = FRAMEWORKS.iter().filter(|(framework, _)| {
                used == *framework || used.starts_with(&format!("{framework}-"))
            });
            let row = rows.max_by_key(|(framework, _)| framework.len());
            if row.is_some_and(|(_, users)| !users.contains(&name)) {
                found.push(format!("{name} -> {used}"));
            }
        }
    }
    assert_eq!(metadata.packages.len(), ARROWS.len());
    report("imports against the arrows", &found);
}

#[test]
fn openraft_is_named_only_where_it_is_adapted() {
    let homes = [
        "actors/src/raft_node/",
        "actors/src/peer_link/wire.rs",
        "actors/src/peer_link/wire_test.rs",
        "actors/tests/",
    ];
    let mut found = Vec::new();
    for (file, text) in rust()
        .iter()
        .filter(|(file, _)| file.starts_with("actors/"))
    {
        let mut code = text
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"));
        let names_it = code.any(|line| line.contains("openraft"));
        if names_it && !homes.iter().any(|home| file.starts_with(home)) {
            found.push(file.clone());
        }
    }
    report("openraft outside raft_node", &found);
}

#[test]
fn nothing_is_left_undone_or_switched_off() {
    // Spelled in halves, so that this file does not report itself.
    let marks = [
        concat!("to", "do!"),
        concat!("unimple", "mented!"),
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X"),
        concat!("#[ig", "nore"),
        concat!("db", "g!("),
    ];
    let mut found = Vec::new();
    for (file, text) in sources() {
        for (position, line) in text.lines().enumerate() {
            let here = marks.iter().filter(|mark| line.contains(*mark));
            found.extend(here.map(|mark| format!("{file}:{}: {mark}", position + 1)));
        }
    }
    report("left undone", &found);
}

#[test]
fn tests_wait_for_conditions_and_not_for_time_to_pass() {
    let call = concat!("sle", "ep(");
    let mut found = Vec::new();
    for (file, text) in rust() {
        let tests = if is_test_file(&file) {
            &text
        } else {
            &text[without_tests(&text).len()..]
        };
        if tests.lines().any(|line| line.contains(call)) {
            found.push(file);
        }
    }
    report(
        "waiting belongs to the harness, for a condition and with a deadline",
        &found,
    );
}

#[test]
fn no_file_names_a_path_of_one_machine() {
    let places = ["work", "home", "root", "tmp", "Users"].map(|place| format!("/{place}/"));
    let mut found = Vec::new();
    for file in files().into_iter().filter(|file| file != "Cargo.lock") {
        for (position, line) in read(&file).lines().enumerate() {
            if places.iter().any(|place| line.contains(place)) {
                found.push(format!("{file}:{}: {}", position + 1, line.trim()));
            }
        }
    }
    report("paths of one machine", &found);
}

/// The names in backticks of one column of the table below a heading of ARCHITECTURE.md.
fn table(heading: &str, column: usize) -> BTreeSet<String> {
    let text = read("ARCHITECTURE.md");
    let section = text
        .split(&format!("\n## {heading}\n"))
        .nth(1)
        .unwrap_or_default();
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| "));
    let cells = rows.filter_map(|row| row.split('|').nth(column + 1));
    cells
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .map(str::to_owned)
        .collect()
}

fn actor_sources() -> Vec<String> {
    let of_actors = |file: &str| {
        file.starts_with("actors/src/") && !is_test_file(file) && !file.contains("/testing/")
    };
    let texts = rust().into_iter().filter(|(file, _)| of_actors(file));
    texts
        .map(|(_, text)| without_tests(&text).to_owned())
        .collect()
}

#[test]
fn the_actors_of_the_code_are_those_of_the_document() {
    let mut actors = BTreeSet::new();
    for text in actor_sources() {
        for line in text.lines().filter(|line| line.starts_with("impl")) {
            if let Some((_, rest)) = line.split_once(" Actor for ") {
                actors.insert(name_at(rest).to_owned());
            }
        }
    }
    assert!(!actors.is_empty(), "no actor was found");
    assert_eq!(
        actors,
        table("Actors", 0),
        "left: the code, right: ARCHITECTURE.md"
    );
}

#[test]
fn the_messages_of_the_code_are_those_of_the_document() {
    let mut messages = BTreeSet::new();
    for text in actor_sources() {
        for after in text.split("#[rtype(").skip(1) {
            let declaration = after.lines().find_map(|line| declared(line.trim_start()));
            if let Some(("struct" | "enum", name)) = declaration {
                messages.insert(name.to_owned());
            }
        }
        for line in text.lines().filter(|line| line.starts_with("impl")) {
            if let Some((_, rest)) = line.split_once(" Message for ") {
                messages.insert(name_at(rest).to_owned());
            }
        }
    }
    assert!(!messages.is_empty(), "no message was found");
    assert_eq!(
        messages,
        table("Messages", 1),
        "left: the code, right: ARCHITECTURE.md"
    );
}

fn name_at(text: &str) -> &str {
    text.split(|letter: char| !letter.is_alphanumeric() && letter != '_')
        .next()
        .unwrap()
}

#[test]
fn every_mutation_changes_the_files_that_it_names() {
    for script in files().iter().filter(|file| file.ends_with(".sed")) {
        let (text, head) = (read(script), "# file: ");
        for file in text.lines().filter_map(|line| line.strip_prefix(head)) {
            let mut sed = Command::new("sed");
            sed.current_dir(root()).args(["-E", "-f", script, file]);
            let mutated = String::from_utf8(sed.output().unwrap().stdout).unwrap();
            assert!(mutated.contains("MUTATED"), "{script} is stale: {file}");
        }
    }
}

#[test]
fn the_readme_and_the_ci_run_the_same_tests() {
    let command = "cargo test --workspace";
    for file in ["README.md", "CONTRIBUTING.md", ".ci/run"] {
        assert!(
            read(file).contains(command),
            "{file} does not say {command:?}"
        );
    }
}
