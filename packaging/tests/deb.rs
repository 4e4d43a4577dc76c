//! The Debian package, unpacked again.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;

use althing_packaging::deb::Package;

fn printed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Two programs of the right names: this test, twice.
fn programs(dir: &Path) {
    for name in ["althingd", "althingctl"] {
        std::fs::copy(std::env::current_exe().unwrap(), dir.join(name)).unwrap();
    }
}

#[test]
fn the_package_has_programs_service_pages_completions_and_conffiles() {
    if Command::new("dpkg-deb").arg("--version").output().is_err() {
        eprintln!("not run: this machine has no dpkg-deb");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    programs(dir.path());
    let package = Package {
        binaries: dir.path().to_owned(),
        version: "1.2.3".to_owned(),
        date: "Thu, 01 Jan 2026 00:00:00 +0000".to_owned(),
        maintainer: "Somebody <somebody@example.org>".to_owned(),
    };
    let file = package.build(&dir.path().join("made")).unwrap();
    let listed = printed(Command::new("dpkg-deb").arg("--contents").arg(&file));
    for path in [
        "./usr/bin/althingd",
        "./usr/bin/althingctl",
        "./etc/althing/althing.toml",
        "./etc/default/althing",
        "./usr/lib/systemd/system/althing.service",
        "./usr/lib/sysusers.d/althing.conf",
        "./usr/share/althing/alerts.yml",
        "./usr/lib/tmpfiles.d/althing.conf",
        "./usr/share/man/man1/althingd.1.gz",
        "./usr/share/man/man1/althingctl-config-reload.1.gz",
        "./usr/share/man/man5/althing.toml.5.gz",
        "./usr/share/bash-completion/completions/althingctl",
        "./usr/share/zsh/vendor-completions/_althingd",
        "./usr/share/fish/vendor_completions.d/althingctl.fish",
        "./usr/share/doc/althing/README.Debian",
    ] {
        let found = listed.lines().find(|line| line.ends_with(path));
        let line = found.unwrap_or_else(|| panic!("no {path} in\n{listed}"));
        assert!(line.contains("root/root"), "{line}");
    }
    let field = |name| printed(Command::new("dpkg-deb").arg("--field").arg(&file).arg(name));
    assert_eq!(field("Version").trim(), "1.2.3");
    assert!(
        field("Depends").starts_with("libc6 (>= 2."),
        "{}",
        field("Depends")
    );
    let out = dir.path().join("out");
    printed(
        Command::new("dpkg-deb")
            .arg("--raw-extract")
            .arg(&file)
            .arg(&out),
    );
    let conffiles = std::fs::read_to_string(out.join("DEBIAN/conffiles")).unwrap();
    assert_eq!(
        conffiles,
        "/etc/althing/althing.toml\n/etc/default/althing\n"
    );
    let toml = std::fs::read_to_string(out.join("etc/althing/althing.toml")).unwrap();
    let file = althing_conf::FileInstead {
        name: "althing.toml",
        text: &toml,
    };
    let loaded = althing_conf::check_file(file).unwrap();
    let set: Vec<&str> = loaded
        .origins()
        .iter()
        .filter(|given| given.is_set())
        .map(|given| given.key)
        .collect();
    assert_eq!(set, ["member.data_dir", "member.admin_socket"]);
}
