//! Makes the steps about leases. The member would revoke a short lease by itself in the middle of a
//! sequence, so a step that asks for one is followed by its revocation.

use althing_api::etcdserverpb as pb;
use rand::Rng;
use rand::seq::IndexedRandom;

use super::generate::Generator;
use super::operation::Operation;
use super::party_steps::{PARTIES, PARTY_TTL};

/// Ids that keys are attached to.
const LEASES: [i64; 8] = [1, 2, 3, 4, 5, 6, -5, 7_000_000];
/// Times to live, in seconds, that outlast any sequence; the differences between them outlast a
/// run, so that the order of expiry is certain.
const LONG: [i64; 6] = [2_000, 4_000, 8_000, 16_000, 1_000_000, 9_000_000_000];
const TOO_LONG: [i64; 3] = [9_000_000_001, i64::MAX, i64::MAX / 1_000_000_000];
const EXPIRING: i64 = 50;
/// The time to live of an expiring lease, in seconds: longer than a busy machine delays the steps
/// that use it.
const EXPIRING_TTL: i64 = 9;
/// Raised to the minimum that a member grants, which is more than either side lags behind.
const SHORT: [i64; 5] = [0, 1, -1, -700, i64::MIN];

/// The beginning of a sequence, so that most leases exist from the start.
pub(super) fn grants() -> Vec<Operation> {
    let leases = LEASES.iter().map(|id| (*id, 500_000 + 1_000 * id.abs()));
    let parties = PARTIES.iter().map(|id| (*id, PARTY_TTL));
    let requests = leases
        .chain(parties)
        .map(|(id, ttl)| pb::LeaseGrantRequest { ttl, id });
    requests.map(Operation::LeaseGrant).collect()
}

/// A lease that is left alone until the member ends it with its keys.
pub(super) fn expiry() -> Vec<Operation> {
    let put = |key: &'static str| {
        Operation::Put(pb::PutRequest {
            key: key.into(),
            lease: EXPIRING,
            ..pb::PutRequest::default()
        })
    };
    vec![
        Operation::LeaseGrant(pb::LeaseGrantRequest {
            ttl: EXPIRING_TTL,
            id: EXPIRING,
        }),
        put("b/1"),
        put("a/1"),
        Operation::Expiry { lease: EXPIRING },
    ]
}

impl Generator {
    /// A step about leases.
    pub(super) fn lease_step(&mut self) -> Operation {
        let alias = self.random.random();
        match self.random.random_range(0..100) {
            0..35 => self.grant(),
            35..45 => self.grant_short(),
            45..60 => Operation::LeaseRevoke {
                request: pb::LeaseRevokeRequest {
                    id: self.any_lease(),
                },
                alias,
            },
            60..75 => Operation::LeaseTimeToLive {
                request: pb::LeaseTimeToLiveRequest {
                    id: self.any_lease(),
                    keys: self.random.random(),
                },
                alias,
            },
            75..85 => Operation::LeaseLeases { alias },
            _ => Operation::KeepAlive(
                (0..self.random.random_range(1..=4))
                    .map(|_| pb::LeaseKeepAliveRequest {
                        id: self.any_lease(),
                    })
                    .collect(),
            ),
        }
    }

    /// A lease for a put or a compare: mostly none, and otherwise mostly one that exists.
    pub(super) fn lease_of_key(&mut self) -> i64 {
        match self.random.random_range(0..50) {
            0 => self.number(),
            1..10 => *LEASES.choose(&mut self.random).expect("not empty"),
            _ => 0,
        }
    }

    pub(super) fn known_lease(&mut self) -> i64 {
        *LEASES.choose(&mut self.random).expect("not empty")
    }

    fn any_lease(&mut self) -> i64 {
        match self.random.random_range(0..20) {
            0 => 0,
            1 => self.number(),
            2 => *PARTIES.choose(&mut self.random).expect("not empty"),
            _ => self.known_lease(),
        }
    }

    fn grant(&mut self) -> Operation {
        let pool = if self.one_in(15) {
            &TOO_LONG[..]
        } else {
            &LONG
        };
        let ttl = *pool.choose(&mut self.random).expect("not empty");
        let id = match self.random.random_range(0..20) {
            // The member chooses.
            0 => 0,
            _ => self.known_lease(),
        };
        Operation::LeaseGrant(pb::LeaseGrantRequest { ttl, id })
    }

    fn grant_short(&mut self) -> Operation {
        let ttl = *SHORT.choose(&mut self.random).expect("not empty");
        let id = self.known_lease();
        self.next.push_back(Operation::LeaseRevoke {
            request: pb::LeaseRevokeRequest { id },
            alias: false,
        });
        Operation::LeaseGrant(pb::LeaseGrantRequest { ttl, id })
    }
}
