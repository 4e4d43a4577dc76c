//! Makes the steps of parties that want a lock or an election: each has a lease, and they share a
//! few names, so that they wait for each other. Some steps change their keys without them.

use althing_api::etcdserverpb as pb;
use althing_api::{v3electionpb as election, v3lockpb as lock};
use bytes::Bytes;
use rand::Rng;
use rand::seq::IndexedRandom;

use super::generate::Generator;
use super::normal::message;
use super::operation::{Call, Operation, party_key};
use serde_json::Value;

/// The parties' leases.
pub const PARTIES: [i64; 4] = [0x101, 0x102, 0x103, 0x104];
/// A lease that nobody grants.
const UNKNOWN: i64 = 0x999;
/// The time to live of the parties' leases, in seconds.
pub const PARTY_TTL: i64 = 5_000;
const NAMES: [&[u8]; 3] = [b"n/a", b"n/b", b""];
/// Streams of leaders at the same time.
const OBSERVERS: usize = 2;
/// Leaders that are remembered, so that steps can proclaim and resign as them.
const LEADERS_MAX: usize = 4;

/// Calls without a lease, for which the member makes one of its own that lives a minute: in the
/// middle of a long sequence it might have ended on one side and not on the other.
pub(super) fn own_leases() -> Vec<Operation> {
    let lock = lock::LockRequest {
        name: Bytes::from_static(b"own/lock"),
        lease: 0,
    };
    let campaign = election::CampaignRequest {
        name: Bytes::from_static(b"own/election"),
        lease: 0,
        value: Bytes::from_static(b"value"),
    };
    let leader = Some(election::LeaderKey::default());
    let proclaim = election::ProclaimRequest {
        leader: leader.clone(),
        value: Bytes::from_static(b"value"),
    };
    vec![
        Operation::Call(Call::Lock(lock)),
        Operation::Call(Call::Campaign(campaign)),
        Operation::Proclaim(proclaim),
        Operation::Resign(election::ResignRequest { leader }),
    ]
}

impl Generator {
    /// A step about locks and elections.
    pub(super) fn party_step(&mut self) -> Operation {
        match self.random.random_range(0..100) {
            0..12 => Operation::LeaseGrant(pb::LeaseGrantRequest {
                ttl: PARTY_TTL,
                id: self.party(),
            }),
            12..42 => Operation::Call(self.call()),
            42..60 => Operation::Unlock(lock::UnlockRequest {
                key: self.party_key(),
            }),
            60..68 => Operation::Proclaim(election::ProclaimRequest {
                leader: self.leader(),
                value: self.value(),
            }),
            68..78 => Operation::Resign(election::ResignRequest {
                leader: self.leader(),
            }),
            78..83 => Operation::Leader(election::LeaderRequest { name: self.name() }),
            83..87 => Operation::Abandon(self.party_key()),
            87..92 => Operation::Observe {
                slot: self.random.random_range(0..OBSERVERS),
                request: election::LeaderRequest { name: self.name() },
            },
            92..95 => Operation::CloseObserve {
                slot: self.random.random_range(0..OBSERVERS),
            },
            95..97 => Operation::Put(pb::PutRequest {
                key: self.party_key(),
                value: self.value(),
                lease: self.lease_of_key(),
                ..pb::PutRequest::default()
            }),
            _ => Operation::DeleteRange(pb::DeleteRangeRequest {
                key: self.party_key(),
                ..pb::DeleteRangeRequest::default()
            }),
        }
    }

    /// Remembers the leader that a campaign's answer names.
    pub(super) fn learn_leader(&mut self, answer: &Value) {
        let leader = message(answer).and_then(|answer| answer.get("leader"));
        if let Some(leader) = leader
            && let Ok(leader) = serde_json::from_value(leader.clone())
        {
            self.leaders.push_back(leader);
            if self.leaders.len() > LEADERS_MAX {
                self.leaders.pop_front();
            }
        }
    }

    fn call(&mut self) -> Call {
        let lease = if self.one_in(20) {
            UNKNOWN
        } else {
            self.party()
        };
        let name = self.name();
        if self.random.random() {
            Call::Lock(lock::LockRequest { name, lease })
        } else {
            let value = self.value();
            Call::Campaign(election::CampaignRequest { name, lease, value })
        }
    }

    fn leader(&mut self) -> Option<election::LeaderKey> {
        let known = self.leaders.iter().len();
        match self.random.random_range(0..12) {
            0 => None,
            1 => Some(election::LeaderKey {
                name: self.name(),
                key: self.party_key(),
                rev: self.any_revision(),
                lease: self.party(),
            }),
            2 => Some(election::LeaderKey {
                lease: self.party(),
                ..election::LeaderKey::default()
            }),
            _ if known > 0 => {
                let leader = self.random.random_range(0..known);
                self.leaders.get(leader).cloned()
            }
            _ => None,
        }
    }

    fn party(&mut self) -> i64 {
        *PARTIES.choose(&mut self.random).expect("not empty")
    }

    fn name(&mut self) -> Bytes {
        // Mostly one name, so that a queue forms.
        let name = if self.one_in(2) {
            NAMES[0]
        } else {
            NAMES.choose(&mut self.random).expect("not empty")
        };
        Bytes::from_static(name)
    }

    fn party_key(&mut self) -> Bytes {
        match self.random.random_range(0..25) {
            0 => Bytes::new(),
            1 => Bytes::from_static(b"n/unknown"),
            _ => party_key(&self.name(), self.party()),
        }
    }
}
