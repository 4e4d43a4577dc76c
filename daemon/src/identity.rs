//! Who this member is: ids derived once, as etcd derives them, and then kept in the data directory.
//!
//! A first start computes the ids from the peer URLs and the cluster's token and writes them down,
//! before anything else is written. Every later start reads them back: the options that name the
//! initial cluster have no effect any more.

use std::io;
use std::path::PathBuf;

use althing_api::id::{ClusterId, MemberId};
use althing_conf::Config;
use althing_storage::data_dir::{self, DataDir};
use althing_storage::error::OpenError;
use sha1::{Digest, Sha1};

/// Why it is not known who this member is.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// What an earlier start wrote cannot be read.
    #[error(transparent)]
    Unreadable(#[from] OpenError),
    /// It cannot be written.
    #[error("{path}: cannot save the identity of the member: {source}", path = path.display())]
    Unwritable {
        /// The data directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// There is data of a member, but not whose it is.
    #[error("{path}: holds data, but not the identity of the member; restore it from a backup, or \
        name an empty --data-dir to start over", path = path.display())]
    Missing {
        /// The data directory.
        path: PathBuf,
    },
    /// The initial cluster does not have this member.
    #[error("--initial-cluster does not name this member, {name:?}; add it or change --name")]
    NotNamed {
        /// The member's name.
        name: String,
    },
    /// More members than this version can run.
    #[error(
        "--initial-cluster names {members} members, and this version runs clusters of one; \
        name this member only"
    )]
    TooMany {
        /// How many.
        members: usize,
    },
}

/// The ids of a member and of its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ids {
    /// The cluster, named after its first members.
    pub cluster_id: ClusterId,
    /// This member.
    pub member_id: MemberId,
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

/// The ids of the member `name` of a new cluster, given as names with peer URLs. Errors:
/// `NotNamed`, `TooMany`.
pub fn derive(
    name: &str,
    initial: &[(String, Vec<String>)],
    token: &str,
) -> Result<Ids, IdentityError> {
    if initial.len() > 1 {
        let members = initial.len();
        return Err(IdentityError::TooMany { members });
    }
    let id_of = |(name, urls): &(String, Vec<String>)| (name.clone(), member_id(urls, token));
    let members: Vec<(String, MemberId)> = initial.iter().map(id_of).collect();
    let own = members.iter().find(|(known, _)| known == name);
    let Some((_, member_id)) = own else {
        let name = name.to_owned();
        return Err(IdentityError::NotNamed { name });
    };
    let ids: Vec<MemberId> = members.iter().map(|(_, id)| *id).collect();
    Ok(Ids {
        cluster_id: cluster_id(&ids),
        member_id: *member_id,
    })
}

/// The ids that the data directory holds, or, in a new one, those of the configuration, which are
/// written before they are used.
pub fn settle(config: &Config, dir: &DataDir) -> Result<Ids, IdentityError> {
    if let Some(kept) = dir.identity()? {
        let ids = Ids {
            cluster_id: ClusterId(kept.cluster_id),
            member_id: MemberId(kept.member_id),
        };
        tracing::info!(
            cluster_id = %ids.cluster_id,
            local_member_id = %ids.member_id,
            "restarting local member; options that form a new cluster have no effect"
        );
        return Ok(ids);
    }
    let path = || dir.path().to_path_buf();
    if holds_data(dir) {
        return Err(IdentityError::Missing { path: path() });
    }
    let (name, cluster) = (&config.member.name, &config.cluster);
    let ids = derive(name, &cluster.initial, &cluster.token)?;
    let kept = data_dir::Identity {
        cluster_id: ids.cluster_id.0,
        member_id: ids.member_id.0,
        name: name.clone(),
    };
    let saved = dir.save_identity(&kept);
    saved.map_err(|source| IdentityError::Unwritable {
        path: path(),
        source,
    })?;
    tracing::info!(
        cluster_id = %ids.cluster_id,
        local_member_id = %ids.member_id,
        "starting local member in a new cluster"
    );
    Ok(ids)
}

/// Whether an earlier start wrote a log or a store.
fn holds_data(dir: &DataDir) -> bool {
    let files = std::fs::read_dir(dir.wal());
    let has_segments = files.is_ok_and(|mut files| files.next().is_some_and(|file| file.is_ok()));
    has_segments || dir.store().exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str) -> Vec<(String, Vec<String>)> {
        vec![(name.to_owned(), vec!["http://localhost:2380".to_owned()])]
    }

    fn config(directory: &std::path::Path, token: &str) -> Config {
        let data_dir = directory.join("data");
        let args = [
            "althingd".into(),
            "--data-dir".into(),
            data_dir.into_os_string(),
            "--initial-cluster-token".into(),
            token.into(),
        ];
        let loaded = Config::load(args, std::iter::empty());
        loaded.expect("sound options").config
    }

    #[test]
    fn the_default_member_has_the_ids_that_etcd_gives_it() {
        let ids = derive("default", &one("default"), "etcd-cluster").expect("it is named");
        assert_eq!(ids.member_id.to_string(), "8e9e05c52164694d");
        assert_eq!(ids.cluster_id.to_string(), "cdf818194e3a8c32");
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
    fn a_cluster_without_this_member_or_with_others_is_refused() {
        let refused = derive("a", &one("b"), "t");
        assert!(matches!(refused, Err(IdentityError::NotNamed { .. })));
        let two = [one("a"), one("b")].concat();
        let refused = derive("a", &two, "t").expect_err("two members");
        assert!(refused.to_string().contains("names 2 members"), "{refused}");
    }

    #[test]
    fn a_member_keeps_its_first_ids_whatever_a_later_start_says() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let first = config(directory.path(), "first");
        let dir = DataDir::open(&first.member.data_dir).expect("a new directory");
        let ids = settle(&first, &dir).expect("a new member");
        drop(dir);
        let later = config(directory.path(), "later");
        let dir = DataDir::open(&later.member.data_dir).expect("its own directory");
        assert_eq!(settle(&later, &dir).expect("the same member"), ids);
    }

    #[test]
    fn data_without_an_identity_is_refused_instead_of_adopted() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let config = config(directory.path(), "t");
        let dir = DataDir::open(&config.member.data_dir).expect("a new directory");
        std::fs::write(dir.store(), "somebody's data").expect("writable");
        let refused = settle(&config, &dir);
        assert!(matches!(refused, Err(IdentityError::Missing { .. })));
    }
}
