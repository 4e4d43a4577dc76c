//! Ids of members, clusters and leases: 64-bit numbers that people read in lower-case hexadecimal
//! without leading zeros, as etcd prints them.

use std::fmt;

use sha1::{Digest, Sha1};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($int:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $int);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:x}", self.0)
            }
        }
    };
}

id! {
    /// One logical participant of a cluster; zero stands for "none".
    MemberId(u64)
}
id! {
    /// The set of members that agree; fixed for the life of the cluster.
    ClusterId(u64)
}
id! {
    /// A lease, chosen by the client or assigned; zero stands for "none".
    LeaseId(i64)
}

impl MemberId {
    /// The id of a founding member, as etcd derives it: the first eight bytes of the SHA-1 of its
    /// peer URLs, sorted, and of the cluster's token.
    pub fn derived(peer_urls: &[String], token: &str) -> MemberId {
        let mut urls: Vec<&str> = peer_urls.iter().map(String::as_str).collect();
        urls.sort_unstable();
        let mut hash = Sha1::new();
        urls.iter().for_each(|url| hash.update(url));
        hash.update(token);
        MemberId(first_eight(hash))
    }
}

impl ClusterId {
    /// The id of a cluster, as etcd derives it: the first eight bytes of the SHA-1 of its first
    /// members' ids, sorted.
    pub fn derived(members: &[MemberId]) -> ClusterId {
        let mut ids = members.to_vec();
        ids.sort_unstable();
        let mut hash = Sha1::new();
        ids.iter().for_each(|id| hash.update(id.0.to_be_bytes()));
        ClusterId(first_eight(hash))
    }
}

fn first_eight(hash: Sha1) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&hash.finalize()[..8]);
    u64::from_be_bytes(bytes)
}
