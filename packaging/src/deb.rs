//! The Debian package: a tree of files beside the two binaries, packed by `dpkg-deb`.
//!
//! The tree is written by hand because it is small and everything in it is either rendered here or
//! a file of `packaging/deb`; what Debian's own tool does, packing and checking, it does.

use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use flate2::{Compression, GzBuilder};

use crate::manual;

const SERVICE: &str = include_str!("../deb/althing.service");
const SYSUSERS: &str = include_str!("../deb/sysusers.conf");
const TMPFILES: &str = include_str!("../deb/tmpfiles.conf");
const ALERTS: &str = include_str!("../prometheus/alerts.yml");
const DEFAULT: &str = include_str!("../deb/default");
const README: &str = include_str!("../deb/README.Debian");
const COPYRIGHT: &str = include_str!("../deb/copyright");
const CONTROL: &str = include_str!("../deb/control");
const SCRIPTS: [(&str, &str); 3] = [
    ("postinst", include_str!("../deb/postinst")),
    ("prerm", include_str!("../deb/prerm")),
    ("postrm", include_str!("../deb/postrm")),
];

/// Files that an upgrade keeps as the operator left them.
const CONFFILES: [&str; 2] = ["/etc/althing/althing.toml", "/etc/default/althing"];

const PROGRAMS: [&str; 2] = ["althingd", "althingctl"];

/// What a package is made of.
#[derive(Clone, Debug)]
pub struct Package {
    /// The directory of `althingd` and `althingctl`.
    pub binaries: PathBuf,
    /// The version as Debian writes it; a higher one upgrades a lower one.
    pub version: String,
    /// The day in the package's changelog, as `date -R` writes it.
    pub date: String,
    /// `Name <address>` of the package's maintainer.
    pub maintainer: String,
}

impl Package {
    /// Writes the package into `dir`, which is made if it is missing. Returns its file. Errors:
    /// those of reading, writing and of the programs `strip`, `dpkg` and `dpkg-deb`.
    pub fn build(&self, dir: &Path) -> io::Result<PathBuf> {
        fs::create_dir_all(dir)?;
        let tree = dir.join("tree");
        if tree.exists() {
            fs::remove_dir_all(&tree)?;
        }
        let glibc = self.programs(&tree)?;
        self.rendered(&tree)?;
        self.documents(&tree)?;
        let arch = output(Command::new("dpkg").arg("--print-architecture"))?;
        self.control(&tree, arch.trim(), &glibc)?;
        let name = format!("althing_{}_{}.deb", self.version, arch.trim());
        let package = dir.join(name);
        let mut pack = Command::new("dpkg-deb");
        pack.args(["--root-owner-group", "--build"]);
        output(pack.arg(&tree).arg(&package))?;
        fs::remove_dir_all(&tree)?;
        Ok(package)
    }

    /// Writes the binaries without what only a debugger reads. Returns the C library they need.
    fn programs(&self, tree: &Path) -> io::Result<String> {
        let bin = tree.join("usr/bin");
        fs::create_dir_all(&bin)?;
        let mut glibc = (2, 0);
        for program in PROGRAMS {
            let (from, to) = (self.binaries.join(program), bin.join(program));
            let mut strip = Command::new("strip");
            strip.args(["--strip-unneeded", "--remove-section=.comment", "-o"]);
            output(strip.arg(&to).arg(&from))?;
            fs::set_permissions(&to, Permissions::from_mode(0o755))?;
            glibc = glibc.max(glibc_of(&fs::read(&to)?));
        }
        Ok(format!("{}.{}", glibc.0, glibc.1))
    }

    /// What comes from the command lines and from `default.toml`.
    fn rendered(&self, tree: &Path) -> io::Result<()> {
        let pages = tree.join("rendered");
        for page in crate::man(&pages)? {
            let name = page.file_name().unwrap_or_default().to_string_lossy();
            let to = tree.join(format!("usr/share/man/man1/{name}.gz"));
            compressed(&to, &fs::read(&page)?)?;
        }
        fs::remove_dir_all(&pages)?;
        let page = manual::manual_page(althing_conf::DEFAULT_TOML, &self.version);
        compressed(
            &tree.join("usr/share/man/man5/althing.toml.5.gz"),
            page.as_bytes(),
        )?;
        for file in crate::completion(&pages)? {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            let to = match name.strip_suffix(".bash") {
                Some(program) => format!("usr/share/bash-completion/completions/{program}"),
                None if name.ends_with(".fish") => {
                    format!("usr/share/fish/vendor_completions.d/{name}")
                }
                None => format!("usr/share/zsh/vendor-completions/{name}"),
            };
            plain(&tree.join(to), &fs::read_to_string(&file)?)?;
        }
        fs::remove_dir_all(&pages)?;
        let toml = manual::packaged_toml(althing_conf::DEFAULT_TOML);
        plain(&tree.join("etc/althing/althing.toml"), &toml)
    }

    fn documents(&self, tree: &Path) -> io::Result<()> {
        plain(
            &tree.join("usr/lib/systemd/system/althing.service"),
            SERVICE,
        )?;
        plain(&tree.join("usr/lib/sysusers.d/althing.conf"), SYSUSERS)?;
        plain(&tree.join("usr/lib/tmpfiles.d/althing.conf"), TMPFILES)?;
        plain(&tree.join("etc/default/althing"), DEFAULT)?;
        plain(&tree.join("usr/share/althing/alerts.yml"), ALERTS)?;
        let doc = tree.join("usr/share/doc/althing");
        plain(&doc.join("README.Debian"), README)?;
        plain(&doc.join("copyright"), COPYRIGHT)?;
        let changelog = format!(
            "althing ({}) unstable; urgency=medium\n\n  * What changed is in the project's \
             CHANGELOG.md.\n\n -- {}  {}\n",
            self.version, self.maintainer, self.date
        );
        compressed(&doc.join("changelog.gz"), changelog.as_bytes())
    }

    fn control(&self, tree: &Path, arch: &str, glibc: &str) -> io::Result<()> {
        let dir = tree.join("DEBIAN");
        let control = CONTROL
            .replace("@VERSION@", &self.version)
            .replace("@MAINTAINER@", &self.maintainer)
            .replace("@ARCH@", arch)
            .replace("@GLIBC@", glibc)
            .replace(
                "@SIZE_KIB@",
                &(size_bytes(tree)?.div_ceil(1024)).to_string(),
            );
        plain(&dir.join("control"), &control)?;
        plain(&dir.join("conffiles"), &(CONFFILES.join("\n") + "\n"))?;
        for (name, text) in SCRIPTS {
            let path = dir.join(name);
            plain(&path, text)?;
            fs::set_permissions(path, Permissions::from_mode(0o755))?;
        }
        Ok(())
    }
}

/// The newest version of the C library's symbols that a program names.
fn glibc_of(program: &[u8]) -> (u32, u32) {
    const NAME: &[u8] = b"GLIBC_2.";
    let minor = |at: usize| {
        let digits = program[at + NAME.len()..].iter();
        let digits = digits.take_while(|byte| byte.is_ascii_digit()).take(4);
        digits.fold(0, |sum, byte| sum * 10 + u32::from(byte - b'0'))
    };
    let named = memchr::memmem::find_iter(program, NAME);
    (2, named.map(minor).max().unwrap_or_default())
}

fn plain(path: &Path, text: &str) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(path, text)?;
    fs::set_permissions(path, Permissions::from_mode(0o644))
}

/// Compressed as Debian wants it: as well as can be, and without a time.
fn compressed(path: &Path, bytes: &[u8]) -> io::Result<()> {
    plain(path, "")?;
    let file = fs::File::create(path)?;
    let mut gzip = GzBuilder::new().mtime(0).write(file, Compression::best());
    gzip.write_all(bytes)?;
    gzip.finish()?.sync_all()
}

fn size_bytes(path: &Path) -> io::Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        sum += if entry.file_type()?.is_dir() {
            size_bytes(&entry.path())?
        } else {
            entry.metadata()?.len()
        };
    }
    Ok(sum)
}

/// What a program prints. Errors: it fails; its own words are in the error.
fn output(command: &mut Command) -> io::Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let named = |error| io::Error::other(format!("{program}: {error}"));
    let output = command.output().map_err(|error| named(error.to_string()))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(named(text(&output.stderr)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_symbol_version_counts() {
        let program = b"x\0GLIBC_2.2.5\0GLIBC_2.34\0GLIBC_2.9\0";
        assert_eq!(glibc_of(program), (2, 34));
    }
}
