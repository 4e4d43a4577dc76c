//! Range and RangeStream, small and large.

use althing_api::error::Error;
use althing_api::etcdserverpb::range_request::{SortOrder, SortTarget};
use althing_api::etcdserverpb::request_op::Request as Op;
use althing_api::etcdserverpb::*;
use tonic::Code;

use super::world::{Member, assert_refused, between, get, put, shown, with_member};

/// Puts `keys` keys "k00000", ... in txns of a hundred.
async fn fill(member: &Member, keys: usize, value: &str) {
    let mut kv = member.kv().await;
    for first in (0..keys).step_by(100) {
        let numbers = first..keys.min(first + 100);
        let ops = numbers.map(|number| RequestOp {
            request: Some(Op::RequestPut(put(&format!("k{number:05}"), value))),
        });
        let request = TxnRequest {
            success: ops.collect(),
            ..Default::default()
        };
        kv.txn(request).await.unwrap();
    }
}

fn all() -> RangeRequest {
    between("\0", "\0")
}

#[test]
fn every_option_of_a_range_does_what_it_says() {
    with_member(&[], async |member| {
        let mut kv = member.kv().await;
        for (key, value) in [("a", "3"), ("b", "2"), ("c", "1"), ("a", "3")] {
            kv.put(put(key, value)).await.unwrap();
        }
        let sorted = |target: SortTarget, order: SortOrder| RangeRequest {
            sort_target: target as i32,
            sort_order: order as i32,
            ..all()
        };
        let table = [
            (all(), "a=3 b=2 c=1", 3, false),
            (between("b", "c"), "b=2", 1, false),
            (between("c", "a"), "", 0, false),
            (RangeRequest { limit: 2, ..all() }, "a=3 b=2", 3, true),
            (RangeRequest { limit: -1, ..all() }, "a=3 b=2 c=1", 3, false),
            (
                RangeRequest {
                    revision: 3,
                    ..all()
                },
                "a=3 b=2",
                2,
                false,
            ),
            (
                RangeRequest {
                    keys_only: true,
                    ..all()
                },
                "a= b= c=",
                3,
                false,
            ),
            (
                RangeRequest {
                    count_only: true,
                    limit: 1,
                    ..all()
                },
                "",
                3,
                false,
            ),
            (
                RangeRequest {
                    serializable: true,
                    ..get("b")
                },
                "b=2",
                1,
                false,
            ),
            (
                RangeRequest {
                    min_mod_revision: 4,
                    ..all()
                },
                "a=3 c=1",
                3,
                false,
            ),
            (
                RangeRequest {
                    max_create_revision: 3,
                    ..all()
                },
                "a=3 b=2",
                3,
                false,
            ),
            (
                sorted(SortTarget::Key, SortOrder::Descend),
                "c=1 b=2 a=3",
                3,
                false,
            ),
            (
                sorted(SortTarget::Value, SortOrder::None),
                "c=1 b=2 a=3",
                3,
                false,
            ),
            (
                sorted(SortTarget::Mod, SortOrder::Ascend),
                "b=2 c=1 a=3",
                3,
                false,
            ),
            (
                sorted(SortTarget::Version, SortOrder::Descend),
                "a=3",
                3,
                true,
            ),
        ];
        for (mut request, kvs, count, more) in table {
            if more && request.limit == 0 {
                request.limit = 1;
            }
            let answer = kv.range(request.clone()).await.unwrap().into_inner();
            let seen = (shown(&answer.kvs), answer.count, answer.more);
            assert_eq!(seen, (kvs.to_owned(), count, more), "{request:?}");
            assert_eq!(answer.header.unwrap().revision, 5);
        }
        assert_refused(kv.range(get("")).await, Error::EmptyKey);
        let unknown = RangeRequest {
            sort_target: 5,
            ..all()
        };
        assert_refused(kv.range(unknown).await, Error::InvalidSortOption);
    });
}

#[test]
fn a_large_range_gives_every_key_however_it_is_read() {
    const KEYS: usize = 2_500;
    with_member(&[], async |member| {
        fill(member, KEYS, "v").await;
        let mut kv = member.kv().await;
        let old = kv.range(all()).await.unwrap().into_inner();
        assert_eq!(
            (old.count, old.kvs.len(), old.more),
            (KEYS as i64, KEYS, false)
        );
        let revision = old.header.unwrap().revision;
        kv.put(put("z", "1")).await.unwrap();
        let reversed = RangeRequest {
            sort_order: SortOrder::Descend as i32,
            ..all()
        };
        let reversed = kv.range(reversed).await.unwrap().into_inner();
        assert_eq!(
            (reversed.kvs.len(), reversed.count),
            (KEYS + 1, KEYS as i64 + 1)
        );
        assert_eq!(reversed.kvs[1], old.kvs[KEYS - 1]);
        let past = kv.range(RangeRequest { revision, ..all() }).await.unwrap();
        assert_eq!(past.into_inner().kvs, old.kvs);
        let page = RangeRequest {
            limit: 2_000,
            ..all()
        };
        let page = kv.range(page).await.unwrap().into_inner();
        assert_eq!(
            (page.kvs.len(), page.count, page.more),
            (2_000, KEYS as i64 + 1, true)
        );
    });
}

#[test]
fn reads_that_need_more_memory_than_allowed_are_refused_and_pages_are_not() {
    with_member(&["--max-read-bytes=1MiB"], async |member| {
        fill(member, 1_200, &"v".repeat(1_000)).await;
        let mut kv = member.kv().await;
        let sorted = RangeRequest {
            sort_order: SortOrder::Descend as i32,
            ..all()
        };
        for request in [all(), sorted] {
            let refused = kv.range(request).await.unwrap_err();
            assert_eq!(refused.code(), Code::ResourceExhausted);
            assert!(
                refused.message().contains("use limit or RangeStream"),
                "{refused}"
            );
        }
        let page = RangeRequest {
            limit: 500,
            ..all()
        };
        let page = kv.range(page).await.unwrap().into_inner();
        assert_eq!((page.kvs.len(), page.count), (500, 1_200));
        let messages = stream(member, all()).await;
        assert_eq!(keys(&messages), 1_200);
    });
}

async fn stream(member: &Member, request: RangeRequest) -> Vec<RangeResponse> {
    let mut stream = member
        .kv()
        .await
        .range_stream(request)
        .await
        .unwrap()
        .into_inner();
    let mut messages = Vec::new();
    while let Some(message) = stream.message().await.unwrap() {
        messages.push(message.range_response.unwrap());
    }
    messages
}

fn keys(messages: &[RangeResponse]) -> usize {
    messages.iter().map(|message| message.kvs.len()).sum()
}

#[test]
fn a_stream_sends_growing_messages_and_tells_the_rest_in_the_last_one() {
    with_member(&[], async |member| {
        fill(member, 45, "v").await;
        let messages = stream(member, all()).await;
        let sizes: Vec<_> = messages.iter().map(|message| message.kvs.len()).collect();
        assert_eq!(sizes, [10, 20, 15]);
        let (last, others) = messages.split_last().unwrap();
        for message in others {
            assert_eq!(
                (message.header, message.count, message.more),
                (None, 0, false)
            );
        }
        assert_eq!(
            (last.header.unwrap().revision, last.count, last.more),
            (2, 45, false)
        );

        let cut = stream(member, RangeRequest { limit: 12, ..all() }).await;
        let last = cut.last().unwrap();
        assert_eq!((keys(&cut), last.count, last.more), (12, 45, true));
        let counted = RangeRequest {
            count_only: true,
            ..all()
        };
        let counted = stream(member, counted).await;
        assert_eq!(
            (counted.len(), keys(&counted), counted[0].count),
            (1, 0, 45)
        );
        let none = stream(member, between("x", "y")).await;
        assert_eq!((none.len(), none[0].count), (1, 0));
        assert_eq!(none[0].header.unwrap().revision, 2);
    });
}

#[test]
fn a_message_of_a_stream_is_bounded_even_where_large_values_follow_small_ones() {
    with_member(&[], async |member| {
        fill(member, 1_200, "v").await;
        let mut kv = member.kv().await;
        let value = "v".repeat(100_000);
        for number in 0..100 {
            kv.put(put(&format!("l{number:02}"), &value)).await.unwrap();
        }
        let messages = stream(member, all()).await;
        assert_eq!(keys(&messages), 1_300);
        for message in &messages {
            let values = message.kvs.iter().map(|kv| kv.value.len());
            let bytes: usize = values.sum();
            assert!(bytes < 2_000_000, "{bytes} bytes");
        }
    });
}

#[test]
fn a_stream_refuses_what_it_cannot_order() {
    with_member(&[], async |member| {
        let mut kv = member.kv().await;
        let sorted = RangeRequest {
            sort_order: SortOrder::Descend as i32,
            ..all()
        };
        assert_refused(kv.range_stream(sorted).await, Error::StreamSortOrder);
        let filtered = RangeRequest {
            min_mod_revision: 1,
            ..all()
        };
        assert_refused(kv.range_stream(filtered).await, Error::StreamRevisionFilter);
        let future = RangeRequest {
            revision: 9,
            ..all()
        };
        assert_refused(kv.range_stream(future).await, Error::FutureRevision);
    });
}
