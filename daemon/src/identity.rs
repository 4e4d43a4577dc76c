//! Who this member is: ids derived once, as etcd derives them, and then kept in the data directory.
//!
//! A first start computes the ids from the peer URLs and the cluster's token and writes them down,
//! before anything else is written. Every later start reads them back: the options that name the
//! initial cluster have no effect any more.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use althing_api::id::{ClusterId, MemberId};
use serde::{Deserialize, Serialize};
use sha1::{Digest, Sha1};

/// The file's name, in the directory that holds WAL and store.
const FILE: &str = "member/identity.json";

/// The ids of this member and of the members it started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster, named after its first members.
    pub cluster_id: ClusterId,
    /// This member.
    pub member_id: MemberId,
    /// The first members, this one among them.
    pub founders: Vec<Founder>,
}

/// One of the cluster's first members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Founder {
    /// Its id.
    pub id: MemberId,
    /// Its name at that time.
    pub name: String,
    /// Its peer URLs at that time.
    pub peer_urls: Vec<String>,
}

/// Why the identity could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The operating system refused.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file's content is not what was written.
    #[error("{path} is damaged: {reason}; restore it from a backup of the data directory",
        path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// There is data of a member, but not whose it is.
    #[error("{path} is missing although the directory holds data; restore it from a backup, or \
        name an empty --data-dir to start over", path = path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The initial cluster does not have this member.
    #[error("--initial-cluster does not name this member, {name:?}; add it or change --name")]
    NotFounder {
        /// The member's name.
        name: String,
    },
}

/// The id of a member: the first eight bytes of the SHA-1 of its peer URLs, sorted, and the token.
pub fn member_id(peer_urls: &[String], token: &str) -> MemberId {
    let mut urls: Vec<&str> = peer_urls.iter().map(String::as_str).collect();
    urls.sort_unstable();
    let mut hash = Sha1::new();
    urls.iter().for_each(|url| hash.update(url));
    hash.update(token);
    MemberId(first_eight(hash))
}

/// The id of a cluster: the same of its first members' ids, sorted.
pub fn cluster_id(members: &[MemberId]) -> ClusterId {
    let mut ids = members.to_vec();
    ids.sort_unstable();
    let mut hash = Sha1::new();
    ids.iter().for_each(|id| hash.update(id.0.to_be_bytes()));
    ClusterId(first_eight(hash))
}

fn first_eight(hash: Sha1) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&hash.finalize()[..8]);
    u64::from_be_bytes(bytes)
}

impl Identity {
    /// The identity of the member `name` of a new cluster, given as names with peer URLs.
    /// Error: the member is not among them.
    pub fn derive(
        name: &str,
        initial: &[(String, Vec<String>)],
        token: &str,
    ) -> Result<Identity, IdentityError> {
        let founders: Vec<Founder> = initial
            .iter()
            .map(|(name, peer_urls)| Founder {
                id: member_id(peer_urls, token),
                name: name.clone(),
                peer_urls: peer_urls.clone(),
            })
            .collect();
        let own = founders.iter().find(|founder| founder.name == name);
        let member_id = own.map(|founder| founder.id);
        let ids: Vec<MemberId> = founders.iter().map(|founder| founder.id).collect();
        Ok(Identity {
            cluster_id: cluster_id(&ids),
            member_id: member_id.ok_or_else(|| IdentityError::NotFounder {
                name: name.to_owned(),
            })?,
            founders,
        })
    }

    /// Reads what an earlier start wrote; `None` before the first one. Errors: `Io`, `Damaged`.
    pub fn load(data_dir: &Path) -> Result<Option<Identity>, IdentityError> {
        let path = data_dir.join(FILE);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(IdentityError::Io { path, source }),
        };
        let damaged = |reason: String| IdentityError::Damaged {
            path: path.clone(),
            reason,
        };
        let record: Record = serde_json::from_slice(&text).map_err(|e| damaged(e.to_string()))?;
        if record.check != record.computed_check() {
            return Err(damaged("its checksum does not fit".to_owned()));
        }
        let identity = record.identity();
        let identity = identity.ok_or_else(|| damaged("an id is not hexadecimal".to_owned()))?;
        Ok(Some(identity))
    }

    /// Writes the identity so that it is whole or absent after a power loss. Error: `Io`.
    pub fn save(&self, data_dir: &Path) -> Result<(), IdentityError> {
        let path = data_dir.join(FILE);
        let text = serde_json::to_vec_pretty(&Record::of(self)).expect("strings serialise");
        let unfinished = path.with_extension("unfinished");
        let parent = path.parent().expect("the file lies in a directory");
        let written = write_synced(&unfinished, &text)
            .and_then(|()| fs::rename(&unfinished, &path))
            .and_then(|()| File::open(parent)?.sync_all());
        written.map_err(|source| IdentityError::Io { path, source })
    }
}

/// The error of a directory that holds data but no identity.
pub fn missing(data_dir: &Path) -> IdentityError {
    IdentityError::Missing {
        path: data_dir.join(FILE),
    }
}

fn write_synced(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(text)?;
    file.sync_all()
}

/// The file: ids as people read them, and a checksum, because a flipped digit is still an id.
#[derive(Serialize, Deserialize)]
struct Record {
    cluster_id: String,
    member_id: String,
    founders: Vec<FounderRecord>,
    check: String,
}

#[derive(Serialize, Deserialize)]
struct FounderRecord {
    id: String,
    name: String,
    peer_urls: Vec<String>,
}

impl Record {
    fn of(identity: &Identity) -> Record {
        let founder = |founder: &Founder| FounderRecord {
            id: founder.id.to_string(),
            name: founder.name.clone(),
            peer_urls: founder.peer_urls.clone(),
        };
        let mut record = Record {
            cluster_id: identity.cluster_id.to_string(),
            member_id: identity.member_id.to_string(),
            founders: identity.founders.iter().map(founder).collect(),
            check: String::new(),
        };
        record.check = record.computed_check();
        record
    }

    fn computed_check(&self) -> String {
        let content = (&self.cluster_id, &self.member_id, &self.founders);
        let text = serde_json::to_vec(&content).expect("strings serialise");
        format!("{:016x}", first_eight(Sha1::new_with_prefix(text)))
    }

    fn identity(&self) -> Option<Identity> {
        let id = |text: &str| u64::from_str_radix(text, 16).ok();
        let founder = |founder: &FounderRecord| {
            Some(Founder {
                id: MemberId(id(&founder.id)?),
                name: founder.name.clone(),
                peer_urls: founder.peer_urls.clone(),
            })
        };
        Some(Identity {
            cluster_id: ClusterId(id(&self.cluster_id)?),
            member_id: MemberId(id(&self.member_id)?),
            founders: self.founders.iter().map(founder).collect::<Option<_>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn default_member() -> Identity {
        let initial = [("default".into(), vec!["http://localhost:2380".into()])];
        Identity::derive("default", &initial, "etcd-cluster").expect("it names itself")
    }

    fn directory() -> tempfile::TempDir {
        let directory = tempfile::tempdir().expect("a temporary directory");
        fs::create_dir(directory.path().join("member")).expect("an empty directory");
        directory
    }

    #[test]
    fn the_default_member_has_the_ids_that_etcd_gives_it() {
        let identity = default_member();
        assert_eq!(identity.member_id.to_string(), "8e9e05c52164694d");
        assert_eq!(identity.cluster_id.to_string(), "cdf818194e3a8c32");
    }

    #[test]
    fn ids_depend_on_neither_the_order_of_urls_nor_that_of_members() {
        let urls = |list: [&str; 2]| list.map(str::to_owned);
        let (ab, ba) = (
            urls(["http://a:1", "http://b:1"]),
            urls(["http://b:1", "http://a:1"]),
        );
        assert_eq!(member_id(&ab, "t"), member_id(&ba, "t"));
        assert_ne!(member_id(&ab, "t"), member_id(&ab, "u"));
        let (one, two) = (MemberId(1), MemberId(u64::MAX));
        assert_eq!(cluster_id(&[one, two]), cluster_id(&[two, one]));
    }

    #[test]
    fn a_member_that_the_cluster_does_not_name_has_no_identity() {
        let refused = Identity::derive("a", &[("b".into(), vec![])], "t");
        assert!(matches!(refused, Err(IdentityError::NotFounder { .. })));
    }

    #[test]
    fn what_was_saved_is_loaded_and_nothing_is_loaded_before() {
        let directory = directory();
        assert_eq!(Identity::load(directory.path()).expect("readable"), None);
        let identity = default_member();
        identity.save(directory.path()).expect("writable");
        let loaded = Identity::load(directory.path()).expect("readable");
        assert_eq!(loaded, Some(identity));
    }

    #[test]
    fn a_changed_digit_is_damage() {
        let directory = directory();
        default_member().save(directory.path()).expect("writable");
        let path = directory.path().join(FILE);
        let text = fs::read_to_string(&path).expect("readable");
        for (old, new) in [("8e9e05c5", "8e9e05c6"), ("{", "")] {
            fs::write(&path, text.replacen(old, new, 1)).expect("writable");
            let refused = Identity::load(directory.path());
            let Err(IdentityError::Damaged { path: named, .. }) = refused else {
                panic!("{refused:?}");
            };
            assert_eq!(named, path);
        }
    }
}
