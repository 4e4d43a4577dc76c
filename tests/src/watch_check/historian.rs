//! Reads all keys at every revision, in order, and so finds out what each one did.

use althing_api::etcdserverpb as pb;
use futures_util::{StreamExt, stream};
use tonic::Status;

use super::Board;
use super::changes::{KEYS_END, KEYS_START};
use super::history::{Keys, REVISION_EMPTY, difference};
use crate::grpc::{Grpc, path};

/// The number of reads in flight.
const READS: usize = 4;

/// Records the history until the last revision of the run; what was acknowledged is read.
///
/// # Errors
/// A read that no history explains.
pub async fn record(board: &Board) -> Result<(), String> {
    let mut keys = Keys::new();
    loop {
        let next = board.history.known() + 1;
        board.reached(next).await;
        let known = *board.acknowledged.borrow();
        if known < next {
            // The last revision is known and read.
            return Ok(());
        }
        board.served().await;
        let Ok(client) = Grpc::connect(board.port).await else {
            continue;
        };
        let read_one = |revision| {
            let client = client.clone();
            async move { (revision, read(client, revision).await) }
        };
        let mut reads = stream::iter(next..=known).map(read_one).buffered(READS);
        while let Some((revision, answer)) = reads.next().await {
            let after = match answer {
                Ok(after) => after,
                // The member went down; the read is repeated when it is back.
                Err(status) if std::error::Error::source(&status).is_some() => break,
                Err(status) => return Err(format!("reading at {revision}: {status}")),
            };
            board.history.add(difference(revision, &keys, &after)?);
            keys = after;
        }
    }
}

/// All keys at a revision.
async fn read(mut client: Grpc, revision: i64) -> Result<Keys, Status> {
    let request = pb::RangeRequest {
        key: KEYS_START.into(),
        range_end: KEYS_END.into(),
        revision,
        serializable: true,
        ..pb::RangeRequest::default()
    };
    let answer: pb::RangeResponse = client.unary(path::RANGE, &request).await?;
    let keyed = |record: althing_api::mvccpb::KeyValue| (record.key.clone(), record);
    Ok(answer.kvs.into_iter().map(keyed).collect())
}

/// Begins the history, for which the store must be empty.
///
/// # Errors
/// When it is not, or cannot be asked.
pub async fn begin(board: &Board) -> Result<(), String> {
    let client = Grpc::connect(board.port).await;
    let mut client = client.map_err(|error| error.to_string())?;
    let request = pb::RangeRequest {
        key: KEYS_START.into(),
        ..pb::RangeRequest::default()
    };
    let answer = client.unary(path::RANGE, &request).await;
    let answer: pb::RangeResponse = answer.map_err(|status| status.to_string())?;
    match answer.header.map(|header| header.revision) {
        Some(REVISION_EMPTY) => Ok(()),
        other => Err(format!("a run begins on an empty store, not at {other:?}")),
    }
}
