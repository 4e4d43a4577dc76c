//! Ids of members, clusters and leases: 64-bit numbers that people read in lower-case hexadecimal
//! without leading zeros, as etcd prints them.

use std::fmt;

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
