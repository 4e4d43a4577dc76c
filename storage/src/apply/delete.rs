//! DeleteRange.

use althing_api::error::Error;
use althing_api::etcdserverpb::{DeleteRangeRequest, DeleteRangeResponse};
use althing_api::range::KeyRange;

use super::{header, readable};
use crate::store::{Keyspace, WriteTxn, read_range};

/// Deletes keys. If there is nothing to delete, this is no error and makes no revision.
pub(super) fn delete_range(
    txn: &mut WriteTxn,
    request: &DeleteRangeRequest,
) -> Result<DeleteRangeResponse, Error> {
    let range = KeyRange::new(request.key.clone(), request.range_end.clone());
    let prev_kvs = if request.prev_kv {
        readable(read_range(txn, &range, false))?
    } else {
        Vec::new()
    };
    let deleted = txn.delete_range(&range);
    Ok(DeleteRangeResponse {
        header: header(txn.revision()),
        deleted,
        prev_kvs,
    })
}
