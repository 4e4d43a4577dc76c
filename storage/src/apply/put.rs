//! Put.

use althing_api::error::Error;
use althing_api::etcdserverpb::{PutRequest, PutResponse};
use althing_api::mvccpb::KeyValue;
use althing_api::range::KeyRange;

use super::{header, readable};
use crate::store::{WriteTxn, read_range};

fn needs_former(request: &PutRequest) -> bool {
    request.ignore_value || request.ignore_lease || request.prev_kv
}

fn former(txn: &WriteTxn, request: &PutRequest) -> Result<Option<KeyValue>, Error> {
    let kvs = read_range(txn, &KeyRange::One(request.key.clone()), false)?;
    Ok(kvs.into_iter().next())
}

/// What may refuse a put: a lease that does not exist, or a missing key whose value or lease is to
/// be kept.
pub(super) fn check(txn: &WriteTxn, request: &PutRequest) -> Result<(), Error> {
    if request.lease != 0 && txn.lease(request.lease).is_none() {
        return Err(Error::LeaseNotFound);
    }
    let keeps = request.ignore_value || request.ignore_lease;
    if keeps && readable(former(txn, request))?.is_none() {
        return Err(Error::KeyNotFound);
    }
    Ok(())
}

/// Writes the key. A former record that an earlier op of the same txn deleted counts as empty.
pub(super) fn put(txn: &mut WriteTxn, request: &PutRequest) -> Result<PutResponse, Error> {
    let former = if needs_former(request) {
        readable(former(txn, request))?
    } else {
        None
    };
    let kept = former.as_ref();
    let value = match kept {
        Some(kept) if request.ignore_value => kept.value.clone(),
        _ => request.value.clone(),
    };
    let lease = match kept {
        Some(kept) if request.ignore_lease => kept.lease,
        _ => request.lease,
    };
    let revision = txn.put(request.key.clone(), value, lease);
    Ok(PutResponse {
        header: header(revision),
        prev_kv: former.filter(|_| request.prev_kv),
    })
}
