// The Go client, clientv3, with its package concurrency: keys, transactions, watches, leases,
// sessions, mutexes and elections; and what is built on it (wrappers.go). It ends with 1 at the
// first thing that is wrong.
//
// usage: clientv3 HOST:PORT (of a member whose keys below go/ may be replaced)
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
)

const (
	prefix   = "go/"
	patience = 60 * time.Second
)

func main() {
	if len(os.Args) != 2 {
		fail("usage: %s HOST:PORT", os.Args[0])
	}
	client, other := connect(), connect()
	defer client.Close()
	defer other.Close()
	_, err := client.Delete(within(), prefix, clientv3.WithPrefix())
	must(err)
	keys(client)
	transaction(client)
	watch(client)
	lease(client)
	mutex(client, other)
	election(client, other)
	spaced(client)
	leased()
	kubernetesCalls(client)
	streamed(client)
	fmt.Println("go clientv3: ok")
}

func keys(client *clientv3.Client) {
	ctx := within()
	put, err := client.Put(ctx, prefix+"a", "1")
	must(err)
	_, err = client.Put(ctx, prefix+"b", "2")
	must(err)
	got, err := client.Get(ctx, prefix+"a")
	must(err)
	equal(string(got.Kvs[0].Value), "1", "value")
	equal(got.Kvs[0].ModRevision, put.Header.Revision, "the revision of a put")
	put, err = client.Put(ctx, prefix+"a", "3", clientv3.WithPrevKV())
	must(err)
	equal(string(put.PrevKv.Value), "1", "the value before")
	got, err = client.Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithLimit(1),
		clientv3.WithSort(clientv3.SortByKey, clientv3.SortDescend))
	must(err)
	equal(string(got.Kvs[0].Key), prefix+"b", "the last key")
	equal(got.Count, int64(2), "count")
	equal(got.More, true, "more")
	got, err = client.Get(ctx, prefix+"a", clientv3.WithRev(put.Header.Revision-1))
	must(err)
	equal(string(got.Kvs[0].Value), "1", "the value at an earlier revision")
	_, err = client.Get(ctx, prefix+"a", clientv3.WithRev(put.Header.Revision+1000))
	is(err, rpctypes.ErrFutureRev)
	deleted, err := client.Delete(ctx, prefix, clientv3.WithPrefix(), clientv3.WithPrevKV())
	must(err)
	equal(deleted.Deleted, int64(2), "deleted")
	equal(string(deleted.PrevKvs[0].Value), "3", "what was deleted")
	_, err = client.Put(ctx, "", "1")
	is(err, rpctypes.ErrEmptyKey)
}

func transaction(client *clientv3.Client) {
	key := prefix + "txn"
	answer, err := client.Txn(within()).
		If(clientv3.Compare(clientv3.CreateRevision(key), "=", 0)).
		Then(clientv3.OpPut(key, "new"), clientv3.OpGet(key)).
		Else(clientv3.OpDelete(key)).Commit()
	must(err)
	equal(answer.Succeeded, true, "the key does not exist")
	equal(string(answer.Responses[1].GetResponseRange().Kvs[0].Value), "new", "a read of the write")
	answer, err = client.Txn(within()).
		If(clientv3.Compare(clientv3.Value(key), "=", "other")).
		Else(clientv3.OpTxn(nil, []clientv3.Op{clientv3.OpGet(key)}, nil)).Commit()
	must(err)
	equal(answer.Succeeded, false, "the value is another")
	inner := answer.Responses[0].GetResponseTxn()
	equal(string(inner.Responses[0].GetResponseRange().Kvs[0].Value), "new", "a nested read")
	_, err = client.Txn(within()).Then(clientv3.OpPut(key, "1"), clientv3.OpPut(key, "2")).Commit()
	is(err, rpctypes.ErrDuplicateKey)
}

func watch(client *clientv3.Client) {
	key := prefix + "watched"
	first, err := client.Put(within(), key, "1")
	must(err)
	start := first.Header.Revision
	_, err = client.Put(within(), key, "2")
	must(err)
	_, err = client.Delete(within(), key)
	must(err)
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(within()))
	events := client.Watch(ctx, key, clientv3.WithRev(start), clientv3.WithPrevKV())
	seen := []string{}
	for len(seen) < 4 {
		answer, open := <-events
		equal(open, true, "the watch is open")
		must(answer.Err())
		for _, event := range answer.Events {
			before := ""
			if event.PrevKv != nil {
				before = string(event.PrevKv.Value)
			}
			seen = append(seen, fmt.Sprintf("%v %s<%s +%d", event.Type, event.Kv.Value, before,
				event.Kv.ModRevision-start))
		}
		if len(seen) == 3 {
			_, err = client.Put(within(), key, "4")
			must(err)
		}
	}
	equal(fmt.Sprint(seen), "[PUT 1< +0 PUT 2<1 +1 DELETE <2 +2 PUT 4< +3]", "events")
	must(client.RequestProgress(ctx))
	answer := <-events
	equal(answer.IsProgressNotify(), true, "an answer to a progress request")
	equal(answer.Header.Revision, start+3, "the revision of progress")
	cancel()
	for range events {
	}

	filtered := client.Watch(within(), key, clientv3.WithRev(start), clientv3.WithFilterPut())
	equal((<-filtered).Events[0].Type, mvccpb.DELETE, "deletions only")
	_, err = client.Compact(within(), start+2)
	must(err)
	answer = <-client.Watch(within(), key, clientv3.WithRev(start))
	is(answer.Err(), rpctypes.ErrCompacted)
	equal(answer.CompactRevision, start+2, "the compacted revision")
}

func lease(client *clientv3.Client) {
	granted, err := client.Grant(within(), 60)
	must(err)
	_, err = client.Put(within(), prefix+"leased", "here", clientv3.WithLease(granted.ID))
	must(err)
	left, err := client.TimeToLive(within(), granted.ID, clientv3.WithAttachedKeys())
	must(err)
	equal(left.GrantedTTL, int64(60), "granted")
	equal(fmt.Sprintf("%s", left.Keys), "["+prefix+"leased]", "keys of a lease")
	_, err = client.Revoke(within(), granted.ID)
	must(err)
	absent(client, prefix+"leased")
	_, err = client.Revoke(within(), granted.ID)
	is(err, rpctypes.ErrLeaseNotFound)
	_, err = client.KeepAliveOnce(within(), granted.ID)
	is(err, rpctypes.ErrLeaseNotFound)

	// A short lease lives while it is kept alive, and goes with its keys when it is not. It is
	// longer than a busy machine delays the put.
	short, err := client.Grant(within(), 8)
	must(err)
	_, err = client.Put(within(), prefix+"short", "gone soon", clientv3.WithLease(short.ID))
	must(err)
	ctx, stop := context.WithCancel(within())
	kept, err := client.KeepAlive(ctx, short.ID)
	must(err)
	begin := time.Now()
	for time.Since(begin) < 10*time.Second {
		answer, open := <-kept
		equal(open, true, "a lease is kept alive")
		equal(answer.TTL, short.TTL, "renewed")
	}
	got, err := client.Get(within(), prefix+"short")
	must(err)
	equal(got.Count, int64(1), "a key whose lease is kept alive")
	stop()
	gone := client.Watch(within(), prefix+"short", clientv3.WithRev(got.Header.Revision+1))
	equal((<-gone).Events[0].Type, mvccpb.DELETE, "a key goes with its lease")
}

func mutex(client, other *clientv3.Client) {
	mine, theirs := session(client), session(other)
	defer theirs.Close()
	held := concurrency.NewMutex(mine, prefix+"mutex")
	must(held.Lock(within()))
	rival := concurrency.NewMutex(theirs, prefix+"mutex")
	is(rival.TryLock(within()), concurrency.ErrLocked)
	guarded, err := client.Txn(within()).If(held.IsOwner()).
		Then(clientv3.OpPut(prefix+"guarded", "1")).Commit()
	must(err)
	equal(guarded.Succeeded, true, "the holder is the owner")

	taken := make(chan error)
	go func() { taken <- rival.Lock(within()) }()
	eventually("the rival waits", func() bool {
		waiting, err := client.Get(within(), prefix+"mutex/", clientv3.WithPrefix())
		must(err)
		return waiting.Count == 2
	})
	must(held.Unlock(within()))
	must(<-taken)
	must(rival.Unlock(within()))

	// The end of a session is the end of its locks.
	must(held.Lock(within()))
	must(mine.Close())
	must(rival.Lock(within()))
	must(rival.Unlock(within()))
}

func election(client, other *clientv3.Client) {
	mine, theirs := session(client), session(other)
	defer mine.Close()
	defer theirs.Close()
	first := concurrency.NewElection(mine, prefix+"election")
	second := concurrency.NewElection(theirs, prefix+"election")
	_, err := first.Leader(within())
	is(err, concurrency.ErrElectionNoLeader)
	ctx, stop := context.WithCancel(within())
	defer stop()
	leaders := second.Observe(ctx)
	must(first.Campaign(within(), "first"))
	equal(string((<-leaders).Kvs[0].Value), "first", "the leader")
	must(first.Proclaim(within(), "still first"))
	equal(string((<-leaders).Kvs[0].Value), "still first", "the leader's new value")

	won := make(chan error)
	go func() { won <- second.Campaign(within(), "second") }()
	eventually("the second waits", func() bool {
		waiting, err := client.Get(within(), prefix+"election/", clientv3.WithPrefix())
		must(err)
		return waiting.Count == 2
	})
	must(first.Resign(within()))
	must(<-won)
	equal(string((<-leaders).Kvs[0].Value), "second", "the next leader")
	is(first.Proclaim(within(), "late"), concurrency.ErrElectionNotLeader)
	leader, err := first.Leader(within())
	must(err)
	equal(string(leader.Kvs[0].Value), "second", "the leader")
	must(second.Resign(within()))
	_, err = first.Leader(within())
	is(err, concurrency.ErrElectionNoLeader)
}

func connect() *clientv3.Client {
	client, err := clientv3.New(clientv3.Config{
		Endpoints:   []string{os.Args[1]},
		DialTimeout: patience,
	})
	must(err)
	return client
}

func session(client *clientv3.Client) *concurrency.Session {
	session, err := concurrency.NewSession(client, concurrency.WithTTL(10))
	must(err)
	return session
}

// within is a context that ends when a single step has taken too long.
func within() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	context.AfterFunc(ctx, cancel)
	return ctx
}

func absent(client *clientv3.Client, key string) {
	got, err := client.Get(within(), key)
	must(err)
	equal(got.Count, int64(0), key+" is gone")
}

func eventually(what string, holds func() bool) {
	for deadline := time.Now().Add(patience); !holds(); {
		if time.Now().After(deadline) {
			fail("not in time: %s", what)
		}
	}
}

func equal[T comparable](found, wanted T, what string) {
	if found != wanted {
		fail("%s: %v, not %v", what, found, wanted)
	}
}

func is(err, wanted error) {
	if !errors.Is(err, wanted) {
		fail("the error is %v, not %v", err, wanted)
	}
}

func must(err error) {
	if err != nil {
		fail("%v", err)
	}
}

func fail(format string, values ...any) {
	fmt.Fprintf(os.Stderr, "FAILED: "+format+"\n", values...)
	os.Exit(1)
}
