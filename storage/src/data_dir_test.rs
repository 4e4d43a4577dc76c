//! A directory is Althing's, new, or refused with a reason.

use super::*;
use proptest::prelude::*;

fn refused(path: &Path) -> String {
    DataDir::open(path)
        .expect_err("it must be refused")
        .to_string()
}

#[test]
fn a_new_directory_is_made_for_its_owner_only_and_opens_again() {
    use std::os::unix::fs::PermissionsExt;
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("deep/default.althing");
    let dir = DataDir::open(&path).expect("it is created");
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o700
    );
    assert!(dir.wal().is_dir() && dir.snap().is_dir());
    assert_eq!(dir.wal(), path.join("member/wal"));
    assert_eq!(dir.store(), path.join("member/store.redb"));
    assert!(dir.free_bytes().expect("it can be asked") > 0);
    drop(dir);
    std::fs::write(path.join("member/store.redb"), b"state").unwrap();
    DataDir::open(&path).expect("it is ours");
}

#[test]
fn a_directory_in_use_is_refused_by_name_until_it_is_free() {
    let path = tempfile::tempdir().unwrap();
    let dir = DataDir::open(path.path()).expect("an empty directory will do");
    let error = DataDir::open(path.path()).expect_err("it is in use");
    assert!(matches!(error, OpenError::Locked { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains(path.path().to_str().unwrap()), "{text}");
    assert!(text.contains("another althingd uses"), "{text}");
    drop(dir);
    DataDir::open(path.path()).expect("it is free");
}

#[test]
fn a_directory_that_is_looked_at_stays_as_it_is_and_free_of_members() {
    let parent = tempfile::tempdir().unwrap();
    assert!(DataDir::look(parent.path(), None).unwrap().is_none());
    let path = parent.path().join("data");
    assert!(DataDir::look(&path, None).is_err());
    assert!(!path.exists());
    let dir = DataDir::open(&path).unwrap();
    let error = DataDir::look(&path, None).expect_err("it is in use");
    assert!(matches!(error, OpenError::Locked { .. }), "{error}");
    drop(dir);
    let (one, other) = (DataDir::look(&path, None), DataDir::look(&path, None));
    assert_eq!(
        one.unwrap().unwrap().store(),
        path.join("member/store.redb")
    );
    let error = DataDir::open(&path).expect_err("it is looked at");
    assert!(matches!(error, OpenError::Locked { .. }), "{error}");
    drop(other);
    DataDir::open(&path).expect("nobody looks any more");
}

#[test]
fn a_directory_of_etcd_or_of_anybody_is_refused_and_left_alone() {
    let etcd = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(etcd.path().join("member/snap")).unwrap();
    std::fs::write(etcd.path().join("member/snap/db"), b"bolt").unwrap();
    assert!(refused(etcd.path()).contains("etcd"));

    let other = tempfile::tempdir().unwrap();
    std::fs::write(other.path().join("holiday.jpg"), b"sun").unwrap();
    let text = refused(other.path());
    assert!(
        text.contains("holiday.jpg") && text.contains("choose another"),
        "{text}"
    );
    for path in [etcd.path(), other.path()] {
        assert!(
            !path.join("LOCK").exists() && !path.join("VERSION").exists(),
            "left alone"
        );
    }
}

#[test]
fn a_newer_format_and_a_strange_version_are_refused() {
    let path = tempfile::tempdir().unwrap();
    drop(DataDir::open(path.path()).unwrap());
    let version = path.path().join("VERSION");
    std::fs::write(&version, "althing data directory, format 99\n").unwrap();
    let text = refused(path.path());
    assert!(
        text.contains("format 99 is newer") && text.contains("VERSION"),
        "{text}"
    );
    std::fs::write(&version, "something else").unwrap();
    assert!(matches!(
        DataDir::open(path.path()),
        Err(OpenError::Foreign { .. })
    ));
}

#[test]
fn a_start_that_died_before_the_version_was_written_is_no_obstacle() {
    let path = tempfile::tempdir().unwrap();
    std::fs::write(path.path().join("LOCK"), b"").unwrap();
    std::fs::write(path.path().join("VERSION.tmp"), b"alth").unwrap();
    DataDir::open(path.path()).expect("nothing was begun");
}

#[test]
fn directories_around_it_are_made_as_by_anybody_and_may_come_from_somebody_else_meanwhile() {
    use std::os::unix::fs::PermissionsExt;
    let parent = tempfile::tempdir().unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let plain = parent.path().join("plain");
    std::fs::create_dir(&plain).unwrap();
    let threads: Vec<_> = (0..8)
        .map(|number| {
            let path = parent.path().join(format!("one/two/three-{number}"));
            std::thread::spawn(move || create_dir(&path))
        })
        .collect();
    for thread in threads {
        thread.join().unwrap().unwrap();
    }
    for around in ["one", "one/two"] {
        assert_eq!(mode(&parent.path().join(around)), mode(&plain));
    }
    assert_eq!(mode(&parent.path().join("one/two/three-7")), 0o700);
}

#[test]
fn a_path_that_cannot_be_a_directory_is_explained() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, b"").unwrap();
    let text = refused(&file.join("below"));
    assert!(text.contains("cannot create the directory"), "{text}");
    assert!(text.contains("choose another directory"), "{text}");
}

#[test]
fn the_log_may_have_a_directory_of_its_own_with_its_own_lock() {
    let (one, two, wal) = (
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
    );
    let place = wal.path().join("log");
    let dir = DataDir::open_with_wal(one.path(), Some(&place)).expect("both are new");
    assert_eq!(dir.wal(), place);
    let error = DataDir::open_with_wal(two.path(), Some(&place)).expect_err("it is in use");
    assert!(matches!(error, OpenError::Locked { .. }), "{error}");
    drop(dir);
    assert!(
        refused(&place).contains("data directory"),
        "a log is no data directory"
    );

    std::fs::write(one.path().join("member/wal/1.wal"), b"").unwrap();
    let error = DataDir::open_with_wal(one.path(), Some(&place)).expect_err("the log is inside");
    assert!(error.to_string().contains("move these files"), "{error}");
}

#[test]
fn the_identity_is_kept_and_its_damage_noticed() {
    let path = tempfile::tempdir().unwrap();
    let dir = DataDir::open(path.path()).unwrap();
    assert_eq!(dir.identity().expect("none is no error"), None);
    let name = "node one \u{e9}".to_owned();
    let identity = Identity {
        cluster_id: 0xcdf8_1819,
        member_id: u64::MAX,
        name,
    };
    dir.save_identity(&identity).expect("it is written");
    assert_eq!(dir.identity().expect("it is whole"), Some(identity.clone()));
    drop(dir);
    let dir = DataDir::open(path.path()).unwrap();
    assert_eq!(dir.identity().expect("it is whole"), Some(identity));

    let file = path.path().join("member/id");
    let mut bytes = std::fs::read(&file).unwrap();
    for at in 0..bytes.len() {
        bytes[at] ^= 1;
        std::fs::write(&file, &bytes).unwrap();
        let error = dir.identity().expect_err("it is damaged");
        assert!(
            matches!(error, OpenError::FileDamaged { .. }),
            "byte {at}: {error}"
        );
        bytes[at] ^= 1;
    }
    let bad = Identity {
        cluster_id: 1,
        member_id: 2,
        name: "two\nlines".into(),
    };
    let error = dir.save_identity(&bad).expect_err("not a name");
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
}

proptest! {
    #[test]
    fn an_identity_decodes_to_itself_and_anything_else_is_refused(
        cluster_id: u64,
        member_id: u64,
        name in "[^\\p{Cc}]{0,40}",
        bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let identity = Identity { cluster_id, member_id, name };
        let text = encode_identity(&identity);
        prop_assert_eq!(decode_identity(text.as_bytes()), Ok(identity));
        prop_assert!(decode_identity(&bytes).is_err());
    }
}
