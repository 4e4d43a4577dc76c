//! A configuration file from any text: it loads or every mistake is reported, the same way twice.
#![no_main]

use std::ffi::OsString;
use std::sync::LazyLock;

use althing_conf::Config;
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

static DIRECTORY: LazyLock<TempDir> =
    LazyLock::new(|| tempfile::tempdir().expect("a temporary directory"));

fuzz_target!(|text: &str| {
    let file = DIRECTORY.path().join("althing.toml");
    std::fs::write(&file, text).expect("the directory takes a small file");
    let load = || {
        let args: [OsString; 3] = ["althingd".into(), "--config-file".into(), (&file).into()];
        match Config::load(args, std::iter::empty()) {
            Ok(loaded) => format!("{loaded:?}"),
            Err(error) => {
                assert!(error.exit_code() != 0 && !error.to_string().is_empty());
                error.to_string()
            }
        }
    };
    assert_eq!(load(), load());
});
