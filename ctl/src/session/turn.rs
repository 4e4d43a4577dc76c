//! A place in the queue for a name.

use althing_api::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use althing_api::etcdserverpb::range_request::{SortOrder, SortTarget};
use althing_api::etcdserverpb::request_op::Request;
use althing_api::etcdserverpb::response_op::Response;
use althing_api::etcdserverpb::{
    Compare, PutRequest, RangeRequest, RequestOp, TxnRequest, TxnResponse, WatchCreateRequest,
};
use althing_api::mvccpb::event::EventType;
use althing_api::range::prefix_end;
use bytes::Bytes;

use crate::client::{Client, Watched};
use crate::failure::{ERROR, Failure};
use crate::notice;
use crate::text::number::hex;

/// A key of ours in the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// The key.
    pub key: Bytes,
    prefix: Bytes,
    /// The store's revision when the key was put.
    create_revision: i64,
}

/// The oldest or the youngest key of the queue for `name`.
pub fn contenders(name: &[u8], order: SortOrder) -> RangeRequest {
    let prefix = prefix(name);
    RangeRequest {
        range_end: prefix_end(&prefix),
        key: prefix,
        limit: 1,
        sort_order: order.into(),
        sort_target: SortTarget::Create.into(),
        ..RangeRequest::default()
    }
}

fn prefix(name: &[u8]) -> Bytes {
    [name, b"/"].concat().into()
}

fn op(request: Request) -> RequestOp {
    RequestOp {
        request: Some(request),
    }
}

/// Puts the key unless it is there, and reads who is first.
fn entry(name: &[u8], key: &Bytes, lease: i64, value: Bytes) -> TxnRequest {
    let first = contenders(name, SortOrder::Ascend);
    let own = RangeRequest {
        key: key.clone(),
        ..RangeRequest::default()
    };
    let put = PutRequest {
        key: key.clone(),
        value,
        lease,
        ..PutRequest::default()
    };
    TxnRequest {
        compare: vec![Compare {
            result: CompareResult::Equal.into(),
            target: CompareTarget::Create.into(),
            key: key.clone(),
            target_union: Some(TargetUnion::CreateRevision(0)),
            ..Compare::default()
        }],
        success: vec![
            op(Request::RequestPut(put)),
            op(Request::RequestRange(first.clone())),
        ],
        failure: vec![
            op(Request::RequestRange(own)),
            op(Request::RequestRange(first)),
        ],
    }
}

/// The create revision of a key that the `position`th part of the answer found.
fn found(answer: &TxnResponse, position: usize) -> Option<i64> {
    let part = answer.responses.get(position)?.response.as_ref()?;
    let Response::ResponseRange(range) = part else {
        return None;
    };
    Some(range.kvs.first()?.create_revision)
}

impl Turn {
    /// Enters the queue for `name` with a key that lives as long as `lease`. Returns the place, and
    /// the store's revision if it is the first one already.
    ///
    /// # Errors
    /// The server's refusal, or the deadline. Nobody knows then whether the key was put: revoke
    /// the lease.
    pub async fn enter(
        client: &mut Client,
        name: &[u8],
        lease: i64,
        value: Bytes,
    ) -> Result<(Turn, Option<i64>), Failure> {
        let prefix = prefix(name);
        let key = Bytes::from([&prefix[..], hex(lease, 0).as_bytes()].concat());
        let answer = client.txn(entry(name, &key, lease, value)).await?;
        let revision = answer.header.unwrap_or_default().revision;
        let create_revision = if answer.succeeded {
            Some(revision)
        } else {
            found(&answer, 0)
        };
        let unclear = || Failure::new(ERROR, "the server's answer lacks the key");
        let create_revision = create_revision.ok_or_else(unclear)?;
        let first = found(&answer, 1).is_none_or(|first| first == create_revision);
        let turn = Turn {
            key,
            prefix,
            create_revision,
        };
        Ok((turn, first.then_some(revision)))
    }

    /// Waits until no older key is in the queue.
    ///
    /// # Errors
    /// The server's refusal, or no answer to a request in time; a watch outlives an outage.
    pub async fn wait(&self, client: &mut Client) -> Result<(), Failure> {
        loop {
            let older = RangeRequest {
                max_create_revision: self.create_revision - 1,
                ..self.youngest()
            };
            let answer = client.range(older).await?;
            let Some(before) = answer.kvs.first() else {
                return Ok(());
            };
            let revision = answer.header.unwrap_or_default().revision;
            gone(client, before.key.clone(), revision + 1).await?;
        }
    }

    fn youngest(&self) -> RangeRequest {
        let name = &self.prefix[..self.prefix.len() - 1];
        contenders(name, SortOrder::Descend)
    }
}

/// Waits until `key` is deleted at `revision` or later, or until it has to be looked up again.
async fn gone(client: &Client, key: Bytes, revision: i64) -> Result<(), Failure> {
    let mut watcher = client.watch(WatchCreateRequest {
        key,
        start_revision: revision,
        ..WatchCreateRequest::default()
    });
    loop {
        match watcher.next().await {
            Watched::Answer(answer) => {
                let deleted = EventType::Delete;
                if answer.events.iter().any(|event| event.r#type() == deleted) {
                    return Ok(());
                }
            }
            // History that is compacted away can only be asked for its result.
            Watched::Canceled(answer, _) if answer.compact_revision != 0 => return Ok(()),
            Watched::Canceled(_, reason) => return Err(Failure::new(ERROR, reason)),
            Watched::Lost(reason) => {
                notice::tell(format_args!("Warning: not connected, trying on: {reason}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use althing_api::etcdserverpb::{PutResponse, RangeResponse, ResponseOp};
    use althing_api::mvccpb::KeyValue;

    fn part(response: Response) -> ResponseOp {
        ResponseOp {
            response: Some(response),
        }
    }

    fn range(create_revision: Option<i64>) -> ResponseOp {
        let key = |create_revision| KeyValue {
            create_revision,
            ..KeyValue::default()
        };
        part(Response::ResponseRange(RangeResponse {
            kvs: create_revision.map(key).into_iter().collect(),
            ..RangeResponse::default()
        }))
    }

    #[test]
    fn the_first_is_read_out_of_the_answer() {
        let answer = TxnResponse {
            responses: vec![
                part(Response::ResponsePut(PutResponse::default())),
                range(Some(7)),
                range(None),
            ],
            ..TxnResponse::default()
        };
        let found: Vec<Option<i64>> = (0..4).map(|position| found(&answer, position)).collect();
        assert_eq!(found, [None, Some(7), None, None]);
    }

    #[test]
    fn the_queue_is_what_begins_with_the_name_and_a_slash() {
        let request = contenders(b"a", SortOrder::Ascend);
        assert_eq!(&request.key[..], b"a/");
        assert_eq!(&request.range_end[..], b"a0");
        assert_eq!(request.limit, 1);
    }

    #[test]
    fn a_key_is_put_only_where_none_is() {
        let key = Bytes::from_static(b"a/1f");
        let request = entry(b"a", &key, 0x1f, Bytes::new());
        let compare = &request.compare[0];
        assert_eq!(compare.target_union, Some(TargetUnion::CreateRevision(0)));
        assert_eq!(
            (&compare.key, compare.target()),
            (&key, CompareTarget::Create)
        );
        assert_eq!((request.success.len(), request.failure.len()), (2, 2));
    }
}
