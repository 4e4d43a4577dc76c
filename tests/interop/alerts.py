#!/usr/bin/env python3
"""Prometheus scrapes three members while faults are made: each alert has to fire, and to clear.

usage: alerts.py --althingd PATH [--only NAME]

The rules are those of packaging/prometheus, which state etcd's published ones; only their times are
shortened, to seconds. Every fault is a real one: processes that are killed or stopped, a network
and disks that are slow, a quota and a disk that are full. Also every expression of etcd's Grafana
dashboard has to find something. Takes about four minutes. Needs root, Debian's `prometheus` and
`strace`; if one is missing it says so and succeeds."""

import argparse
import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "clients"))
from ports import free_ports  # noqa: E402
from alerts_cluster import Cluster  # noqa: E402

RULES = pathlib.Path(__file__).resolve().parents[2] / "packaging/prometheus/alerts.yml"
DEADLINE_S = 120
MIB = 1 << 20
# Seconds instead of minutes and hours; the prediction four hours ahead stays as it is.
SHORTENED = [(r"for: \d+m", "for: 2s"), (r"\[15m:1m\]", "[30s:1s]"), (r"\[15m\]", "[20s]"),
             (r"\[5m\]", "[15s]"), (r"\[120s\]", "[6s]"), (r"\[4h\]", "[15s]")]
FAILED = ("Unknown|FailedPrecondition|ResourceExhausted|Internal|Unavailable|DataLoss|"
          "DeadlineExceeded")
# What etcd's dashboard draws.
DASHBOARD = [
    'sum(etcd_server_has_leader{SELECT})',
    'sum(rate(grpc_server_started_total{SELECT,grpc_type="unary"}[15s]))',
    f'sum(rate(grpc_server_handled_total{{SELECT,grpc_type="unary",grpc_code=~"{FAILED}"}}[15s]))',
    'sum(grpc_server_started_total{SELECT,grpc_service="etcdserverpb.Watch",'
    'grpc_type="bidi_stream"}) - sum(grpc_server_handled_total{SELECT,'
    'grpc_service="etcdserverpb.Watch",grpc_type="bidi_stream"})',
    'sum(grpc_server_started_total{SELECT,grpc_service="etcdserverpb.Lease",'
    'grpc_type="bidi_stream"}) - sum(grpc_server_handled_total{SELECT,'
    'grpc_service="etcdserverpb.Lease",grpc_type="bidi_stream"})',
    'etcd_mvcc_db_total_size_in_bytes{SELECT}',
    'histogram_quantile(0.99, sum(rate('
    'etcd_disk_wal_fsync_duration_seconds_bucket{SELECT}[15s])) by (instance, le))',
    'histogram_quantile(0.99, sum(rate('
    'etcd_disk_backend_commit_duration_seconds_bucket{SELECT}[15s])) by (instance, le))',
    'process_resident_memory_bytes{SELECT}',
    'rate(etcd_network_client_grpc_received_bytes_total{SELECT}[15s])',
    'rate(etcd_network_client_grpc_sent_bytes_total{SELECT}[15s])',
    'sum(rate(etcd_network_peer_received_bytes_total{SELECT}[15s])) by (instance)',
    'sum(rate(etcd_network_peer_sent_bytes_total{SELECT}[15s])) by (instance)',
    'sum(rate(etcd_server_proposals_failed_total{SELECT}[15s]))',
    'sum(etcd_server_proposals_pending{SELECT})',
    'sum(rate(etcd_server_proposals_committed_total{SELECT}[15s]))',
    'sum(rate(etcd_server_proposals_applied_total{SELECT}[15s]))',
    'changes(etcd_server_leader_changes_seen_total{SELECT}[1d])',
    'histogram_quantile(0.99, sum by (instance, le) (rate('
    'etcd_network_peer_round_trip_time_seconds_bucket{SELECT}[15s])))',
]


class Differs(Exception):
    """A part did not end as it should."""


def until(what, condition):
    """Waits until a condition holds, and returns its value."""
    deadline = time.monotonic() + DEADLINE_S
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise Differs(f"in vain: {what}")
        time.sleep(0.2)
    return value


class Prometheus:
    """The server, with its data in a directory that the caller removes."""

    def __init__(self, directory, targets):
        directory = pathlib.Path(directory)
        rules = RULES.read_text(encoding="ascii")
        self.alerts = len(re.findall("- alert:", rules))
        for pattern, short in SHORTENED:
            rules, found = re.subn(pattern, short, rules)
            if not found:
                raise Differs(f"no rule has {pattern}")
        (directory / "rules.yml").write_text(rules)
        config = {"global": {"scrape_interval": "1s", "evaluation_interval": "1s",
                             "scrape_timeout": "1s"},
                  "rule_files": [str(directory / "rules.yml")],
                  "scrape_configs": [{"job_name": "etcd", "static_configs": [
                      {"targets": targets, "labels": {"cluster": "tried"}}]}]}
        # JSON is YAML.
        (directory / "config.yml").write_text(json.dumps(config))
        self.address = f"127.0.0.1:{free_ports(1)[0]}"
        self.log = open(directory / "log", "wb")
        self.process = subprocess.Popen(
            ["prometheus", f"--config.file={directory}/config.yml",
             f"--storage.tsdb.path={directory}/data", f"--web.listen-address={self.address}"],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)

    def ask(self, path, **query):
        url = f"http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.load(answer)["data"]
        except OSError:
            return {}

    def firing(self):
        """The alerts that fire, each with its severity."""
        return {(alert["labels"]["alertname"], alert["labels"]["severity"])
                for alert in self.ask("alerts").get("alerts", []) if alert["state"] == "firing"}

    def values(self, expression):
        return [float(found["value"][1])
                for found in self.ask("query", query=expression).get("result", [])]

    def stop(self):
        self.process.terminate()
        self.process.wait()
        self.log.close()


class Trial:
    """The cluster, Prometheus, and what has fired."""

    def __init__(self, cluster, prometheus):
        self.cluster, self.prometheus = cluster, prometheus
        self.seen = set()

    def fires(self, *alerts):
        """Waits until each fires; (name, severity)."""
        waiting, begun = set(alerts), time.monotonic()

        def all_fired():
            waiting.difference_update(self.prometheus.firing())
            return not waiting

        try:
            until("", all_fired)
        except Differs as error:
            raise Differs(f"never fired: {sorted(waiting)}") from error
        self.seen.update(alerts)
        print(f"        {', '.join(sorted({name for name, _ in alerts}))} fired after "
              f"{time.monotonic() - begun:.0f} s", flush=True)

    def clears(self, *alerts):
        """Waits until none of these fires."""
        begun = time.monotonic()
        try:
            until("", lambda: not self.prometheus.firing() & set(alerts))
        except Differs as error:
            firing = self.prometheus.firing() & set(alerts)
            raise Differs(f"still firing: {sorted(firing)}") from error
        print(f"        all cleared after {time.monotonic() - begun:.0f} s", flush=True)

    @contextlib.contextmanager
    def many_writers(self, member):
        """A hundred clients of one member, which take every refusal."""
        ended = threading.Event()

        def write():
            while not ended.is_set():
                with contextlib.suppress(OSError):
                    member.put(b"many", b"x")

        writers = [threading.Thread(target=write) for _ in range(100)]
        for writer in writers:
            writer.start()
        try:
            yield
        finally:
            ended.set()
            for writer in writers:
                writer.join()


def a_healthy_cluster_is_quiet_and_the_dashboard_finds_everything(t):
    first = t.cluster.members[0]
    first.play()
    for expression in DASHBOARD:
        asked = expression.replace("SELECT", 'job="etcd",cluster="tried"')
        until(f"a value of {asked}",
              lambda: any(value == value for value in t.prometheus.values(asked)))
    until("three targets are up", lambda: t.prometheus.values("sum(up)") == [3.0])
    until("nothing fires", lambda: not t.prometheus.firing())


def members_that_are_killed(t):
    one, two, rest = t.cluster.members
    down = ("etcdMembersDown", "warning")
    lost = [("etcdInsufficientMembers", "critical"), ("etcdNoLeader", "critical"),
            ("etcdHighNumberOfFailedProposals", "warning"),
            ("etcdHighNumberOfFailedGRPCRequests", "warning"),
            ("etcdHighNumberOfFailedGRPCRequests", "critical")]
    one.kill()
    try:
        t.fires(down)
        two.kill()
        with t.many_writers(rest):
            t.fires(*lost)
    finally:
        one.start()
        two.start()
    t.clears(down, *lost)


def leaders_that_are_stopped(t):
    alert = ("etcdHighNumberOfLeaderChanges", "warning")
    for _ in range(6):
        leader = until("a leader", t.cluster.leader)
        leader.signal(signal.SIGSTOP)
        try:
            until("another leader", lambda: t.cluster.leader(without=leader))
        finally:
            leader.signal(signal.SIGCONT)
    t.fires(alert)
    t.clears(alert)


def a_network_that_is_slow(t):
    alert = ("etcdMemberCommunicationSlow", "warning")
    t.cluster.network.delay_s = 0.2
    try:
        t.fires(alert)
    finally:
        t.cluster.network.delay_s = 0
    t.clears(alert)


def disks_that_are_slow(t):
    alerts = [("etcdHighFsyncDurations", "warning"), ("etcdHighFsyncDurations", "critical"),
              ("etcdHighCommitDurations", "warning"), ("etcdGRPCRequestsSlow", "critical")]
    with contextlib.ExitStack() as stack:
        for member in t.cluster.members:
            stack.enter_context(member.slow_flushes(1.3))
        t.fires(*alerts)
    t.clears(*alerts)


def a_quota_that_is_used_up_and_a_disk_without_room_to_defragment(t):
    members = t.cluster.members
    grown = ("etcdExcessiveDatabaseGrowth", "warning")
    low = ("etcdDatabaseQuotaLowSpace", "critical")
    keys = members[0].fill_quota()
    t.fires(grown, low)
    fragmented = ("etcdDatabaseHighFragmentationRatio", "warning")
    for member in members:
        # Only deletions and compactions are accepted now, and no copy of the file begins.
        member.disk.fill()
    try:
        revision = members[0].delete(keys[:int(len(keys) * 0.54)])
        members[0].compact(revision)
        t.fires(fragmented)
    finally:
        for member in members:
            member.disk.free()
    # Nobody defragments: the members do, once there is room.
    t.clears(grown, low, fragmented)
    until("writes are taken", lambda: members[0].takes_writes())


PARTS = [a_healthy_cluster_is_quiet_and_the_dashboard_finds_everything, members_that_are_killed,
         leaders_that_are_stopped, a_network_that_is_slow, disks_that_are_slow,
         a_quota_that_is_used_up_and_a_disk_without_room_to_defragment]


def missing():
    """What this machine lacks, if anything."""
    if os.geteuid() != 0:
        return "root"
    return next((name for name in ("prometheus", "strace") if not shutil.which(name)), None)


def run(trial, only):
    """Plays the parts; returns how many passed and failed."""
    passed = failed = 0
    for part in PARTS:
        if only not in (None, part.__name__):
            continue
        begun = time.monotonic()
        try:
            part(trial)
        except (Differs, OSError, subprocess.SubprocessError) as error:
            failed += 1
            print(f"FAILED  {part.__name__}: {error!r}")
        else:
            passed += 1
            print(f"ok      {part.__name__} ({time.monotonic() - begun:.0f} s)")
        sys.stdout.flush()
    if only is None and len(trial.seen) != trial.prometheus.alerts:
        failed += 1
        print(f"FAILED  {len(trial.seen)} of {trial.prometheus.alerts} alerts have fired")
    return passed, failed


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--althingd", required=True)
    parser.add_argument("--only")
    options = parser.parse_args()
    lacks = missing()
    if lacks:
        print(f"alerts: not run, for this machine lacks {lacks}\n0 passed, 0 failed")
        return 0
    with tempfile.TemporaryDirectory(prefix="althing-") as scratch, contextlib.ExitStack() as stack:
        cluster = stack.enter_context(Cluster(options.althingd, scratch))
        prometheus = Prometheus(scratch, [member.address for member in cluster.members])
        stack.callback(prometheus.stop)
        stack.enter_context(cluster.trickle())
        passed, failed = run(Trial(cluster, prometheus), options.only)
        if failed:
            print(cluster.last_words())
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
