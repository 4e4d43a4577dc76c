"""Patroni's own etcd3 DCS (JSON over HTTP, a streaming watch behind a cache, leases, transactions
with versions): two nodes that share a scope, without PostgreSQL.

usage: python_patroni.py HOST:PORT (of a member whose keys below patroni/ may be replaced)
"""

import json
import logging
import threading
import time

from patroni.dcs import get_dcs

from scenario import PATIENCE_S, check, endpoint, equal, eventually

HOST, PORT = endpoint()
# Of the leader's lease, which once runs out; a slow machine must renew it in that time.
TTL_S = 20


def node(name, scope="demo", **more):
    """The DCS as a Patroni of that name has it."""
    dcs = get_dcs({"name": name, "scope": scope, "namespace": "patroni", "ttl": TTL_S,
                   "loop_wait": 1, "retry_timeout": 10,
                   "etcd3": {"host": f"{HOST}:{PORT}", **more}})
    equal(dcs._client.version_prefix, "/v3", "the prefix of the gateway")
    return dcs


def sees(dcs, condition, what):
    """Waits until the cache, which only the watch fills, shows it."""
    eventually(lambda: condition(dcs.get_cluster()), f"{dcs._name} sees {what}")
    return dcs.get_cluster()


def bootstrap(first, second):
    check(first.get_cluster().is_unlocked(), "no leader yet")
    check(first.initialize(create_new=True), "the first initializes")
    check(not second.initialize(create_new=True), "the second may not")
    check(first.cancel_initialization(), "it is taken back")
    check(second.initialize(create_new=True), "now the second may")
    check(second.initialize(create_new=False, sysid="7000"), "the identifier of the system")
    equal(sees(first, lambda c: c.initialize == "7000", "it").initialize, "7000", "the identifier")
    config = json.dumps({"ttl": TTL_S, "postgresql": {"parameters": {"\u00e9": "\u2603"}}})
    check(first.set_config_value(config), "a configuration")
    seen = sees(second, lambda c: c.config and c.config.data, "the configuration")
    equal(seen.config.data["postgresql"]["parameters"], {"\u00e9": "\u2603"}, "the configuration")
    check(second.set_config_value("{}", seen.config.version), "a change of what was read")
    check(not first.set_config_value('{"a":1}', seen.config.version), "not of what is gone")


def leadership(first, second):
    for dcs in first, second:
        member = {"conn_url": f"postgres://{dcs._name}", "state": "running"}
        check(dcs.touch_member(member), "a member")
    check(first.attempt_to_acquire_leader(), "the first leads")
    check(not second.attempt_to_acquire_leader(), "the second does not")
    for dcs in first, second:
        seen = sees(dcs, lambda c: c.leader and len(c.members) == 2, "leader and members")
        equal((seen.leader.name, seen.leader.session), ("first", first._lease), "the leader")
        equal(seen.leader.conn_url, "postgres://first", "the leader's member")
        equal(sorted((m.name, m.session) for m in seen.members),
              sorted((d._name, d._lease) for d in (first, second)), "members and their leases")
    check(first.update_leader(first.get_cluster(), 4711, {"slot": 4710}), "the leader stays")
    seen = sees(second, lambda c: c.status.last_lsn == 4711, "the position")
    equal(seen.status.slots["slot"], 4710, "a slot")
    check(not second._delete_leader(None), "only the leader may go")
    # A new lease of a leader that restarts: the key goes over to it by the nested transaction.
    again = node("first")
    check(again.update_leader(again.get_cluster(), 4712), "the leader with a new lease")
    sees(second, lambda c: c.leader.session == again._lease, "the new lease")
    check(again._client.call_rpc("/lease/revoke", {"ID": first._lease}), "the old lease")
    check(second.get_cluster().leader.name == "first", "the leader outlives its old lease")
    return again


def versions(first, second):
    version = first.set_sync_state_value('{"leader":"first"}')
    check(int(version) > 0, "a revision")
    seen = sees(second, lambda c: c.sync.leader == "first", "the state")
    equal(seen.sync.version, version, "its revision")
    check(second.set_sync_state_value('{"leader":"second"}', version), "a change of what was read")
    check(not first.set_sync_state_value('{"leader":"no"}', version), "not of what is gone")
    check(not first.delete_sync_state(version), "no deletion of what is gone")
    seen = sees(first, lambda c: c.sync.leader == "second", "the state")
    check(first.delete_sync_state(seen.sync.version), "a deletion of what was read")
    sees(second, lambda c: c.sync.version is None, "no state")
    check(first.manual_failover("first", "second"), "a failover is asked for")
    seen = sees(second, lambda c: c.failover, "the failover")
    equal((seen.failover.leader, seen.failover.candidate), ("first", "second"), "the failover")
    check(second.manual_failover("", "", version=seen.failover.version), "it is done")
    sees(first, lambda c: not c.failover, "no failover")
    check(first.set_history_value(json.dumps([[1, 4711, "no recovery"]])), "a history")
    seen = sees(second, lambda c: c.history, "the history")
    equal(seen.history.lines[0][1], 4711, "the history")


def failover(first, second):
    """The watch wakes the second when the leader goes, and when only its lease goes."""
    sees(second, lambda c: c.leader, "the leader")
    second.event.clear()
    woken = []
    waiting = threading.Thread(target=lambda: woken.append(second.watch("any", PATIENCE_S)))
    waiting.start()
    check(first.delete_leader(first.get_cluster().leader), "the leader goes")
    waiting.join()
    equal(woken, [True], "the second is woken")
    check(second.attempt_to_acquire_leader(), "the second leads")
    sees(first, lambda c: c.leader and c.leader.name == "second", "the new leader")
    first.event.clear()
    check(first.watch("any", PATIENCE_S), "the first is woken")
    check(first.get_cluster().is_unlocked(), "the lease is over")
    seen = sees(first, lambda c: not c.get_member("second", False), "one member less")
    equal([m.name for m in seen.members], [], "its member goes too")
    check(first.touch_member({"state": "running"}), "a member again")
    # A lease that is gone is found out, and replaced.
    first._client.call_rpc("/lease/revoke", {"ID": first._lease})
    first._last_lease_refresh = time.time()
    check(first.attempt_to_acquire_leader(), "with a new lease")


def main():
    logging.disable(logging.CRITICAL)
    control = node("control", use_proxies=True, username="someone", password="if auth is off")
    control.delete_cluster()
    first, second = node("first"), node("second")
    bootstrap(first, second)
    again = leadership(first, second)
    versions(again, second)
    failover(again, second)
    check(control.delete_cluster(), "an end")
    sees(second, lambda c: not c.leader and not c.config and not c.members, "nothing")
    print("patroni etcd3: ok")


if __name__ == "__main__":
    main()
