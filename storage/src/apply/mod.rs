//! The state machine: what a command does to the store. Pure and total.
use crate::store::{ReadView, WriteTxn};
use althing_api::commandpb::Command;
use althing_api::error::Error;
use althing_api::etcdserverpb::{
    CompactionResponse, DeleteRangeResponse, PutResponse, TxnRequest, TxnResponse,
};

/// The answer to a command. Headers carry only the revision; the endpoint fills the rest.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum Response {
    Put(PutResponse),
    DeleteRange(DeleteRangeResponse),
    Txn(TxnResponse),
    Compaction(CompactionResponse),
    /// A command without an answer of its own.
    Done,
}

/// Applies `command`. A refusal changes nothing. Never panics on any command that decodes.
pub fn apply(_txn: &mut WriteTxn, _command: Command) -> Result<Response, Error> {
    todo!()
}

/// Evaluates a txn that only reads. Same rules as `apply`, on a view.
pub fn read_txn(_view: &ReadView, _request: &TxnRequest) -> Result<TxnResponse, Error> {
    todo!()
}
