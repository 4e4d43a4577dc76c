//! What a second reading of the configuration changes in a member that runs.

#![allow(clippy::unwrap_used)]

use althing_conf::{
    Config, Effect, FileInstead, LoadError, Loaded, Reload, admin_socket, check_file,
};
use std::ffi::OsString;
use std::path::PathBuf;
use tempfile::TempDir;

/// A file and the command line that names it.
struct Setup {
    _dir: TempDir,
    file: PathBuf,
    args: Vec<OsString>,
}

impl Setup {
    fn new(text: &str, flags: &[&str]) -> Setup {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("althing.toml");
        let data_dir = format!("--data-dir={}", dir.path().join("data").display());
        let mut args: Vec<OsString> = vec!["althingd".into(), data_dir.into()];
        args.push("--config-file".into());
        args.push(file.clone().into());
        args.extend(flags.iter().map(OsString::from));
        let setup = Setup {
            _dir: dir,
            file,
            args,
        };
        setup.write(text);
        setup
    }

    fn write(&self, text: &str) {
        std::fs::write(&self.file, text).unwrap();
    }

    fn load(&self) -> Loaded {
        Config::load(self.args.clone(), []).unwrap()
    }

    fn reload(&self, running: &Loaded) -> Result<Reload, LoadError> {
        running.reload(self.args.clone(), [], None)
    }
}

fn changed(reload: &Reload) -> Vec<(&str, Effect)> {
    let changes = reload.changes.iter();
    changes.map(|c| (c.from.key, c.effect)).collect()
}

#[test]
fn a_file_that_did_not_change_changes_nothing() {
    let setup = Setup::new("[log]\nlevel = \"warn\"\n", &[]);
    let running = setup.load();
    assert!(setup.reload(&running).unwrap().changes.is_empty());
}

#[test]
fn a_change_names_both_values_and_where_the_new_one_was_written() {
    let setup = Setup::new("[log]\nlevel = \"warn\"\n", &[]);
    let running = setup.load();
    setup.write("\n[log]\nlevel = \"debug\"\n");
    let reload = setup.reload(&running).unwrap();
    assert_eq!(changed(&reload), [("log.level", Effect::Reload)]);
    let change = &reload.changes[0];
    assert_eq!((&*change.from.value, &*change.to.value), ("warn", "debug"));
    let line = format!("{} line 3", setup.file.display());
    assert_eq!(change.to.origin, line);
    assert_eq!(reload.next.config.log.level, "debug");
}

#[test]
fn a_flag_goes_on_winning_over_the_file() {
    let setup = Setup::new("", &["--log-level=error"]);
    let running = setup.load();
    setup.write("[log]\nlevel = \"debug\"\n");
    assert!(setup.reload(&running).unwrap().changes.is_empty());
}

#[test]
fn what_needs_a_restart_is_named_and_keeps_its_running_value() {
    let setup = Setup::new("", &[]);
    let running = setup.load();
    setup.write("[client]\nworkers = 3\ntxn_ops_max = 7\n");
    let reload = setup.reload(&running).unwrap();
    let expected = [
        ("client.txn_ops_max", Effect::Reload),
        ("client.workers", Effect::Restart),
    ];
    assert_eq!(changed(&reload), expected);
    assert_eq!(reload.next.config.client.workers, 0);
    assert_eq!(reload.next.config.client.txn_ops_max, 7);
    let again = setup.reload(&reload.next).unwrap();
    assert_eq!(changed(&again), [("client.workers", Effect::Restart)]);
}

#[test]
fn what_only_a_first_start_reads_keeps_its_running_value_and_is_named_each_time() {
    let setup = Setup::new("", &[]);
    let running = setup.load();
    setup.write("[cluster]\ntoken = \"other\"\n");
    let reload = setup.reload(&running).unwrap();
    assert_eq!(changed(&reload), [("cluster.token", Effect::FirstStart)]);
    let shown = |loaded: &Loaded| {
        let mut given = loaded.origins().iter();
        given.find(|given| given.key == "cluster.token").cloned()
    };
    assert_eq!(shown(&reload.next), shown(&running));
    assert_eq!(
        reload.next.config.cluster.token,
        running.config.cluster.token
    );
    let again = setup.reload(&reload.next).unwrap();
    assert_eq!(changed(&again), changed(&reload));
}

#[test]
fn another_text_for_the_same_value_is_no_change() {
    let text = |urls: &str, level: &str, slow: &str, quota: &str, heartbeat: &str, kept: &str| {
        format!(
            "[client]\nadvertise_urls = {urls}\n[log]\nlevel = {level}\nslow_request = {slow}\n\
             [store]\nquota_bytes = {quota}\nauto_compaction_retention = {kept}\n\
             [raft]\nheartbeat_interval = {heartbeat}\n"
        )
    };
    let url = "\"http://localhost:2379\"";
    let first = text(url, "\"warn\"", "\"1s\"", "\"2GiB\"", "\"100ms\"", "\"1h\"");
    let setup = Setup::new(&first, &["--wal-dir=x"]);
    let running = setup.load();
    let list = format!("[{url}]");
    setup.write(&text(&list, "\"WARN\"", "\"1000ms\"", "0", "100", "1"));
    let mut args = setup.args.clone();
    args[1].push("/");
    *args.last_mut().unwrap() = "--wal-dir=./x/".into();
    let reload = running.reload(args.clone(), [], None).unwrap();
    assert_eq!(changed(&reload), []);
    let origins = reload.next.origins().iter();
    let slow = origins
        .clone()
        .find(|given| given.key == "log.slow_request");
    assert_eq!(
        slow.unwrap().value,
        "1000ms",
        "it is shown as it is written now"
    );
    *args.last_mut().unwrap() = "--wal-dir=y".into();
    let refused = running.reload(args, [], None).unwrap_err().to_string();
    assert!(refused.contains("member.wal_dir"), "{refused}");
}

#[test]
fn a_changed_identity_refuses_the_whole() {
    let setup = Setup::new("", &[]);
    let running = setup.load();
    setup.write("[member]\nname = \"other\"\n[log]\nlevel = \"debug\"\n");
    let refused = setup.reload(&running).unwrap_err();
    let LoadError::Refused(mistakes) = &refused else {
        panic!("{refused}");
    };
    assert_eq!(mistakes[0].option, "member.name");
    assert!(
        refused.to_string().contains("who the member is"),
        "{refused}"
    );
}

#[test]
fn a_mistake_refuses_the_whole_as_at_a_start() {
    let setup = Setup::new("", &[]);
    let running = setup.load();
    setup.write("[log]\nlevle = \"debug\"\n");
    let refused = setup.reload(&running).unwrap_err().to_string();
    assert!(refused.contains("did you mean log.level?"), "{refused}");
}

#[test]
fn a_value_that_fits_only_after_a_restart_is_refused() {
    let setup = Setup::new("", &[]);
    let running = setup.load();
    setup.write("[client]\nrequest_bytes_max = \"64MiB\"\n[raft]\nwal_segment_bytes = \"1GiB\"\n");
    let refused = setup.reload(&running).unwrap_err().to_string();
    assert!(refused.contains("restart the member"), "{refused}");
}

#[test]
fn a_section_without_options_is_no_mistake_unless_nobody_knows_it() {
    let check = |text| check_file(FileInstead { name: "a", text });
    assert!(check("[log]\n[client]\n").is_ok());
    assert!(check("[logs]\n").is_err());
}

#[test]
fn a_file_can_be_tried_in_place_of_the_real_one() {
    let setup = Setup::new("", &[]);
    let running = setup.load();
    let file = FileInstead {
        name: "draft.toml",
        text: "[store]\nquota_bytes = \"4GiB\"\n",
    };
    let reload = running.reload(setup.args.clone(), [], Some(file)).unwrap();
    assert_eq!(changed(&reload), [("store.quota_bytes", Effect::Reload)]);
    assert_eq!(reload.changes[0].to.origin, "draft.toml line 2");
}

#[test]
fn a_file_for_another_machine_is_checked_without_its_directories() {
    let text = "[member]\ndata_dir = \"/nowhere/at/all\"\n";
    let file = FileInstead { name: "a", text };
    let loaded = check_file(file).unwrap();
    let set = loaded.origins().iter().filter(|given| given.is_set());
    assert_eq!(set.count(), 1);
    let text = "[raft]\nelection_timeout = \"1ms\"\n";
    let refused = check_file(FileInstead { name: "a", text }).unwrap_err();
    assert!(refused.to_string().contains("five heartbeats"), "{refused}");
}

#[test]
fn a_listener_in_the_place_of_an_open_one_waits_for_a_restart() {
    let listen = |url: &str| {
        let urls = format!("listen_urls = \"{url}\"\nadvertise_urls = \"{url}\"\n");
        format!("[client]\n{urls}[peer]\nlisten_urls = \"http://127.0.0.1:2380\"\n")
    };
    let setup = Setup::new(&listen("http://localhost:2379"), &[]);
    let running = setup.load();
    let effects = |url: &str| {
        setup.write(&listen(url));
        let reload = setup.reload(&running).unwrap();
        let (next, before) = (&reload.next.config.client, &running.config.client);
        let is_kept = next.listen_urls == before.listen_urls;
        let effects = changed(&reload).into_iter().map(|(_, effect)| effect);
        (effects.collect::<Vec<_>>(), is_kept)
    };
    for url in [
        "http://0.0.0.0:2379",
        "http://[::]:2379",
        "http://127.0.0.1:2379",
    ] {
        assert_eq!(effects(url), (vec![Effect::Restart; 2], true), "{url}");
    }
    for url in [
        "http://0.0.0.0:2479",
        "http://127.0.0.2:2379",
        "http://[::1]:2379",
    ] {
        assert_eq!(effects(url), (vec![Effect::Reload; 2], false), "{url}");
    }
}

#[test]
fn the_admin_socket_is_that_of_the_environment_or_of_the_file_that_it_names() {
    let text = "nonsense = 1\n[member]\nadmin_socket = \"/of/the/file\"\n";
    let setup = Setup::new(text, &[]);
    let file = setup.file.clone().into_os_string();
    let named = ("ALTHING_CONFIG_FILE".into(), file);
    let own = ("ALTHING_ADMIN_SOCKET".into(), "/of/its/own".into());
    let found = |env: &[(OsString, OsString)]| admin_socket(env.to_vec());
    assert_eq!(found(&[]), None);
    assert_eq!(
        found(std::slice::from_ref(&named)),
        Some("/of/the/file".into())
    );
    assert_eq!(found(&[named, own]), Some("/of/its/own".into()));
}
