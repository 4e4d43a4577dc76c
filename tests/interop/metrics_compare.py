#!/usr/bin/env python3
"""Compares what /metrics says of a real etcd and of althingd: names, types, labels.

    metrics_compare.py --etcd PROGRAM --etcdctl PROGRAM --althingd PROGRAM

Both serve the same few requests first. Prints what etcd has and althingd lacks, each with the
reason, and ends with 1 when something is missing without a reason, or differs."""

import argparse
import re
import subprocess
import sys
import tempfile
import time
import urllib.request

from ports import free_ports

# Families that althingd lacks, by prefix or whole name, and why.
REASONS = {
    "go_": "there is no Go runtime",
    "etcd_server_go_version": "there is no Go runtime",
    "etcd_debugging_auth_revision": "authentication is not served",
    "etcd_debugging_disk_backend_commit_": "redb's commits have no such phases",
    "etcd_debugging_mvcc_index_compaction_": "index and file are compacted in the same windows",
    "etcd_debugging_mvcc_range_total": "the old name of etcd_mvcc_range_total, gone in 3.6",
    "etcd_debugging_server_watch_send_loop_": "a queue feeds each stream, there is no such loop",
    "etcd_debugging_snap_": "raft's snapshots are marks, no file is written for them",
    "etcd_debugging_store_": "there is no store of version 2",
    "etcd_disk_backend_snapshot_duration_seconds": "a snapshot goes at the pace of its reader",
    "etcd_disk_wal_write_duration_seconds": "a write and its fsync are one step, counted together",
    "etcd_grpc_proxy_": "there is no proxy",
    "etcd_network_known_peers": "a member alone knows no peer",
    "etcd_server_feature_enabled": "there are no feature gates",
    "etcd_server_heartbeat_send_failures_total": "heartbeats never wait for the disk",
    "etcd_snap_": "raft's snapshots are marks, no file is written for them",
    "promhttp_": "scrapes are counted by no one",
}
PATIENCE = 60


def get(port, path):
    with urllib.request.urlopen("http://127.0.0.1:%d%s" % (port, path), timeout=PATIENCE) as answer:
        return answer.read().decode()


def play(etcdctl, port):
    """A few requests of each kind, so that families with labels have children."""
    def ctl(*words):
        line = [etcdctl, "--endpoints", "127.0.0.1:%d" % port,
                "--command-timeout=%ds" % PATIENCE, *words]
        done = subprocess.run(line, capture_output=True, text=True, timeout=PATIENCE)
        if done.returncode != 0:
            raise RuntimeError("%s: %s" % (words, done.stderr))
        return done.stdout
    ctl("put", "a", "b")
    ctl("get", "a")
    ctl("del", "a")
    lease = re.search("[0-9a-f]{12,16}", ctl("lease", "grant", "100")).group()
    ctl("put", "c", "d", "--lease", lease)
    ctl("lease", "keep-alive", "--once", lease)
    ctl("lease", "revoke", lease)
    ctl("compaction", "3")
    ctl("defrag")
    get(port, "/health")


def scrape(program, etcdctl):
    """What `program` answers to a scrape after the requests."""
    port, peer = free_ports(2)
    client, peers = "http://127.0.0.1:%d" % port, "http://127.0.0.1:%d" % peer
    with tempfile.TemporaryDirectory() as directory:
        line = [program, "--data-dir", directory + "/data", "--name", "default",
                "--listen-client-urls", client, "--advertise-client-urls", client,
                "--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers,
                "--initial-cluster", "default=" + peers]
        with open(directory + "/log", "w") as log, subprocess.Popen(line, stderr=log) as process:
            try:
                deadline = time.monotonic() + PATIENCE
                while True:
                    try:
                        get(port, "/health")
                        break
                    except OSError:
                        if time.monotonic() > deadline:
                            raise RuntimeError(open(directory + "/log").read())
                        time.sleep(0.1)
                play(etcdctl, port)
                return get(port, "/metrics")
            finally:
                process.kill()


def families(text):
    """Name to type and set of label names."""
    types, labels = {}, {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            name, kind = line.split()[2:4]
            types[name] = kind
        elif line and not line.startswith("#"):
            name, shown = re.match(r"([a-zA-Z0-9_:]+)(?:\{(.*?)\})? ", line).groups()
            for suffix in ("_bucket", "_sum", "_count"):
                if name.endswith(suffix) and name[:-len(suffix)] in types:
                    name = name[:-len(suffix)]
            found = set(re.findall(r'(\w+)="', shown or "")) - {"le", "quantile"}
            labels.setdefault(name, set()).update(found)
    return {name: (kind, sorted(labels.get(name, ()))) for name, kind in types.items()}


def reason(name):
    return next((why for prefix, why in REASONS.items() if name.startswith(prefix)), None)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for program in ("etcd", "etcdctl", "althingd"):
        parser.add_argument("--" + program, required=True)
    programs = parser.parse_args()
    theirs = families(scrape(programs.etcd, programs.etcdctl))
    ours = families(scrape(programs.althingd, programs.etcdctl))
    wrong = 0
    for name, (kind, labels) in sorted(theirs.items()):
        if name not in ours:
            why = reason(name)
            wrong += why is None
            if not name.startswith("go_"):
                print("%-8s %s %s: %s" % ("lacks" if why else "MISSING", name, labels, why))
        elif ours[name] != (kind, labels):
            wrong += 1
            print("DIFFERS  %s: %s %s, ours %s %s" % (name, kind, labels, *ours[name]))
    print("%d families of etcd, %d wrong" % (len(theirs), wrong))
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
