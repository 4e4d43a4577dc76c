//! Who this member is: ids derived once, as etcd derives them, and then kept in the data directory.
//!
//! A first start computes the ids from the peer URLs and the cluster's token and writes them down,
//! before anything else is written. Every later start reads them back; a member that joined uses
//! `--join` or `--initial-cluster` only to ask whether it still belongs.

use std::io;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use althing_actors::node::MemberAddress;
use althing_api::id::{ClusterId, MemberId};
use althing_conf::Config;
use althing_conf::config::{Cluster, InitialState};
use althing_storage::data_dir::{self, DataDir};
use althing_storage::error::OpenError;

use crate::discovery::{self, DiscoveryError};
use crate::peer::join::{self, Admitted};
use crate::peer::survey::{self, Known, KnownMember};

/// Why this member's identity could not be settled.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// What an earlier start wrote cannot be read.
    #[error(transparent)]
    Unreadable(#[from] OpenError),
    /// The identity cannot be written.
    #[error("{path}: cannot save the identity of the member: {source}", path = path.display())]
    Unwritable {
        /// The data directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The directory holds a member's data, but not its identity.
    #[error("{path}: holds data, but not the identity of the member; restore it from a backup, or \
        name an empty --data-dir to start over", path = path.display())]
    Missing {
        /// The data directory.
        path: PathBuf,
    },
    /// DNS does not tell who the members are.
    #[error(transparent)]
    Discovery(#[from] DiscoveryError),
    /// The initial cluster does not have this member.
    #[error("--initial-cluster does not name this member, {name:?}; add it or change --name")]
    NotNamed {
        /// The member's name.
        name: String,
    },
    /// The cluster runs already and has seen this member.
    #[error(
        "member {member_id} has already been bootstrapped: {url} knows it, but {path} does not \
        hold its data; bring it back, or remove the member and add it again, with an empty \
        directory and --initial-cluster-state existing or --join", path = path.display()
    )]
    Bootstrapped {
        /// This member.
        member_id: MemberId,
        /// The peer URL that knows it.
        url: String,
        /// The data directory.
        path: PathBuf,
    },
    /// No member of the running cluster can be asked.
    #[error("--initial-cluster-state existing: no other member of --initial-cluster answers; {0}")]
    NobodyAnswers(String),
    /// The running cluster did not take this member in.
    #[error("--join: {0}")]
    NotTakenIn(String),
    /// The running cluster and `--initial-cluster` do not agree.
    #[error("--initial-cluster differs from the members that {url} knows: {problem}")]
    Differs {
        /// The peer URL that answered.
        url: String,
        /// What differs, with member and URLs.
        problem: String,
    },
}

/// The ids of a member and of its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ids {
    /// The cluster; its id follows from its first members.
    pub cluster_id: ClusterId,
    /// This member.
    pub member_id: MemberId,
}

/// Who this member is, and with whom it begins.
#[derive(Clone, Debug)]
pub struct Settled {
    /// The ids.
    pub ids: Ids,
    /// The first configuration, for a log that has none; empty when the cluster has one.
    pub founders: Vec<MemberAddress>,
    /// Whether the cluster runs already, so that its configuration comes with its log.
    pub joins: bool,
    /// The cluster's members, as far as a member that joins was told of them.
    pub others: Vec<MemberAddress>,
}

/// The id of a member that is added to a running cluster. It is derived from the time in place of
/// the token, so that no member ever had it: etcd counts seconds, in which a member may be added,
/// removed and added again.
pub fn added_member_id(peer_urls: &[String], now: SystemTime) -> MemberId {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    MemberId::derived(peer_urls, &since.as_nanos().to_string())
}

/// The members of a new cluster, with their ids. Errors: `NotNamed`.
fn found(cluster: &Cluster, name: &str) -> Result<(Ids, Vec<MemberAddress>), IdentityError> {
    let founder = |(name, urls): &(String, Vec<String>)| MemberAddress {
        id: MemberId::derived(urls, &cluster.token),
        name: name.clone(),
        peer_urls: urls.clone(),
    };
    let founders: Vec<MemberAddress> = cluster.initial.iter().map(founder).collect();
    let own = founders.iter().find(|member| member.name == name);
    let own = own.ok_or_else(|| IdentityError::NotNamed { name: name.into() })?;
    let all: Vec<MemberId> = founders.iter().map(|member| member.id).collect();
    let ids = Ids {
        cluster_id: ClusterId::derived(&all),
        member_id: own.id,
    };
    Ok((ids, founders))
}

/// The ids of this member, which the running cluster of `known` members has already. The lists must
/// be the same: a member that is missing from one of them would be counted by some and not by
/// others.
fn join(cluster: &Cluster, name: &str, known: &Known) -> Result<Ids, IdentityError> {
    let differs = |problem: String| IdentityError::Differs {
        url: known.url.clone(),
        problem,
    };
    let (ours, theirs) = (cluster.initial.len(), known.members.len());
    if ours != theirs {
        let there = known.members.iter().flat_map(|member| &member.peer_urls);
        let there = there.map(String::as_str).collect::<Vec<_>>().join(",");
        return Err(differs(format!(
            "member count is unequal, {ours} here and {theirs} there: {there}"
        )));
    }
    let mut own = None;
    for (listed, urls) in &cluster.initial {
        let same = |member: &&KnownMember| sorted(&member.peer_urls) == sorted(urls);
        let Some(member) = known.members.iter().find(same) else {
            let urls = urls.join(",");
            return Err(differs(format!(
                "no member there has the URLs {urls} of {listed:?}"
            )));
        };
        if listed == name {
            own = Some(member.id);
        }
    }
    let member_id = own.ok_or_else(|| IdentityError::NotNamed { name: name.into() })?;
    Ok(Ids {
        cluster_id: known.cluster_id,
        member_id,
    })
}

fn sorted(urls: &[String]) -> Vec<&str> {
    let mut urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    urls.sort_unstable();
    urls
}

/// The ids that the data directory holds, or, in a new one, those of the configuration, which are
/// written before they are used. A first start asks the other members, so that a member that lost
/// its data does not take part as if it had never voted.
pub async fn settle(config: &Config, dir: &DataDir) -> Result<Settled, IdentityError> {
    let (name, cluster) = (&config.member.name, &config.cluster);
    let is_taken_in = !cluster.join.is_empty();
    let joins = is_taken_in || cluster.initial_state == InitialState::Existing;
    if let Some(kept) = dir.identity()? {
        let ids = Ids {
            cluster_id: ClusterId(kept.cluster_id),
            member_id: MemberId(kept.member_id),
        };
        tracing::info!(
            cluster_id = %ids.cluster_id,
            local_member_id = %ids.member_id,
            "restarting local member; its ids are those that the first start settled"
        );
        return go_on(config, dir, ids, joins).await;
    }
    let path = || dir.path().to_path_buf();
    if holds_data(dir) {
        return Err(IdentityError::Missing { path: path() });
    }
    if is_taken_in {
        let peer_urls = &config.peer.advertise_urls;
        let taken_in = join::join(&cluster.join, peer_urls).await;
        let Admitted {
            cluster_id,
            member_id,
            members,
        } = taken_in.map_err(IdentityError::NotTakenIn)?;
        let ids = Ids {
            cluster_id,
            member_id,
        };
        save(dir, ids, name)?;
        return Ok(Settled {
            ids,
            founders: Vec::new(),
            joins,
            others: members.into_iter().map(as_heard).collect(),
        });
    }
    let cluster = &first_members(config).await?;
    let known = survey::ask(others(cluster, name)).await;
    let settled = if joins {
        let known = known.map_err(IdentityError::NobodyAnswers)?;
        let ids = join(cluster, name, &known)?;
        refuse_second_life(&known, ids.member_id, path())?;
        let founders = Vec::new();
        Settled {
            ids,
            founders,
            joins,
            others: known.members.into_iter().map(as_heard).collect(),
        }
    } else {
        let (ids, founders) = found(cluster, name)?;
        if let Ok(known) = known {
            refuse_second_life(&known, ids.member_id, path())?;
        }
        Settled {
            ids,
            founders,
            joins,
            others: Vec::new(),
        }
    };
    save(dir, settled.ids, name)?;
    Ok(settled)
}

/// A later start. If the first one ended before its log began, this one takes its place, provided
/// that it means the same cluster. If the log was lost instead, the cluster knows that this member
/// has run, and it is refused.
async fn go_on(
    config: &Config,
    dir: &DataDir,
    ids: Ids,
    joins: bool,
) -> Result<Settled, IdentityError> {
    let name = &config.member.name;
    let has_data = holds_data(dir);
    let cluster = &if joins || has_data {
        config.cluster.clone()
    } else {
        first_members(config).await?
    };
    let founders = match found(cluster, name) {
        Ok((same, founders)) if same == ids && !joins => founders,
        _ => Vec::new(),
    };
    let known = if joins || !has_data {
        still_known(cluster, name, ids.cluster_id).await
    } else {
        None
    };
    if !has_data && let Some(known) = &known {
        refuse_second_life(known, ids.member_id, dir.path().to_path_buf())?;
    }
    let others = known.filter(|_| joins).map(|known| known.members);
    Ok(Settled {
        ids,
        founders,
        joins,
        others: others.into_iter().flatten().map(as_heard).collect(),
    })
}

/// The cluster that a first start begins with, discovered if need be.
async fn first_members(config: &Config) -> Result<Cluster, IdentityError> {
    let cluster = &config.cluster;
    let initial = if cluster.discovery_srv.is_empty() {
        cluster.initial.clone()
    } else {
        let own = &config.peer.advertise_urls;
        discovery::discover(cluster, &config.member.name, own).await?
    };
    Ok(Cluster {
        initial,
        ..cluster.clone()
    })
}

fn others(cluster: &Cluster, name: &str) -> Vec<String> {
    let others = cluster.initial.iter().filter(|(known, _)| known != name);
    others.flat_map(|(_, urls)| urls.clone()).collect()
}

fn as_heard(member: KnownMember) -> MemberAddress {
    MemberAddress {
        id: member.id,
        name: String::new(),
        peer_urls: member.peer_urls,
    }
}

/// Asks the addresses that this member was given for its cluster; `None` if nobody answers or the
/// answer is another cluster's.
async fn still_known(cluster: &Cluster, name: &str, cluster_id: ClusterId) -> Option<Known> {
    let known = if cluster.join.is_empty() {
        survey::ask(others(cluster, name)).await.ok()
    } else {
        join::known(&cluster.join).await
    };
    known.filter(|known| known.cluster_id == cluster_id)
}

/// A member that published itself has run before, and may have voted.
fn refuse_second_life(
    known: &Known,
    member_id: MemberId,
    path: PathBuf,
) -> Result<(), IdentityError> {
    let mut members = known.members.iter();
    let url = known.url.clone();
    match members.find(|member| member.id == member_id && member.published) {
        Some(_) => Err(IdentityError::Bootstrapped {
            member_id,
            url,
            path,
        }),
        None => Ok(()),
    }
}

fn save(dir: &DataDir, ids: Ids, name: &str) -> Result<(), IdentityError> {
    let kept = data_dir::Identity {
        cluster_id: ids.cluster_id.0,
        member_id: ids.member_id.0,
        name: name.to_owned(),
    };
    let saved = dir.save_identity(&kept);
    saved.map_err(|source| IdentityError::Unwritable {
        path: dir.path().to_path_buf(),
        source,
    })?;
    tracing::info!(
        cluster_id = %ids.cluster_id,
        local_member_id = %ids.member_id,
        "starting local member for the first time"
    );
    Ok(())
}

/// Whether an earlier start wrote a log or a store.
fn holds_data(dir: &DataDir) -> bool {
    let files = std::fs::read_dir(dir.wal());
    let has_segments = files.is_ok_and(|mut files| files.next().is_some_and(|file| file.is_ok()));
    has_segments || dir.store().exists()
}

#[cfg(test)]
#[path = "identity_test.rs"]
mod tests;
