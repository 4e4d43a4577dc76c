"""Snapshots and migration between a real etcd and althingd, compared key by key.

usage: backup.py --etcd PATH --etcdctl PATH --restorer PATH --althingd PATH --althingctl PATH
                 [--keys N] [--only NAME]

RESTORER is the program whose `snapshot restore` makes a directory for ETCD: etcdutl, or etcdctl
before 3.5. A set of N keys with history, deletions, a compaction, leases and large values is
written to ETCD once. Prints a line for each part; the exit code is 0 when all passed.
"""

import argparse
import base64
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time

from backup_server import DEADLINE_S, Differs, Server, b64, expect
from ports import free_ports

TXN_PUTS = 100
LARGE = 300_000
LEASES = 20


class Player:
    def __init__(self, options, scratch):
        self.options = options
        self.scratch = scratch
        self.number = 0

    def place(self, name):
        self.number += 1
        return os.path.join(self.scratch, f"{self.number}-{name}")

    def run(self, program, *line, code=0):
        """Runs a program of the options; returns its standard output."""
        env = dict(os.environ, ETCDCTL_API="3")
        ended = subprocess.run([getattr(self.options, program), *line], env=env, timeout=DEADLINE_S,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        expect(ended.returncode == code,
               f"{program} {line} ended with {ended.returncode}, not {code}: "
               f"{ended.stdout}{ended.stderr}")
        return ended.stdout if code == 0 else ended.stderr

    def althingd(self, directory=None, **more):
        return Server(self.options.althingd, directory or self.place("althing"), **more)

    def etcd(self, directory=None, **more):
        return Server(self.options.etcd, directory or self.place("etcd"), **more)

    def restored_etcd(self, snapshot):
        """The etcd that serves a snapshot."""
        directory = self.place("etcd")
        self.run("restorer", "snapshot", "restore", snapshot, "--data-dir", directory)
        return self.etcd(directory).serving()

    def restored(self, snapshot, *flags):
        """The althingd that serves a snapshot."""
        directory, ports = self.place("althing"), free_ports(2)
        peer = f"http://127.0.0.1:{ports[1]}"
        self.run("althingctl", "snapshot", "restore", snapshot, "--data-dir", directory,
                 "--initial-advertise-peer-urls", peer, *flags)
        return self.althingd(directory, ports=ports).serving()


def fill(server, count):
    """Writes keys with a history; returns the revision before which it is compacted."""
    name = lambda n: f"/data/{n:07d}".encode()
    for start in range(0, count, TXN_PUTS):
        numbers = range(start, min(start + TXN_PUTS, count))
        server.put([(name(n), f"first of {n}".encode()) for n in numbers])
    compacted = server.revision()
    for start in range(0, count, TXN_PUTS):
        numbers = range(start, min(start + TXN_PUTS, count), 5)
        server.put([(name(n), f"second of {n}".encode() * 3) for n in numbers])
    for start in range(0, count, TXN_PUTS * 2):
        numbers = range(start + 3, min(start + TXN_PUTS * 2, count), 10)
        server.delete([name(n) for n in numbers])
    server.put([(name(3), b"again")])
    for n in range(4):
        server.put([(b"/large/%d" % n, os.urandom(LARGE))])
    server.put([(bytes([n, 0, 255 - n]), bytes(range(n))) for n in range(1, 100)])
    for n in range(LEASES):
        lease = server.post("lease/grant", TTL=3600 + n)["ID"]
        server.put([(b"/leased/%d/%d" % (n, key), b"x") for key in range(3)], lease)
    server.post("lease/grant", TTL=7200)
    server.put([(b"empty", b"")])
    server.post("kv/compaction", revision=compacted, physical=True)
    return compacted


def same_history(one, other, compacted):
    """Both hold the same keys now and at earlier revisions, and the same leases."""
    last = one.revision()
    expect(last == other.revision(), f"revision {last} became {other.revision()}")
    for revision in sorted({compacted, (compacted + last) // 2, last - 1, last}):
        keys, others = one.keys(revision), other.keys(revision)
        expect(keys == others, f"keys differ at revision {revision}: {first(keys, others)}")
    expect(one.leases() == other.leases(), "leases differ")
    expect(one.hash_kv() == other.hash_kv(), "HashKV differs")


def same_keys(one, other):
    """Both hold the same keys, values and leases, whatever their revisions."""
    told = lambda keys: {key: (kv.get("value"), kv.get("lease")) for key, kv in keys.items()}
    keys, others = told(one.keys()), told(other.keys())
    expect(keys == others, f"keys differ: {first(keys, others)}")
    expect(one.leases() == other.leases(), "leases differ")


def first(keys, others):
    """The first key that differs."""
    for key in sorted(set(keys) | set(others)):
        if keys.get(key) != others.get(key):
            return base64.b64decode(key), keys.get(key), others.get(key)
    return None


def same_status(player, snapshot):
    """althingctl says the same of a file as etcdctl, in every format."""
    for form in ("simple", "json", "fields", "table"):
        line = ("snapshot", "status", snapshot, "-w", form)
        ours, theirs = player.run("althingctl", *line), player.run("etcdctl", *line)
        expect(ours.strip() == theirs.strip(), f"status as {form}: {ours} and {theirs}")


def from_etcd(player, source, compacted):
    """A snapshot of etcd, restored here, has the same keys, history, revisions and leases."""
    snapshot = player.place("e.db")
    player.run("etcdctl", "--endpoints", source.endpoint, "snapshot", "save", snapshot)
    same_status(player, snapshot)
    with player.restored(snapshot, "--bump-revision", "0") as restored:
        same_history(source, restored, compacted)
        before = restored.revision()
        expect(restored.put([(b"after", b"restore")]) == before + 1, "it does not take writes")
        # After a restart it is still the same.
        restored.stop()
    hashed = player.run("althingctl", "snapshot", "hashkv", snapshot, "-w", "json")
    expect(json.loads(hashed)["hash"] == source.hash_kv(), f"hashkv of the file: {hashed}")


def to_etcd(player, source, compacted):
    """A snapshot of althingd is one for etcd's tools, and etcd serves it."""
    saved, ours, theirs = player.place("e.db"), player.place("a.db"), player.place("b.db")
    player.run("etcdctl", "--endpoints", source.endpoint, "snapshot", "save", saved)
    with player.restored(saved, "--bump-revision", "0") as member:
        player.run("althingctl", "--endpoints", member.endpoint, "snapshot", "save", ours)
        player.run("etcdctl", "--endpoints", member.endpoint, "snapshot", "save", theirs)
        for snapshot in (ours, theirs):
            same_status(player, snapshot)
        with player.restored_etcd(theirs) as etcd:
            same_history(member, etcd, compacted)
        with player.restored(ours, "--bump-revision", "0") as again:
            same_history(member, again, compacted)


def under_load(player, source, compacted):
    """Snapshots taken while somebody writes are whole, and each is one moment."""
    with player.althingd().serving() as member:
        ended = threading.Event()

        def write():
            number = 0
            while not ended.is_set():
                number += 1
                # Both keys change together, so that no snapshot may have one of them alone.
                member.put([(b"one", b"%d" % number), (b"two", b"%d" % number),
                            (b"key%d" % (number % 500), os.urandom(2000))])

        writer = threading.Thread(target=write)
        writer.start()
        try:
            for _ in range(4):
                snapshot = player.place("load.db")
                floor = member.revision()
                player.run("etcdctl", "--endpoints", member.endpoint, "snapshot", "save", snapshot)
                status = player.run("etcdctl", "snapshot", "status", snapshot, "-w", "json")
                expect(json.loads(status)["revision"] >= floor, "an acknowledged write is missing")
                with player.restored(snapshot, "--bump-revision", "0") as restored:
                    keys = restored.keys()
                    one, two = (keys.get(b64(key)) for key in (b"one", b"two"))
                    expect(one is None or one["value"] == two["value"], "half a transaction")
        finally:
            ended.set()
            writer.join()


def safe_by_default(player, source, compacted):
    """Without further flags a restore makes another cluster whose revision is far ahead."""
    snapshot = player.place("e.db")
    player.run("etcdctl", "--endpoints", source.endpoint, "snapshot", "save", snapshot)
    with player.restored(snapshot) as restored:
        last, now = source.revision(), restored.revision()
        expect(now == last + 1_000_000_000, f"revision {last} became {now}")
        expect(restored.keys() == source.keys(), "keys differ")
        cluster = lambda server: server.post("cluster/member/list")["header"]["cluster_id"]
        expect(cluster(source) != cluster(restored), "the cluster has the same id")
        env = dict(os.environ, ETCDCTL_API="3")
        watch = subprocess.run([player.options.etcdctl, "--endpoints", restored.endpoint, "watch",
                                "empty", "--rev", str(last)], env=env, timeout=DEADLINE_S,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        expect("compacted" in watch.stdout, f"a watch of the old history: {watch.stdout}")


def three_members(player, source, compacted):
    """Three members that restore the same file are one cluster."""
    snapshot = player.place("e.db")
    player.run("etcdctl", "--endpoints", source.endpoint, "snapshot", "save", snapshot)
    ports = [free_ports(2) for _ in range(3)]
    cluster = ",".join(f"m{n}=http://127.0.0.1:{pair[1]}" for n, pair in enumerate(ports))
    with contextlib.ExitStack() as stack:
        members = []
        for number, pair in enumerate(ports):
            directory, peer = player.place("member"), f"http://127.0.0.1:{pair[1]}"
            player.run("althingctl", "snapshot", "restore", snapshot, "--data-dir", directory,
                       "--name", f"m{number}", "--initial-cluster", cluster,
                       "--initial-advertise-peer-urls", peer, "--bump-revision", "0")
            # Long enough that a busy machine is not taken for a dead leader.
            flags = ["--name", f"m{number}", "--initial-cluster", cluster,
                     "--election-timeout", "5000"]
            members.append(stack.enter_context(
                player.althingd(directory, extra=flags, ports=pair)))
        for member in members:
            member.serving()
        for member in members:
            same_history(source, member, compacted)
        members[0].put([(b"written", b"to one")])
        for member in members:
            expect(b64(b"written") in member.keys(), "a write did not reach every member")


def migrate(player, source, target, busy, *flags):
    """Migrates while `busy` writes, until just before the end."""
    line = [player.options.althingctl, "--endpoints", source.endpoint, "migrate", target.endpoint]
    migration = subprocess.Popen([*line, *flags], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                 text=True)
    printed = []
    try:
        busy()
        for text in migration.stdout:
            printed.append(text)
            if text.startswith("in sync"):
                busy()
                migration.send_signal(signal.SIGINT)
        code = migration.wait(DEADLINE_S)
        expect(code == 0, f"migrate ended with {code}: {printed} {migration.stderr.read()}")
    finally:
        if migration.poll() is None:
            migration.kill()
    expect(any("verified" in text for text in printed), f"migrate printed {printed}")


def migrated(player, source, target, busy):
    """Like `migrate`; both are equal in the end."""
    migrate(player, source, target, busy)
    same_keys(source, target)


def both_ways(player, source, compacted):
    """A running etcd migrates here while it is written, and back again."""
    changes = [0]

    def busy_with(server):
        def busy():
            for _ in range(50):
                changes[0] += 1
                number = changes[0]
                server.put([(b"/busy/%d" % (number % 20), b"%d" % number)])
                server.delete([b"/busy/%d" % ((number + 7) % 20)])
            lease = server.post("lease/grant", TTL=3000 + changes[0])["ID"]
            server.put([(b"/busy/leased", b"%d" % changes[0])], lease)
        return busy

    snapshot = player.place("e.db")
    player.run("etcdctl", "--endpoints", source.endpoint, "snapshot", "save", snapshot)
    with player.restored_etcd(snapshot) as etcd:
        with player.althingd().serving() as member:
            migrated(player, etcd, member, busy_with(etcd))
            line = ("--endpoints", etcd.endpoint, "migrate", member.endpoint, "--once")
            refused = player.run("althingctl", *line, code=1)
            expect("--overwrite" in refused, f"a second migration: {refused}")
            player.run("althingctl", *line, "--overwrite")
            with player.etcd().serving() as back:
                migrated(player, member, back, busy_with(member))


def guarded(player, source, compacted):
    """A source with authentication enabled is migrated only without its users, and knowingly."""
    with player.etcd().serving() as etcd, player.althingd().serving() as member:
        etcd.put([(b"key", b"value")])
        # A login is slow, and slower on a busy machine.
        line = ("--dial-timeout", "60s", "--endpoints", etcd.endpoint, "migrate", member.endpoint,
                "--once")
        etcd.post("auth/user/add", name="root", password="secret")
        etcd.post("auth/role/add", name="root")
        etcd.post("auth/user/grant", user="root", role="root")
        etcd.post("auth/user/add", name="other", password="secret")
        player.run("althingctl", *line)
        etcd.post("auth/enable")
        for user in ((), ("--user", "root:secret"), ("--user", "other:secret")):
            told = player.run("althingctl", *user, *line, "--overwrite", code=1)
            expect("authentication enabled" in told and "--without-auth" in told, told)
        line += ("--overwrite", "--without-auth")
        player.run("althingctl", "--user", "root:secret", *line)
        found = {key: kv["value"] for key, kv in member.keys().items()}
        expect(found == {b64(b"key"): b64(b"value")}, f"migrated were {found}")


def beside_others(player, source, compacted):
    """A prefix is migrated while others write, also from a source that tells a watch too early how
    far it is."""
    snapshot = player.place("e.db")
    player.run("etcdctl", "--endpoints", source.endpoint, "snapshot", "save", snapshot)
    with player.restored_etcd(snapshot) as etcd, player.althingd().serving() as member:
        ended = threading.Event()

        def write():
            number = 0
            while not ended.is_set():
                number += 1
                etcd.put([(b"/others/%d" % (number % 100), b"%d" % number)])

        def busy():
            for number in range(200):
                etcd.put([(b"/data/last", b"%d" % number)])

        writer = threading.Thread(target=write)
        writer.start()
        try:
            migrate(player, etcd, member, busy, "--prefix", "/data/")
        finally:
            ended.set()
            writer.join()
        values = lambda server: {key: kv.get("value") for key, kv
                                 in server.keys(prefix=b"/data/").items()}
        expect(values(etcd) == values(member), "keys differ")
        expect(not member.keys(prefix=b"/others/"), "others' keys were carried over")


def mirrors(player, source, compacted):
    """make-mirror copies what is there and what comes."""
    with player.althingd().serving() as member:
        line = [player.options.althingctl, "--endpoints", source.endpoint, "make-mirror",
                "--prefix", "/leased/", "--dest-prefix", "/copy/", member.endpoint]
        foreseen = player.run("althingctl", *line[1:], "--dry-run")
        count = len(source.keys(prefix=b"/leased/"))
        expect(foreseen.startswith(f"would copy {count} keys to where 0 keys are"), foreseen)
        expect(not member.keys(), "a dry run copied something")
        mirror = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        try:
            def told(server, prefix):
                keys = server.keys(prefix=prefix)
                return {base64.b64decode(key)[len(prefix):]: kv.get("value")
                        for key, kv in keys.items()}

            for change in (lambda: None, lambda: source.put([(b"/leased/new", b"1")]),
                           lambda: source.delete([b"/leased/new"])):
                change()
                end = time.monotonic() + DEADLINE_S
                while told(source, b"/leased/") != told(member, b"/copy/"):
                    expect(time.monotonic() < end, "the mirror differs")
        finally:
            mirror.terminate()
            mirror.wait()


def refusals(player, source, compacted):
    """What is damaged or in the way is refused, and nothing is left behind."""
    snapshot = player.place("e.db")
    player.run("etcdctl", "--endpoints", source.endpoint, "snapshot", "save", snapshot)
    with open(snapshot, "rb") as file:
        whole = file.read()

    def changed(content):
        path = player.place("changed.db")
        with open(path, "wb") as file:
            file.write(content)
        return path

    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1:]
    directory = player.place("restored")
    for content, flags, part in [
            (flipped, (), "expected sha256"), (whole[:-32], (), "snapshot missing hash"),
            (whole[:5000], ("--skip-hash-check",), "shorter"), (b"text", (), "not a snapshot")]:
        text = player.run("althingctl", "snapshot", "restore", changed(content), "--data-dir",
                          directory, *flags, code=1)
        expect(part in text, f"{part!r} is not in {text!r}")
        expect(not os.path.exists(directory), "a refused restore left something behind")
    player.run("althingctl", "snapshot", "restore", changed(whole[:-32]), "--skip-hash-check",
               "--data-dir", directory)
    text = player.run("althingctl", "snapshot", "restore", snapshot, "--data-dir", directory,
                      code=1)
    expect("not empty" in text, text)


def portable(player, source, compacted):
    """What is exported is imported, and differs in nothing."""
    path = player.place("export.json")
    with open(path, "w", encoding="ascii", errors="strict") as file:
        file.write(player.run("althingctl", "--endpoints", source.endpoint, "export"))
    with player.althingd().serving() as member:
        ours = ("--endpoints", member.endpoint)
        player.run("althingctl", *ours, "diff", path, code=1)
        player.run("althingctl", *ours, "import", path)
        expect(player.run("althingctl", *ours, "diff", path) == "", "import left a difference")
        values = lambda keys: {key: kv.get("value") for key, kv in keys.items()}
        expect(values(source.keys()) == values(member.keys()), "keys differ")
        member.put([(b"surplus", b"1")])
        told = player.run("althingctl", *ours, "import", "--dry-run", "--delete", path)
        expect("1 deleted" in told and b64(b"surplus") in member.keys(), told)


def offline(player, source, compacted):
    """A stopped member's file is defragmented, etcd's by its own tool, and serves the same."""
    def taken(directory):
        files = (os.path.join(path, name) for path, _, names in os.walk(directory)
                 for name in names if name in ("db", "store.redb"))
        return sum(os.stat(file).st_blocks for file in files)

    snapshot = player.place("e.db")
    player.run("etcdctl", "--endpoints", source.endpoint, "snapshot", "save", snapshot)
    for program, restored, serve in (
            ("restorer", player.restored_etcd, player.etcd),
            ("althingctl", player.restored, player.althingd)):
        with restored(snapshot) as member:
            last = member.delete([b"/large/%d" % number for number in range(4)])
            member.post("kv/compaction", revision=last, physical=True)
            keys, hashed = member.keys(), member.hash_kv()
        before = taken(member.directory)
        player.run(program, "defrag", "--data-dir", member.directory)
        after = taken(member.directory)
        expect(0 < after <= before, f"{program}: {before} blocks became {after}")
        with serve(member.directory, ports=member.ports).serving() as again:
            expect(again.keys() == keys, f"{program}: keys differ")
            expect(again.hash_kv() == hashed, f"{program}: HashKV differs")


PARTS = [from_etcd, to_etcd, under_load, safe_by_default, three_members, both_ways, guarded,
         beside_others, mirrors, refusals, portable, offline]


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    for name in ("etcd", "etcdctl", "restorer", "althingd", "althingctl"):
        parser.add_argument("--" + name, required=True)
    parser.add_argument("--keys", type=int, default=10_000)
    parser.add_argument("--only")
    options = parser.parse_args()
    Server.ctl = options.althingctl
    passed = failed = 0
    with tempfile.TemporaryDirectory(prefix="althing-") as scratch:
        player = Player(options, scratch)
        with player.etcd().serving() as source:
            compacted = fill(source, options.keys)
            for part in PARTS:
                if options.only not in (None, part.__name__):
                    continue
                began = time.monotonic()
                try:
                    part(player, source, compacted)
                except (Differs, OSError, ValueError, subprocess.TimeoutExpired) as error:
                    failed += 1
                    print(f"FAILED  {part.__name__}: {error}")
                else:
                    passed += 1
                    print(f"ok      {part.__name__} ({time.monotonic() - began:.1f} s)")
                sys.stdout.flush()
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
