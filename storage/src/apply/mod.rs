//! The state machine: what a command does to the store. Pure and total.
//!
//! A command is decoded from the log, so it was accepted once; what the endpoints refuse (empty
//! keys, too many ops, duplicate keys) is not checked again, and does no harm if it comes. All
//! checks of a command run before its first change, so a refusal changes nothing. A failure of one
//! member's disk is never a refusal: members would disagree. A full disk at worst keeps the store's
//! file closed, and the command is applied again later; damage is a panic, and the node halts.

mod alarm;
mod delete;
mod lease;
mod put;
mod txn;

use althing_api::commandpb::Command;
use althing_api::commandpb::command::Request;
use althing_api::error::Error;
use althing_api::etcdserverpb::{
    AlarmResponse, CompactionRequest, CompactionResponse, DeleteRangeResponse, LeaseGrantResponse,
    LeaseRevokeResponse, PutResponse, ResponseHeader, TxnRequest, TxnResponse,
};

pub use self::alarm::{adds, refusal};
pub use self::lease::TTL_MAX;
use crate::store::{Keyspace, MemberRecord, ReadView, WriteTxn};

/// The answer to a command. Headers carry only the revision; the endpoint fills the rest.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum Response {
    Put(PutResponse),
    DeleteRange(DeleteRangeResponse),
    Txn(TxnResponse),
    Compaction(CompactionResponse),
    LeaseGrant(LeaseGrantResponse),
    LeaseRevoke(LeaseRevokeResponse),
    Alarm(AlarmResponse),
    /// A command without an answer of its own.
    Done,
}

/// Applies `command`, which the log holds in an entry of `term`. Errors: `LeaseNotFound` for a
/// finding of an earlier leader's clock, and those of [`apply`].
pub fn apply_in(txn: &mut WriteTxn, command: Command, term: u64) -> Result<Response, Error> {
    if lease::holds_in(&command, term) {
        apply(txn, command)
    } else {
        Err(Error::LeaseNotFound)
    }
}

/// Applies `command`. A refusal changes nothing. If a full disk keeps the store's file closed the
/// result is void: the transaction [`is_starved`](WriteTxn::is_starved). Never panics on any
/// command that decodes; panics if the store's file is damaged.
pub fn apply(txn: &mut WriteTxn, command: Command) -> Result<Response, Error> {
    let Some(request) = command.request else {
        return Ok(Response::Done);
    };
    if let Some(refusal) = alarm::check(txn, &request) {
        return Err(refusal);
    }
    match request {
        Request::Put(request) => {
            put::check(txn, &request)?;
            put::put(txn, &request).map(Response::Put)
        }
        Request::DeleteRange(request) => {
            delete::delete_range(txn, &request).map(Response::DeleteRange)
        }
        Request::Txn(request) => txn::apply(txn, &request).map(Response::Txn),
        Request::Compaction(request) => compact(txn, &request).map(Response::Compaction),
        Request::PublishMember(member) => {
            txn.publish_member(MemberRecord::from(member));
            Ok(Response::Done)
        }
        Request::SetClusterVersion(request) => {
            txn.set_cluster_version(request.version);
            Ok(Response::Done)
        }
        Request::LeaseGrant(request) => lease::grant(txn, &request).map(Response::LeaseGrant),
        Request::LeaseRevoke(request) => lease::revoke(txn, &request).map(Response::LeaseRevoke),
        Request::LeaseCheckpoint(request) => {
            lease::checkpoint(txn, &request);
            Ok(Response::Done)
        }
        Request::SetAlarm(request) => Ok(Response::Alarm(alarm::set(txn, &request))),
        Request::SetDowngrade(request) => {
            txn.set_downgrade(request.target);
            Ok(Response::Done)
        }
        Request::PutWithTtl(request) => lease::put_with_ttl(txn, request).map(Response::Put),
    }
}

/// Evaluates a txn that only reads, by the same rules as `apply`, on a view. An op that writes is
/// refused with `NotCapable`; the caller sends such a txn through the log. Errors:
/// `FutureRevision`, `Compacted`, and those of [`ReadView::range`].
pub fn read_txn(view: &ReadView, request: &TxnRequest) -> Result<TxnResponse, Error> {
    txn::read(view, request)
}

fn compact(txn: &mut WriteTxn, request: &CompactionRequest) -> Result<CompactionResponse, Error> {
    txn.compact(request.revision)?;
    Ok(CompactionResponse {
        header: header(txn.revision()),
    })
}

/// A header that holds only the revision.
fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader {
        revision,
        ..ResponseHeader::default()
    })
}

/// The result of reading the store while applying. A committed entry cannot be refused because one
/// member's disk failed. Errors: `NoSpace`, in a transaction that knows it is starved.
fn readable<T>(result: Result<T, Error>) -> Result<T, Error> {
    match result {
        Err(error) if error != Error::NoSpace => {
            panic!("the store cannot be read while applying: {error}")
        }
        result => result,
    }
}
