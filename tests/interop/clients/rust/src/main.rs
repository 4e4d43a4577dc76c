//! The Rust client `etcd-client`: keys, transactions, watches, leases, locks and elections. It
//! panics at the first thing that is wrong.
//!
//! usage: althing-interop-etcd-client HOST:PORT (of a member whose keys below rs/ may be replaced)

use std::future::Future;
use std::time::Duration;

use etcd_client::{
    Client, CompactionOptions, Compare, CompareOp, DeleteOptions, Error, EventType, GetOptions,
    LeaseTimeToLiveOptions, LockOptions, ProclaimOptions, PutOptions, ResignOptions, SortOrder,
    SortTarget, Txn, TxnOp, TxnOpResponse, WatchFilterType, WatchOptions, WatchStream,
};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() -> Result<(), Error> {
    let endpoint = std::env::args().nth(1).expect("usage: HOST:PORT");
    let mut client = Client::connect([endpoint.as_str()], None).await?;
    let other = Client::connect([endpoint.as_str()], None).await?;
    let all = DeleteOptions::new().with_prefix();
    client.delete("rs/", Some(all)).await?;
    keys(&mut client).await?;
    transaction(&mut client).await?;
    watch(&mut client).await?;
    lease(&mut client).await?;
    lock(&mut client, other.clone()).await?;
    election(&mut client, other).await?;
    println!("rust etcd-client: ok");
    Ok(())
}

/// Fails if a step takes long.
async fn within<T>(step: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    timeout(PATIENCE, step).await.expect("in time")
}

/// Fails unless the member refuses with this text.
fn refused<T: std::fmt::Debug>(answer: Result<T, Error>, text: &str) {
    match answer {
        Err(Error::GRpcStatus(status)) => assert_eq!(status.message(), text),
        other => panic!("not refused with {text:?}: {other:?}"),
    }
}

async fn keys(client: &mut Client) -> Result<(), Error> {
    let put = client.put("rs/a", "1", None).await?;
    let first = put.header().expect("a header").revision();
    client.put("rs/b", "2", None).await?;
    let got = client.get("rs/a", None).await?;
    assert_eq!(got.kvs()[0].value(), b"1");
    assert_eq!(got.kvs()[0].mod_revision(), first);
    let keep = PutOptions::new().with_prev_key();
    let put = client.put("rs/a", "3", Some(keep)).await?;
    assert_eq!(put.prev_key().expect("a record").value(), b"1");
    let last = GetOptions::new()
        .with_prefix()
        .with_sort(SortTarget::Key, SortOrder::Descend)
        .with_limit(1);
    let got = client.get("rs/", Some(last)).await?;
    assert_eq!(got.kvs()[0].key(), b"rs/b");
    assert_eq!((got.count(), got.more()), (2, true));
    let old = GetOptions::new().with_revision(first);
    assert_eq!(client.get("rs/a", Some(old)).await?.kvs()[0].value(), b"1");
    let all = DeleteOptions::new().with_prefix().with_prev_key();
    let deleted = client.delete("rs/", Some(all)).await?;
    assert_eq!(deleted.deleted(), 2);
    assert_eq!(deleted.prev_kvs()[0].value(), b"3");
    refused(
        client.put("", "1", None).await,
        "etcdserver: key is not provided",
    );
    Ok(())
}

async fn transaction(client: &mut Client) -> Result<(), Error> {
    let key = "rs/txn";
    let create = Txn::new()
        .when([Compare::create_revision(key, CompareOp::Equal, 0)])
        .and_then([TxnOp::put(key, "new", None), TxnOp::get(key, None)])
        .or_else([TxnOp::delete(key, None)]);
    let answer = client.txn(create).await?;
    assert!(answer.succeeded());
    match &answer.op_responses()[1] {
        TxnOpResponse::Get(got) => assert_eq!(got.kvs()[0].value(), b"new"),
        other => panic!("no read: {other:?}"),
    }
    let other = Txn::new()
        .when([Compare::value(key, CompareOp::Equal, "other")])
        .or_else([TxnOp::txn(Txn::new().and_then([TxnOp::get(key, None)]))]);
    let answer = client.txn(other).await?;
    assert!(!answer.succeeded());
    assert!(matches!(&answer.op_responses()[0], TxnOpResponse::Txn(inner) if inner.succeeded()));
    let twice = Txn::new().and_then([TxnOp::put(key, "1", None), TxnOp::put(key, "2", None)]);
    refused(
        client.txn(twice).await,
        "etcdserver: duplicate key given in txn request",
    );
    Ok(())
}

async fn watch(client: &mut Client) -> Result<(), Error> {
    let key = "rs/watched";
    let put = client.put(key, "1", None).await?;
    let start = put.header().expect("a header").revision();
    client.put(key, "2", None).await?;
    client.delete(key, None).await?;
    let options = WatchOptions::new()
        .with_start_revision(start)
        .with_prev_key();
    let (mut watcher, mut stream) = within(client.watch(key, Some(options))).await?;
    let mut seen = events(&mut stream, 3, start).await?;
    client.put(key, "4", None).await?;
    seen.extend(events(&mut stream, 1, start).await?);
    assert_eq!(
        seen,
        ["Put 1< +0", "Put 2<1 +1", "Delete <2 +2", "Put 4< +3"]
    );
    watcher.request_progress().await?;
    let progress = within(stream.message()).await?.expect("an open stream");
    assert!(progress.events().is_empty());
    assert_eq!(progress.header().expect("a header").revision(), start + 3);

    let deletions = WatchOptions::new()
        .with_start_revision(start)
        .with_filters([WatchFilterType::NoPut]);
    watcher.watch(key, Some(deletions)).await?;
    assert!(
        within(stream.message())
            .await?
            .expect("an open stream")
            .created()
    );
    assert_eq!(events(&mut stream, 1, start).await?, ["Delete < +2"]);
    watcher.cancel().await?;
    assert!(
        within(stream.message())
            .await?
            .expect("an open stream")
            .canceled()
    );

    client
        .compact(start + 2, Some(CompactionOptions::new()))
        .await?;
    let options = WatchOptions::new().with_start_revision(start);
    let (_watcher, mut stream) = within(client.watch(key, Some(options))).await?;
    let compacted = within(stream.message()).await?.expect("an open stream");
    assert!(compacted.canceled());
    assert_eq!(compacted.compact_revision(), start + 2);
    Ok(())
}

/// The next events of a stream, as text.
async fn events(stream: &mut WatchStream, count: usize, start: i64) -> Result<Vec<String>, Error> {
    let mut seen = Vec::new();
    while seen.len() < count {
        let message = within(stream.message()).await?.expect("an open stream");
        for event in message.events() {
            let record = event.kv().expect("a record");
            seen.push(format!(
                "{:?} {}<{} +{}",
                event.event_type(),
                record.value_str()?,
                event
                    .prev_kv()
                    .map_or(Ok(""), |before| before.value_str())?,
                record.mod_revision() - start,
            ));
        }
    }
    Ok(seen)
}

async fn lease(client: &mut Client) -> Result<(), Error> {
    let lease = client.lease_grant(60, None).await?.id();
    let attached = PutOptions::new().with_lease(lease);
    client.put("rs/leased", "here", Some(attached)).await?;
    let with_keys = LeaseTimeToLiveOptions::new().with_keys();
    let left = client.lease_time_to_live(lease, Some(with_keys)).await?;
    assert_eq!(left.granted_ttl(), 60);
    assert_eq!(left.keys(), [b"rs/leased"]);
    let leases = client.leases().await?;
    assert!(leases.leases().iter().any(|one| one.id() == lease));
    let (mut keeper, mut renewals) = within(client.lease_keep_alive(lease)).await?;
    keeper.keep_alive().await?;
    let renewal = within(renewals.message()).await?.expect("an open stream");
    assert_eq!((renewal.id(), renewal.ttl()), (lease, 60));
    client.lease_revoke(lease).await?;
    assert_eq!(client.get("rs/leased", None).await?.count(), 0);
    refused(
        client.lease_revoke(lease).await,
        "etcdserver: requested lease not found",
    );

    let (_watcher, mut stream) = within(client.watch("rs/short", None)).await?;
    // Longer than a busy machine delays the put.
    let short = client.lease_grant(8, None).await?.id();
    let attached = PutOptions::new().with_lease(short);
    client.put("rs/short", "gone soon", Some(attached)).await?;
    let mut kinds = Vec::new();
    while kinds.len() < 2 {
        let message = within(stream.message()).await?.expect("an open stream");
        kinds.extend(message.events().iter().map(|event| event.event_type()));
    }
    assert_eq!(kinds, [EventType::Put, EventType::Delete]);
    assert_eq!(client.lease_time_to_live(short, None).await?.ttl(), -1);
    Ok(())
}

/// Waits until `count` callers are in the queue of a name.
async fn queued(client: &mut Client, prefix: &str, count: i64) -> Result<(), Error> {
    within(async {
        let all = || GetOptions::new().with_prefix().with_count_only();
        while client.get(prefix, Some(all())).await?.count() < count {}
        Ok(())
    })
    .await
}

async fn lock(client: &mut Client, mut other: Client) -> Result<(), Error> {
    let mine = client.lease_grant(60, None).await?.id();
    let theirs = client.lease_grant(60, None).await?.id();
    let with = |lease| Some(LockOptions::new().with_lease(lease));
    let held = within(client.lock("rs/lock", with(mine))).await?;
    assert_eq!(held.key(), format!("rs/lock/{mine:x}").as_bytes());
    let rival = tokio::spawn(async move { other.lock("rs/lock", with(theirs)).await });
    queued(client, "rs/lock/", 2).await?;
    assert!(!rival.is_finished());
    client.unlock(held.key()).await?;
    let taken = within(async { rival.await.expect("no panic") }).await?;
    assert_eq!(taken.key(), format!("rs/lock/{theirs:x}").as_bytes());
    client.lease_revoke(theirs).await?;
    assert_eq!(client.get(taken.key(), None).await?.count(), 0);
    let own = within(client.lock("rs/lock", None)).await?;
    client.unlock(own.key()).await?;
    Ok(())
}

async fn election(client: &mut Client, mut other: Client) -> Result<(), Error> {
    let name = "rs/election";
    let mine = client.lease_grant(60, None).await?.id();
    let theirs = client.lease_grant(60, None).await?.id();
    refused(client.leader(name).await, "election: no leader");
    let won = within(client.campaign(name, "first", mine)).await?;
    let leader = won.leader().expect("a leader").clone();
    let mut leaders = within(client.observe(name)).await?;
    let mut shown = async || -> Result<Vec<u8>, Error> {
        let message = within(leaders.message()).await?.expect("an open stream");
        Ok(message.kv().expect("a record").value().to_vec())
    };
    assert_eq!(shown().await?, b"first");
    let proclaim = |leader| Some(ProclaimOptions::new().with_leader(leader));
    client
        .proclaim("still first", proclaim(leader.clone()))
        .await?;
    assert_eq!(shown().await?, b"still first");
    let campaign = tokio::spawn(async move { other.campaign(name, "second", theirs).await });
    queued(client, "rs/election/", 2).await?;
    let resign = |leader| Some(ResignOptions::new().with_leader(leader));
    client.resign(resign(leader.clone())).await?;
    let next = within(async { campaign.await.expect("no panic") }).await?;
    assert_eq!(shown().await?, b"second");
    refused(
        client.proclaim("late", proclaim(leader)).await,
        "election: not leader",
    );
    let now = client.leader(name).await?;
    assert_eq!(now.kv().expect("a record").value(), b"second");
    client
        .resign(resign(next.leader().expect("a leader").clone()))
        .await?;
    refused(client.leader(name).await, "election: no leader");
    Ok(())
}
