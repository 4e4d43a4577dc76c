// What is built on clientv3: namespaces, leasing, the calls of Kubernetes, and ranges as streams.
package main

import (
	"fmt"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/kubernetes"
	"go.etcd.io/etcd/client/v3/leasing"
	"go.etcd.io/etcd/client/v3/namespace"
)

// spaced puts, watches and attaches to a lease below a prefix that the wrapper adds and hides.
func spaced(whole *clientv3.Client) {
	ctx, space := within(), prefix+"space/"
	client := connect()
	defer client.Close()
	client.KV = namespace.NewKV(client.KV, space)
	client.Watcher = namespace.NewWatcher(client.Watcher, space)
	client.Lease = namespace.NewLease(client.Lease, space)
	lease, err := client.Grant(ctx, 60)
	must(err)
	watched := client.Watch(ctx, "", clientv3.WithPrefix(), clientv3.WithPrevKV())
	_, err = client.Put(ctx, "a", "1", clientv3.WithLease(lease.ID))
	must(err)
	got, err := whole.Get(ctx, space+"a")
	must(err)
	equal(got.Count, 1, "keys in the space")
	life, err := client.TimeToLive(ctx, lease.ID, clientv3.WithAttachedKeys())
	must(err)
	equal(string(life.Keys[0]), "a", "the key of the lease")
	txn, err := client.Txn(ctx).
		If(clientv3.Compare(clientv3.Version("a"), "=", 1),
			clientv3.Compare(clientv3.LeaseValue("a"), "=", lease.ID)).
		Then(clientv3.OpPut("b", "2"), clientv3.OpGet("", clientv3.WithFromKey()),
			clientv3.OpTxn(nil, []clientv3.Op{clientv3.OpGet("a")}, nil)).
		Commit()
	must(err)
	equal(len(txn.Responses[1].GetResponseRange().Kvs), 2, "keys from the first on")
	equal(string((<-watched).Events[0].Kv.Key), "a", "the key that is watched")
}

// leased reads from what a client keeps while it holds the key's lease, which a writer takes away.
func leased() {
	ctx, key := within(), prefix+"leased"
	one, other := connect(), connect()
	defer one.Close()
	defer other.Close()
	reader, stopReader, err := leasing.NewKV(one, prefix+"leasing/")
	must(err)
	defer stopReader()
	writer, stopWriter, err := leasing.NewKV(other, prefix+"leasing/")
	must(err)
	defer stopWriter()
	_, err = reader.Put(ctx, key, "1")
	must(err)
	for range 5 {
		got, err := reader.Get(ctx, key)
		must(err)
		equal(string(got.Kvs[0].Value), "1", "what is kept")
	}
	_, err = writer.Put(ctx, key, "2")
	must(err)
	got, err := reader.Get(ctx, key)
	must(err)
	equal(string(got.Kvs[0].Value), "2", "what another wrote")
	txn, err := writer.Txn(ctx).If(clientv3.Compare(clientv3.Value(key), "=", "2")).
		Then(clientv3.OpDelete(key)).Commit()
	must(err)
	equal(txn.Succeeded, true, "the deletion of what was read")
	got, err = reader.Get(ctx, key)
	must(err)
	equal(got.Count, 0, "a key that is gone")
}

// kubernetesCalls creates, updates, lists and deletes as the API server does.
func kubernetesCalls(client *clientv3.Client) {
	ctx, at := within(), prefix+"k8s/"
	wrapped := &kubernetes.Client{Client: client}
	wrapped.Kubernetes = wrapped
	k8s := wrapped.Kubernetes
	put := func(key, value string, revision int64) kubernetes.PutResponse {
		answer, err := k8s.OptimisticPut(ctx, at+key, []byte(value), revision,
			kubernetes.PutOptions{GetOnFailure: true})
		must(err)
		return answer
	}
	equal(put("a", "1", 0).Succeeded, true, "a key is made")
	made := put("a", "2", 0)
	equal(made.Succeeded, false, "a key is made twice")
	equal(string(made.KV.Value), "1", "the value in the way")
	equal(put("a", "2", made.KV.ModRevision).Succeeded, true, "an update of what was read")
	equal(put("b", "3", 0).Succeeded, true, "another key")
	count, err := k8s.Count(ctx, at, kubernetes.CountOptions{})
	must(err)
	equal(count, 2, "keys")
	page, err := k8s.List(ctx, at, kubernetes.ListOptions{Limit: 1})
	must(err)
	equal(page.Count, 2, "keys of a list in pages")
	next, err := k8s.List(ctx, at, kubernetes.ListOptions{
		Limit: 1, Continue: string(page.Kvs[0].Key) + "\x00", Revision: page.Revision})
	must(err)
	equal(string(next.Kvs[0].Key), at+"b", "the first key of the second page")
	gone, err := k8s.OptimisticDelete(ctx, at+"a", 1, kubernetes.DeleteOptions{GetOnFailure: true})
	must(err)
	equal(gone.Succeeded, false, "a deletion of what was changed")
	gone, err = k8s.OptimisticDelete(ctx, at+"a", gone.KV.ModRevision, kubernetes.DeleteOptions{})
	must(err)
	equal(gone.Succeeded, true, "a deletion of what was read")
}

// streamed compares ranges that come in chunks with the same ranges in one answer.
func streamed(client *clientv3.Client) {
	ctx, at := within(), prefix+"streamed/"
	for number := range 50 {
		_, err := client.Put(ctx, fmt.Sprintf("%s%05d", at, number), strings.Repeat("v", 100_000))
		must(err)
	}
	last, err := client.Put(ctx, at+"00001", "v")
	must(err)
	for _, options := range [][]clientv3.OpOption{
		{}, {clientv3.WithLimit(7)}, {clientv3.WithKeysOnly()}, {clientv3.WithSerializable()},
		{clientv3.WithCountOnly()}, {clientv3.WithRev(last.Header.Revision - 9)},
	} {
		options = append(options, clientv3.WithPrefix())
		whole, err := client.Get(ctx, at, options...)
		must(err)
		chunks, err := client.GetStream(ctx, at, options...)
		must(err)
		joined, err := clientv3.GetStreamToGetResponse(chunks)
		must(err)
		equal(joined.Count, whole.Count, "count")
		equal(joined.More, whole.More, "more")
		equal(joined.Header.Revision, whole.Header.Revision, "revision")
		equal(len(joined.Kvs), len(whole.Kvs), "keys")
		for at := range whole.Kvs {
			equal(joined.Kvs[at].String(), whole.Kvs[at].String(), "a key")
		}
	}
}
