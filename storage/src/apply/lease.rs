//! LeaseGrant, LeaseRevoke, LeaseCheckpoint, and a put that brings its own lease.
//!
//! No clock decides here. An expiry is a revocation like a client's, except that it names the
//! generation that expired, and the term of the leader that counted its time: if the lease has been
//! granted again meanwhile, or another leader has taken over the counting, it is refused.

use althing_api::commandpb::command::Request;
use althing_api::commandpb::{Command, LeaseCheckpoint, LeaseGrant, LeaseRevoke, PutWithTtl};
use althing_api::error::Error;
use althing_api::etcdserverpb::{LeaseGrantResponse, LeaseRevokeResponse, PutRequest, PutResponse};

use super::{header, put};
use crate::store::{Keyspace, LeaseRecord, WriteTxn};

/// Largest time to live, in seconds: the most that etcd's nanoseconds hold.
pub const TTL_MAX: i64 = 9_000_000_000;

/// Whether `command` is valid in the log of `term`. What a leader's clock found out about leases
/// does not outlive its lead: a leader that stood still while another led has heard of no renewal.
pub(super) fn holds_in(command: &Command, term: u64) -> bool {
    let counted_in = match &command.request {
        Some(Request::LeaseRevoke(revoke)) => revoke.counted_in_term,
        Some(Request::LeaseCheckpoint(checkpoint)) => checkpoint.counted_in_term,
        _ => 0,
    };
    counted_in == 0 || counted_in == term
}

fn check_grant(txn: &WriteTxn, grant: &LeaseGrant) -> Result<(), Error> {
    if grant.id == 0 {
        return Err(Error::LeaseNotFound);
    }
    if grant.ttl > TTL_MAX {
        return Err(Error::LeaseTtlTooLarge);
    }
    match txn.lease(grant.id) {
        Some(_) => Err(Error::LeaseExists),
        None => Ok(()),
    }
}

fn lease(grant: &LeaseGrant, bound: bool) -> LeaseRecord {
    LeaseRecord {
        id: grant.id,
        ttl: grant.ttl,
        remaining: 0,
        generation: grant.generation,
        bound,
    }
}

/// Grants a lease. Errors: `LeaseTtlTooLarge`, `LeaseExists`, and `LeaseNotFound` for id zero.
pub(super) fn grant(txn: &mut WriteTxn, grant: &LeaseGrant) -> Result<LeaseGrantResponse, Error> {
    check_grant(txn, grant)?;
    txn.set_lease(lease(grant, false));
    Ok(LeaseGrantResponse {
        header: header(txn.revision()),
        id: grant.id,
        ttl: grant.ttl,
        ..LeaseGrantResponse::default()
    })
}

/// Ends a lease with its keys. Errors: `LeaseNotFound`, also if the generation is another one.
pub(super) fn revoke(
    txn: &mut WriteTxn,
    request: &LeaseRevoke,
) -> Result<LeaseRevokeResponse, Error> {
    let lease = txn.lease(request.id).ok_or(Error::LeaseNotFound)?;
    if request.generation != 0 && request.generation != lease.generation {
        return Err(Error::LeaseNotFound);
    }
    txn.end_lease(request.id);
    Ok(LeaseRevokeResponse {
        header: header(txn.revision()),
    })
}

/// Notes how long leases still live, leaving out those that ended or changed meanwhile.
pub(super) fn checkpoint(txn: &mut WriteTxn, request: &LeaseCheckpoint) {
    for left in &request.leases {
        let Some(lease) = txn.lease(left.id) else {
            continue;
        };
        if lease.generation != left.generation {
            continue;
        }
        let generation = match left.remaining_ttl {
            // A checkpoint that is still under way does not know of the renewal.
            0 => lease.generation.wrapping_add(1).max(1),
            _ => lease.generation,
        };
        txn.set_lease(LeaseRecord {
            remaining: left.remaining_ttl,
            generation,
            ..lease
        });
    }
}

/// Grants a lease that ends with its last key, and puts a key with it. Errors: those of a put and
/// of a grant; neither happens without the other.
pub(super) fn put_with_ttl(txn: &mut WriteTxn, request: PutWithTtl) -> Result<PutResponse, Error> {
    let grant = request.lease.unwrap_or_default();
    let put = PutRequest {
        lease: 0,
        ignore_lease: false,
        ..request.put.unwrap_or_default()
    };
    put::check(txn, &put)?;
    check_grant(txn, &grant)?;
    txn.set_lease(lease(&grant, true));
    let lease = grant.id;
    put::put(txn, &PutRequest { lease, ..put })
}
