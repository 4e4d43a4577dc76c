"""The Python client `etcd3` (gRPC): keys, transactions, watches, leases, locks.

usage: python_etcd3.py HOST:PORT (of a member whose keys below py3/ may be replaced)
"""

import threading

import etcd3
from etcd3 import events

from scenario import PATIENCE_S, check, endpoint, equal, eventually

PREFIX = "py3/"


def keys(client):
    client.put(PREFIX + "a", "1")
    client.put(PREFIX + "b", "2")
    value, meta = client.get(PREFIX + "a")
    equal(value, b"1", "value")
    equal((meta.key, meta.version), (b"py3/a", 1), "key and version")
    check(meta.mod_revision == meta.create_revision > 1, "a new key has one revision")
    equal(client.get(PREFIX + "nothing"), (None, None), "a key that does not exist")
    found = [(meta.key, value) for value, meta in client.get_prefix(PREFIX, sort_order="descend")]
    equal(found, [(b"py3/b", b"2"), (b"py3/a", b"1")], "a prefix, descending")
    found = [meta.key for _, meta in client.get_range(PREFIX + "a", PREFIX + "b")]
    equal(found, [b"py3/a"], "a range")
    equal([meta.key for _, meta in client.get_prefix(PREFIX, keys_only=True)],
          [b"py3/a", b"py3/b"], "keys only")
    check(client.replace(PREFIX + "a", "1", "3"), "a replacement of the current value")
    check(not client.replace(PREFIX + "a", "1", "4"), "no replacement of another value")
    check(client.put_if_not_exists(PREFIX + "c", "5"), "a put of a new key")
    check(not client.put_if_not_exists(PREFIX + "c", "6"), "no put of an old key")
    check(client.delete(PREFIX + "b"), "a deletion of a key")
    check(not client.delete(PREFIX + "b"), "no deletion of nothing")
    equal(client.delete_prefix(PREFIX).deleted, 2, "deleted of a prefix")


def transaction(client):
    key = PREFIX + "txn"
    client.put(key, "old")
    succeeded, answers = client.transaction(
        compare=[client.transactions.value(key) == "old", client.transactions.version(key) > 0],
        success=[client.transactions.put(key, "new"), client.transactions.get(key)],
        failure=[client.transactions.delete(key)],
    )
    check(succeeded, "the compares hold")
    equal(answers[1][0][0], b"new", "what the transaction wrote is what it reads")
    succeeded, answers = client.transaction(
        compare=[client.transactions.create(key) == 0],
        success=[client.transactions.put(key, "never")],
        failure=[client.transactions.get(key)],
    )
    check(not succeeded, "the compare does not hold")
    equal(answers[0][0][0], b"new", "the other branch reads")


def watch(client):
    key = PREFIX + "watched"
    client.put(key, "1")
    _, meta = client.get(key)
    client.put(key, "2")
    client.delete(key)
    stream, cancel = client.watch(key, start_revision=meta.mod_revision, prev_kv=True)
    guard = threading.Timer(PATIENCE_S, cancel)
    guard.start()
    seen = []
    for event in stream:
        kind = "put" if isinstance(event, events.PutEvent) else "delete"
        seen.append((kind, event.value, event.prev_value, event.mod_revision - meta.mod_revision))
        if len(seen) == 3:
            client.put(key, "4")
        if len(seen) == 4:
            cancel()
    guard.cancel()
    equal(seen, [("put", b"1", b"", 0), ("put", b"2", b"1", 1), ("delete", b"", b"2", 2),
                 ("put", b"4", b"", 3)], "events from a revision, then live ones")
    client.compact(meta.mod_revision + 2)
    stream, cancel = client.watch(key, start_revision=meta.mod_revision)
    try:
        next(stream)
        check(False, "a compacted start ends the watch")
    except etcd3.exceptions.RevisionCompactedError as error:
        equal(error.compacted_revision, meta.mod_revision + 2, "the compacted revision")


def lease(client):
    kept = client.lease(60)
    client.put(PREFIX + "leased", "here", lease=kept)
    equal([key for key in kept.keys], [b"py3/leased"], "keys of a lease")
    equal(kept.granted_ttl, 60, "granted")
    check(50 < kept.remaining_ttl <= 60, "what remains of a lease")
    equal([answer.TTL for answer in kept.refresh()], [60], "a lease kept alive")
    kept.revoke()
    equal(client.get(PREFIX + "leased"), (None, None), "a key of a revoked lease")
    # Longer than a busy machine delays the put.
    short = client.lease(8)
    client.put(PREFIX + "short", "gone soon", lease=short)
    eventually(lambda: client.get(PREFIX + "short")[0] is None, "a key goes with its lease")
    equal(short.remaining_ttl, -1, "what remains of a lease that is over")


def lock(client, other):
    held = client.lock(PREFIX + "lock", ttl=30)
    check(held.acquire(timeout=PATIENCE_S), "a free lock is taken")
    check(held.is_acquired(), "and held")
    rival = other.lock(PREFIX + "lock", ttl=30)
    check(not rival.acquire(timeout=1), "a held lock is not taken")
    check(held.release(), "and released")
    with rival:
        check(rival.is_acquired(), "a released lock is taken by the other")
    check(not rival.is_acquired(), "and released")


def status(client):
    members = list(client.members)
    equal(len(members), 1, "members")
    equal(client.status().leader.id, members[0].id, "the leader")


def main():
    host, port = endpoint()
    client = etcd3.client(host=host, port=port, timeout=PATIENCE_S)
    other = etcd3.client(host=host, port=port, timeout=PATIENCE_S)
    client.delete_prefix(PREFIX)
    keys(client)
    transaction(client)
    watch(client)
    lease(client)
    lock(client, other)
    status(client)
    client.close()
    other.close()
    print("python etcd3: ok")


if __name__ == "__main__":
    main()
