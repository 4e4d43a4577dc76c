"""The Python client `etcd3gw` (JSON over HTTP): keys, transactions, watches, leases, locks.

usage: python_etcd3gw.py HOST:PORT (of a member whose keys below pygw/ may be replaced)
"""

import base64
import threading

from etcd3gw.client import Etcd3Client
from etcd3gw.exceptions import Etcd3Exception

from scenario import PATIENCE_S, check, endpoint, equal, eventually

PREFIX = "pygw/"


def in_base64(text):
    return base64.b64encode(text.encode()).decode()


def keys(client):
    check(client.put(PREFIX + "a", "1"), "a put")
    check(client.put(PREFIX + "b", "2"), "a put")
    equal(client.get(PREFIX + "a"), [b"1"], "value")
    value, meta = client.get(PREFIX + "a", metadata=True)[0]
    equal((value, meta["key"], meta["version"]), (b"1", b"pygw/a", "1"), "record")
    equal(client.get(PREFIX + "nothing"), [], "a key that does not exist")
    found = client.get_prefix(PREFIX, sort_order="descend", sort_target="key")
    equal([(meta["key"], value) for value, meta in found],
          [(b"pygw/b", b"2"), (b"pygw/a", b"1")], "a prefix, descending")
    check(client.create(PREFIX + "c", "3"), "a create of a new key")
    check(not client.create(PREFIX + "c", "4"), "no create of an old key")
    check(client.replace(PREFIX + "c", "3", "5"), "a replacement of the current value")
    check(not client.replace(PREFIX + "c", "3", "6"), "no replacement of another value")
    check(client.delete(PREFIX + "b"), "a deletion of a key")
    check(not client.delete(PREFIX + "b"), "no deletion of nothing")
    check(client.delete_prefix(PREFIX), "a deletion of a prefix")
    equal(client.get_prefix(PREFIX), [], "nothing is left")
    try:
        client.put(PREFIX + "a", "1", lease=type("Lease", (), {"id": 4711}))
        check(False, "an unknown lease is refused")
    except Etcd3Exception as error:
        check("requested lease not found" in error.detail_text, f"the reason: {error.detail_text}")


def transaction(client):
    key = in_base64(PREFIX + "txn")
    answer = client.transaction({
        "compare": [{"key": key, "result": "EQUAL", "target": "CREATE", "create_revision": 0}],
        "success": [{"request_put": {"key": key, "value": in_base64("new")}}],
        "failure": [{"request_range": {"key": key}}],
    })
    check(answer["succeeded"], "the key does not exist")
    check("response_put" in answer["responses"][0], "the put was made")
    answer = client.transaction({
        "compare": [{"key": key, "result": "EQUAL", "target": "CREATE", "create_revision": 0}],
        "success": [],
        "failure": [{"request_range": {"key": key}}],
    })
    check("succeeded" not in answer, "false is left out")
    record = answer["responses"][0]["response_range"]["kvs"][0]
    equal(record["value"], in_base64("new"), "the other branch reads")


def watch(client):
    key = PREFIX + "watched"
    client.put(key, "1")
    start = int(client.get(key, metadata=True)[0][1]["mod_revision"])
    client.put(key, "2")
    client.delete(key)
    stream, cancel = client.watch(key, start_revision=str(start), prev_kv=True)
    guard = threading.Timer(PATIENCE_S, cancel)
    guard.start()
    seen = []
    for event in stream:
        # The client decodes the record, but not the one before it.
        before = event.get("prev_kv", {}).get("value")
        revision = int(event["kv"]["mod_revision"]) - start
        seen.append((event.get("type", "PUT"), event["kv"].get("value"), before, revision))
        if len(seen) == 3:
            client.put(key, "4")
        if len(seen) == 4:
            cancel()
            break
    guard.cancel()
    equal(seen, [("PUT", b"1", None, 0), ("PUT", b"2", in_base64("1"), 1),
                 ("DELETE", None, in_base64("2"), 2), ("PUT", b"4", None, 3)],
          "events from a revision, then live ones")


def lease(client):
    kept = client.lease(ttl=60)
    client.put(PREFIX + "leased", "here", lease=kept)
    equal(kept.keys(), [b"pygw/leased"], "keys of a lease")
    check(50 < kept.ttl() <= 60, "what remains of a lease")
    equal(kept.refresh(), 60, "a lease kept alive")
    check(kept.revoke(), "a lease revoked")
    equal(client.get(PREFIX + "leased"), [], "a key of a revoked lease")
    # Longer than a busy machine delays the put.
    short = client.lease(ttl=8)
    client.put(PREFIX + "short", "gone soon", lease=short)
    eventually(lambda: client.get(PREFIX + "short") == [], "a key goes with its lease")
    equal(short.ttl(), -1, "what remains of a lease that is over")


def lock(client, other):
    held = client.lock(id=PREFIX + "lock", ttl=30)
    check(held.acquire(), "a free lock is taken")
    check(held.is_acquired(), "and held")
    rival = other.lock(id=PREFIX + "lock", ttl=30)
    check(not rival.acquire(), "a held lock is not taken")
    check(held.release(), "and released")
    with rival:
        check(rival.is_acquired(), "a released lock is taken by the other")
    check(not rival.is_acquired(), "and released")


def services(client):
    """The lock and election services, which this client does not cover."""
    lease = client.lease(ttl=60)
    name = in_base64(PREFIX + "mutex")
    held = client.post(client.get_url("/lock/lock"), json={"name": name, "lease": lease.id})
    key = base64.b64decode(held["key"]).decode()
    equal(key, f"{PREFIX}mutex/{int(lease.id):x}", "the key of a lock")
    client.post(client.get_url("/lock/unlock"), json={"key": held["key"]})
    equal(client.get(key), [], "the key of a lock that was released")
    name = in_base64(PREFIX + "election")
    campaign = {"name": name, "lease": lease.id, "value": in_base64("me")}
    won = client.post(client.get_url("/election/campaign"), json=campaign)
    leader = client.post(client.get_url("/election/leader"), json={"name": name})
    equal(leader["kv"]["value"], in_base64("me"), "the leader")
    client.post(client.get_url("/election/resign"), json={"leader": won["leader"]})
    try:
        client.post(client.get_url("/election/leader"), json={"name": name})
        check(False, "nobody leads")
    except Etcd3Exception as error:
        check("election: no leader" in error.detail_text, f"the reason: {error.detail_text}")


def main():
    host, port = endpoint()
    client = Etcd3Client(host=host, port=port, timeout=PATIENCE_S, api_path="/v3/")
    other = Etcd3Client(host=host, port=port, timeout=PATIENCE_S, api_path="/v3/")
    client.delete_prefix(PREFIX)
    keys(client)
    transaction(client)
    watch(client)
    lease(client)
    lock(client, other)
    services(client)
    equal(len(client.members()), 1, "members")
    check("version" in client.status(), "the status tells the version")
    print("python etcd3gw: ok")


if __name__ == "__main__":
    main()
