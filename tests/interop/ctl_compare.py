#!/usr/bin/env python3
"""Plays the same command lines through etcdctl 3.5 and althingctl and compares every byte.

Usage: ctl_compare.py --etcdctl PATH --althingctl PATH (--endpoint HOST:PORT | --server PATH)
                      [--only WORD] [--wipe]

Both programs talk to the same server (real etcd or althingd): a running one, or one that is started
in a directory of its own for this run. Each case works below a key prefix of its own, which is
emptied and filled again before each program runs, so that both find the same keys. Compared are
stdout, stderr and the exit code. What is normalised:

- Timings (`took = 2.3ms`), because no two runs take equally long; what a lease has left.
- Ids of leases that a program grants itself: the server chooses them.
- Revisions in cases that write: the second program writes later, so each revision is counted from
  the store's revision before the case.
- Log lines of etcdctl's client library on stderr (`{"level":"warn",...}`) and althingctl's notes
  about endpoints that it could not reach (`Warning: ...`): neither belongs to the contract.
- Errors in the grammar of a line (unknown flag, bad number): etcdctl prints its whole manual and
  the error twice; compared are the exit code and the first line `Error: ...` on stderr,
  where each program names itself.

The cases are in ctl_cases.py. Programs that last (watch, lock, elect, keep-alive) are in
ctl_live.py, and what only althingctl does with them in ctl_ours.py. Cases that delete every key of
the server run with --wipe only. Prints a line per failing case and a last line `N passed, N
failed`; exits 1 when a case failed. Needs python 3.9 and nothing else.
"""

import argparse
import contextlib
import json
import os
import pty
import re
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from itertools import chain

import ctl_cases
import ctl_live
import ctl_members
import ctl_ours
from ports import free_ports
from ctl_cases import LEASE, ROOT, Case, normalised

TIMEOUT_SECONDS = 30
ALL = ctl_cases.ALL + (ctl_members.member_cases,)
LEASE_SECONDS = 600


class Player:
    """Prepares the server for a case and plays it with both programs."""

    def __init__(self, options):
        self.etcdctl = options.etcdctl
        self.programs = {"etcdctl": options.etcdctl, "althingctl": options.althingctl}
        self.here = options.endpoint
        self.is_althingd = os.path.basename(options.server or "") == "althingd"
        self.number = 0

    @staticmethod
    def environment(prefix, variables):
        """Our environment with a program's own variables."""
        env = {name: value for name, value in os.environ.items()
               if not name.startswith(("ETCDCTL_", "ALTHINGCTL_"))}
        env.update({"%s_%s" % (prefix, name): value for name, value in variables.items()})
        return env

    def place(self):
        """A new key prefix for a case, with nothing below it."""
        self.number += 1
        prefix = "%s%d/" % (ROOT, self.number)
        self.admin("del", "--prefix", prefix)
        revision = self.admin("get", prefix)["header"]["revision"]
        return {"k": prefix, "rev": str(revision), "next": str(revision + 1)}

    def run(self, program, prefix, case, words, timeout=TIMEOUT_SECONDS):
        path = self.programs[program]
        env = self.environment(prefix, case.env)
        fill = lambda text: self.fill(text, words)
        where = fill((case.endpoint if case.endpoint is not None else self.here).encode())
        line = [path.encode(), b"--endpoints=" + where] + [fill(word) for word in case.line]
        done = subprocess.run(line, input=fill(case.stdin), env=env, timeout=timeout,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
        return done.stdout, done.stderr, done.returncode

    @staticmethod
    def fill(text, words):
        for name, value in words.items():
            text = text.replace(b"{%s}" % name.encode(), value.encode())
        return text

    def admin(self, *line, stdin=b""):
        done = subprocess.run([self.etcdctl, "--endpoints=" + self.here, "-w", "json",
                               "--command-timeout=%ds" % TIMEOUT_SECONDS]
                              + list(line), input=stdin, check=True, stdout=subprocess.PIPE,
                              timeout=TIMEOUT_SECONDS)
        return json.loads(done.stdout)

    def post(self, path, **body):
        """The answer of the JSON gateway, or None if it refuses."""
        request = urllib.request.Request("http://%s%s" % (self.here, path),
                                         json.dumps(body).encode())
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as refusal:
            refusal.close()
            return None

    def grant(self, seconds):
        """Grants the lease again and returns its id as the programs take it."""
        self.post("/v3/lease/revoke", ID=LEASE)
        if self.post("/v3/lease/grant", TTL=seconds, ID=LEASE) is None:
            raise RuntimeError("the server grants no lease")
        return "%x" % LEASE

    def prepare(self, case, words):
        """Empties the case's prefix, writes its keys; returns the revision before that."""
        prefix = words["k"].encode()
        if case.leased:
            words["lease"] = self.grant(LEASE_SECONDS)
        self.admin("del", "--prefix", b"" if case.wipe else prefix)
        base = self.admin("get", prefix)["header"]["revision"]
        for key, value in case.keys:
            self.admin("put", prefix + key, stdin=value) if value else \
                self.admin("put", prefix + key, "")
        if case.attached:
            self.admin("put", prefix + b"held", "v", "--lease", words["lease"])
        words["rev"] = str(base + len(case.keys))
        return base

    def results(self, case):
        """What each program made of the case, normalised."""
        self.number += 1
        words = {"k": "%s%d/" % (ROOT, self.number), "here": self.here, "lease": ""}
        results = []
        base = None
        for program, prefix in (("etcdctl", "ETCDCTL"), ("althingctl", "ALTHINGCTL")):
            if base is None or case.writes:
                base = self.prepare(case, words)
            result = self.run(program, prefix, case, words)
            results.append(normalised(result, case, base if case.writes else None))
        self.admin("del", "--prefix", words["k"])
        return results


def compare(player, case):
    """None, or what differs. A server may write on its own (its database grows), so a case that
    only reads is played again before its difference is believed."""
    for _attempt in range(1 if case.writes else 3):
        theirs, ours = player.results(case)
        if theirs == ours:
            return None
    names = ("stdout", "stderr", "exit code")
    parts = ["%s: etcdctl %r, althingctl %r" % (name, a, b)
             for name, a, b in zip(names, theirs, ours) if a != b]
    return "; ".join(parts)


def on_terminal(player, answer, flags=()):
    """What althingctl does when it has to delete all keys and `answer` is typed at a terminal."""
    path = player.programs["althingctl"]
    parent, child = pty.openpty()
    line = [path, "--endpoints=127.0.0.1:1", "--command-timeout=1ms", "del", "", "--prefix"]
    line += flags
    process = subprocess.Popen(line, stdin=child, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    os.write(parent, answer)
    _stdout, stderr = process.communicate(timeout=TIMEOUT_SECONDS)
    os.close(parent)
    os.close(child)
    return stderr, process.returncode


def ours_alone(player):
    """Where althingctl goes its own way on purpose: a name, the reason, and whether it does."""
    def althingctl(line, stdin=b"", env=None, prefix="ALTHINGCTL"):
        case = Case(line, stdin=stdin, env=env)
        return player.run("althingctl", prefix, case, {"k": ROOT, "here": player.here})

    words = b'mod("a") ~ "0"\n\n\n\n'
    yield ("an unknown operator is refused", "etcdctl panics",
           althingctl(["txn"], words)[2] == 3)
    lease = b'lease("{k}a") = "0"\n\n\n\n'
    yield ("leases are compared", "etcdctl panics",
           althingctl(["txn"], lease)[0] in (b"SUCCESS\n", b"FAILURE\n"))
    quoted = b"\nput '{k}a' 'b c'\nget {k}a\n\n\n"
    yield ("single quotes keep every letter", "etcdctl cuts at the number of words",
           althingctl(["txn"], quoted)[0].endswith(ROOT.encode() + b"a\nb c\n"))
    yield ("help inside a transaction is refused", "etcdctl hangs",
           althingctl(["txn"], b"\nget a -h\n\n\n")[2] == 3)
    before = player.admin("get", ROOT)["header"]["revision"]
    refused = althingctl(["put", "{k}a", "v", "-w", "table"])[2] == 4
    after = player.admin("get", ROOT)["header"]["revision"]
    yield ("a format that does not exist is refused before the write", "etcdctl writes first",
           refused and before == after)
    player.admin("put", ROOT + "new", "v")
    new = player.admin("get", ROOT + "new")["header"]["revision"]
    found = althingctl(["get", ROOT, "--prefix", "--print-value-only", "--min-mod-rev=%d" % new])
    yield ("revisions are filtered", "flags of etcdctl 3.6", found == (b"v\n", b"", 0))
    out = althingctl(["get", ROOT, "--min-create-rev=5", "--max-create-rev=4"])
    yield ("an empty span of revisions is refused", "flags of etcdctl 3.6",
           out == (b"", b"Error: getMinCreateRev(=5) > getMaxCreateRev(=4)\n", 4))
    out = althingctl(["del", "--range", "{k}new", "{k}nex"])
    yield ("--range is understood", "a flag of later etcdctl 3.5", out == (b"1\n", b"", 0))
    out = althingctl(["get", ROOT, "-w", "simple"], env={"WRITE_OUT": "json"})
    yield ("a flag wins over its variable", "etcdctl refuses both together", out[2] == 0)
    out = althingctl(["get", ROOT], env={"WRITE_OUT": "json"}, prefix="ETCDCTL")
    yield ("etcdctl's variables are honoured", "for a smooth change", out[0][:1] == b"{")
    yield ("version names both versions", "the program's name is its own",
           re.match(rb"althingctl version: \S+\nAPI version: 3\.\d+\n$",
                    althingctl(["version"])[0]) is not None)
    refused = [althingctl(["lease", "revoke", "7b", "-w", form])[1]
               for form in ("table", "protobuf")]
    yield ("lease revoke refuses a format before it revokes", "etcdctl revokes first",
           [text.split()[1] for text in refused] == [b"table", b"protobuf"])
    refused = althingctl(["lease", "grant", "60", "-w", "table"])
    yield ("lease grant refuses a format before it grants", "etcdctl grants first",
           refused == (b"", b"Error: table not supported as output format\n", 4))
    for line in (["lease", "list"], ["lease", "timetolive", "5"], ["lease", "keep-alive", "5"]):
        case = Case(line + ["--command-timeout=200ms"], endpoint="127.0.0.1:1")
        _out, err, code = player.run("althingctl", "ALTHINGCTL", case, {})
        yield ("%s gives up at its time" % " ".join(line), "etcdctl waits for ever, or says that "
               "the lease is gone", (code, err.split(b"\n")[-2]) ==
               (2, b"Error: context deadline exceeded"))
    yield ("put takes either --lease or --ttl", "ours alone",
           althingctl(["put", "{k}a", "v", "--ttl=5s", "--lease=5"])[2] == 128)
    yield ("put --ttl takes whole seconds", "ours alone",
           [althingctl(["put", "{k}a", "v", "--ttl", ttl])[2]
            for ttl in ("0s", "1500ms", "-1s", "x", "5")] == [128, 128, 128, 1, 1])
    yield ("put --ttl in a transaction is refused", "ours alone",
           althingctl(["txn"], b"\nput a b --ttl=5s\n\n\n")[2] == 3)
    yield ("del --dry-run in a transaction is refused", "ours alone",
           althingctl(["txn"], b"\ndel {k}a --dry-run\n\n\n")[2] == 3)
    yield ("downgrade takes one version", "etcdctl 3.5 lacks it",
           [althingctl(["downgrade"] + line)[1:] for line in
            (["validate"], ["enable", "3.6", "x"], ["enable", ""])] ==
           [(b"Error: %s\n" % why, 128) for why in
            (b"TARGET_VERSION not provided", b"too many arguments",
             b"target version not provided")])
    yield ("completion knows four shells", "etcdctl 3.5 lacks it",
           [althingctl(["completion"] + line)[2] for line in
            (["bash"], ["zsh"], ["fish"], ["powershell"], ["sh"], [])] == [0] * 4 + [1] * 2)
    yield ("doctor takes two formats", "ours alone",
           [althingctl(["doctor", "-w", form])[2] for form in ("table", "fields")] == [4] * 2)
    yield ("watch takes either --once or --count", "ours alone",
           [althingctl(["watch", "a"] + flags)[2] for flags in
            (["--once", "--count=2"], ["--count=-1"], ["-i", "--once"])] == [128] * 3)
    yield ("a refusal at the terminal deletes nothing", "etcdctl does not ask",
           on_terminal(player, b"no\n")[1] == 5)
    yield ("--yes asks nobody at the terminal", "etcdctl does not ask",
           b"Type" not in on_terminal(player, b"", ["--yes"])[0])
    yield ("consent at the terminal goes on", "etcdctl does not ask",
           b"deadline" in on_terminal(player, b"yes\n")[0])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--etcdctl", required=True, help="path of etcdctl 3.5")
    parser.add_argument("--althingctl", required=True, help="path of althingctl")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--endpoint", help="HOST:PORT of a server for tests")
    where.add_argument("--server", help="path of etcd or althingd, to be started for this run")
    parser.add_argument("--only", default="", help="play the cases whose name holds this word")
    parser.add_argument("--wipe", action="store_true", help="also cases that delete every key")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        if options.server:
            options.endpoint = stack.enter_context(running(options.server))
        return play(options)


@contextlib.contextmanager
def running(server):
    """Starts a server on free ports and returns its endpoint once it serves."""
    client, peer = ["http://127.0.0.1:%d" % port for port in free_ports(2)]
    with tempfile.TemporaryDirectory() as scratch:
        process = subprocess.Popen(
            [server, "--data-dir", os.path.join(scratch, "data"),
             "--listen-client-urls", client, "--advertise-client-urls", client,
             "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
             "--initial-cluster", "default=" + peer],
            stderr=subprocess.PIPE)
        try:
            for line in process.stderr:
                if b"ready to serve client requests" in line:
                    break
            else:
                sys.exit("%s ended before it served" % server)
            drain = threading.Thread(target=process.stderr.read, daemon=True)
            drain.start()
            yield client.removeprefix("http://")
        finally:
            process.terminate()
            process.wait()


def play(options):
    """Plays every case and prints what differs; returns the exit code."""
    player = Player(options)
    counts = {True: 0, False: 0}

    def count(name, difference):
        counts[difference is None] += 1
        if difference is not None:
            print("FAILED %s: %s" % (name, difference), flush=True)

    # So that the first revision is compacted, whichever cases are played.
    player.admin("put", ROOT, "v")
    player.admin("put", ROOT, "v")
    player.post("/v3/kv/compaction", revision=player.admin("get", ROOT)["header"]["revision"])
    for case in (case for cases in ALL for case in cases()):
        if options.only in case.name and (options.wipe or not case.wipe):
            try:
                count(case.name, compare(player, case))
            except (RuntimeError, subprocess.SubprocessError) as error:
                count(case.name, str(error))
    for name, reason, holds in ours_alone(player):
        if options.only in name:
            count(name, None if holds else reason)
    for name, test in chain(ctl_live.watch_tests(), ctl_live.lasting_tests(),
                            ctl_members.member_tests(), ctl_ours.tests()):
        if options.only in name:
            count(name, test(player))
    print("%d passed, %d failed" % (counts[True], counts[False]))
    return 1 if counts[False] else 0


if __name__ == "__main__":
    sys.exit(main())
