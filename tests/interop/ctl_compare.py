#!/usr/bin/env python3
"""Plays the same command lines through etcdctl 3.5 and althingctl and compares every byte.

Usage: ctl_compare.py --etcdctl PATH --althingctl PATH (--endpoint HOST:PORT | --server PATH)
                      [--only WORD] [--wipe]

Both programs talk to the same server (real etcd or althingd): a running one, or one that is started
in a directory of its own for this run. A server that grants no leases is not asked for any. Each
case works below a key prefix of its own, which is emptied and filled again before each program
runs, so that both find the same keys. Compared are stdout, stderr and the exit code. What is
normalised:

- Timings (`took = 2.3ms`), because no two runs take equally long.
- Revisions in cases that write: the second program writes later, so each revision is counted from
  the store's revision before the case.
- Log lines of etcdctl's client library on stderr (`{"level":"warn",...}`) and althingctl's notes
  about endpoints that it could not reach (`Warning: ...`): neither belongs to the contract.
- Errors in the grammar of a line (unknown flag, bad number): etcdctl prints its whole manual and
  the error twice; compared are the exit code and the first line `Error: ...` on stderr,
  where each program names itself.

Cases that delete every key of the server run with --wipe only. Prints a line per failing case and
a last line `N passed, N failed`; exits 1 when a case failed. Needs python 3.8 and nothing else.
"""

import argparse
import contextlib
import json
import os
import pty
import re
import socket
import subprocess
import sys
import tempfile
import threading

TIMEOUT_SECONDS = 30
ROOT = "ctl-compare/"
FORMATS = ["simple", "json", "fields", "protobuf", "table", "hex"]
# Quotes, escapes, control bytes, no UTF-8, HTML's letters, separators, letters far from ASCII.
ODD = b'\x7f\x80\xc3\xa9\xe2\x80\xa8\xf0\x9f\x98\x80\x07\x08\x0b\x1b"\\\xe2\x80\x8b\xc2\xa0 <&>\n\t'


class Case:
    """A command line and how to compare it. `{k}`, `{rev}`, `{lease}` in it are filled in."""

    def __init__(self, line, stdin=b"", keys=(), writes=False, grammar=False, env=None,
                 endpoint=None, leased=False, took=False, wipe=False, name=None):
        self.line = [word if isinstance(word, bytes) else word.encode() for word in line]
        self.stdin = stdin
        self.keys = keys
        self.writes = writes
        self.grammar = grammar
        self.env = env or {}
        self.endpoint = endpoint
        self.leased = leased
        self.took = took
        self.wipe = wipe
        words = b" ".join(self.line).decode("utf-8", "backslashreplace")
        text = "" if not stdin else " <<< %r" % stdin[:60]
        where = "" if endpoint is None else " @%s" % endpoint
        self.name = name or "%s%s%s %s" % (words, text, where, env or "")


def in_format(line, form):
    """The command line with the flags of an output format."""
    return list(line) + (["--hex"] if form == "hex" else ["-w", form])


def txn(*parts):
    """The text of a transaction from its three parts."""
    return "".join("\n".join(part) + ("\n\n" if part else "\n") for part in parts).encode()


STOCK = [(b"a", b"1"), (b"b", b"2"), (b"c", ODD), (ODD, b"odd"), (b"d", b"")]


def put_cases():
    for form in FORMATS:
        if form in ("simple", "json", "fields", "hex"):
            yield Case(in_format(["put", "{k}a", "v"], form), writes=True)
            yield Case(in_format(["put", "{k}a", "v", "--prev-kv"], form), keys=STOCK, writes=True)
            yield Case(in_format(["put", b"{k}" + ODD, "v", "--prev-kv"], form), keys=STOCK,
                       writes=True)
        yield Case(in_format(["put", "", "v"], form), name="put '' %s" % form) \
            if form != "table" else Case(in_format(["put", "{k}a", "v"], form))
    for flags in (["--ignore-value"], ["--ignore-value", "--prev-kv"]):
        yield Case(["put", "{k}a"] + flags, keys=STOCK, writes=True)
    yield Case(["put", "{k}a", "v", "--lease", "{lease}", "--prev-kv"], keys=STOCK, writes=True,
               leased=True)
    yield Case(["put", "{k}a", "v", "--ignore-lease"], keys=STOCK, writes=True)
    yield Case(["put", "{k}a", "x", "more", "words"], writes=True)
    yield Case(["put", "--", "{k}-a", "-b"], writes=True)
    yield Case(["put", "{k}a", ""], writes=True)
    yield Case(["put", "{k}a"], stdin=b"from stdin\n\xff", writes=True)
    yield Case(["pu", "{k}a", "prefix of a command"], writes=True)
    for line in (["put"], ["put", "{k}a"], ["put", "{k}a", "b", "--ignore-value"],
                 ["put", "{k}none", "--ignore-value"], ["put", "{k}none", "v", "--ignore-lease"],
                 ["put", "{k}a", "v", "--ignore-lease", "--lease", "5"]):
        yield Case(line)
    for lease in ("zz", "", "0x1", "1_0", "8000000000000000", "-1", "1", "7fffffffffffffff"):
        yield Case(["put", "{k}a", "v", "--lease", lease])
    yield Case(["put", "{k}a"], stdin=b"x" * 1600000, name="put with a value of 1.6 MB")
    yield Case(["put", "{k}a"], stdin=b"x" * 3000000, name="put with a value of 3 MB")


def get_cases():
    for form in FORMATS:
        for line in (["get", "{k}a"], ["get", "{k}none"], ["get", b"{k}" + ODD],
                     ["get", "{k}", "--prefix"], ["get", "{k}a", "{k}c"],
                     ["get", "{k}", "--prefix", "--limit", "2"],
                     ["get", "{k}", "--prefix", "--keys-only"],
                     ["get", "{k}", "--prefix", "--count-only"],
                     ["get", "{k}", "--prefix", "--print-value-only"],
                     ["get", "{k}b", "--from-key", "--limit=3"], ["get", "{k}d"],
                     ["get", ""], ["get", "", "--prefix", "--limit=1"],
                     ["get", "", "--from-key", "--limit=1"], ["get", "{k}a", "--rev=1"]):
            yield Case(in_format(line, form), keys=STOCK)
    for target in ("", "key", "CREATE", "Modify", "VALUE", "VERSION", "bogus"):
        for order in ("", "ASCEND", "descend", "up"):
            yield Case(["get", "{k}", "--prefix", "--sort-by", target, "--order", order],
                       keys=STOCK)
    for flags in (["--consistency=s"], ["--consistency=l"], ["--consistency=q"],
                  ["--rev=99999999"], ["--rev=-5"], ["--limit=-1"], ["--limit=0x1"],
                  ["--limit=+1"], ["--limit=1_0"], ["--prefix=T"], ["--prefix=false"],
                  ["--prefix", "--from-key"], ["--keys-only", "--count-only"], ["-w", "bogus"],
                  ["-wjson"], ["-w=fields"], ["--write-out=json", "--write-out", "fields"],
                  ["--write-out="], ["--command-timeout=10s"], ["--dial-timeout=1m0.5s"],
                  ["--command-timeout=0s"], ["--command-timeout=-1s"], ["--cert="],
                  ["--cert=none.pem"], ["--key=none.pem"], ["--cacert=none.pem"],
                  ["--insecure-skip-tls-verify"], ["--user", "root:x"],
                  ["--user=root", "--password=x"]):
        yield Case(["get", "{k}a"] + flags, keys=STOCK)
    for line in (["get"], ["get", "{k}a", "{k}b", "more"], ["ge", "{k}a"],
                 ["get", "--prefix", "{k}a", "{k}b"], ["get", "--from-key", "{k}a", "{k}b"],
                 ["get", "{k}b", "{k}a"], ["get", "{k}", "--prefix", "--keys-only", "--limit=1"]):
        yield Case(line, keys=STOCK)
    for env in ({"WRITE_OUT": "json"}, {"HEX": "true"}, {"COMMAND_TIMEOUT": "3s"}):
        yield Case(["get", "{k}", "--prefix"], keys=STOCK, env=env)


def del_cases():
    for form in ("simple", "json", "fields", "hex"):
        for line in (["del", "{k}a"], ["del", "{k}a", "--prev-kv"],
                     ["del", "{k}", "--prefix", "--prev-kv"], ["del", "{k}a", "{k}c", "--prev-kv"],
                     ["del", "{k}none", "--prev-kv"]):
            yield Case(in_format(line, form), keys=STOCK, writes=True)
    yield Case(["del", "{k}none", "-w", "protobuf"])
    yield Case(["del", "{k}none", "-w", "table"])
    for line in (["del"], ["del", "a", "b", "c"], ["del", "--prefix", "--from-key", "a"],
                 ["del", "--prefix", "a", "b"], ["del", "--from-key", "a", "b"], ["del", ""],
                 ["del", "{k}a", "--prefix=false"], ["del", "{k}b", "{k}a"]):
        yield Case(line)
    yield Case(["del", "", "--prefix"], writes=True, wipe=True, keys=STOCK)
    yield Case(["del", "", "--from-key", "--prev-kv"], writes=True, wipe=True, keys=STOCK)


def txn_cases():
    many = txn(['val("{k}a") = "1"', 'ver("{k}b") > "0"'],
               ["put {k}x y --prev-kv", "get {k} --prefix", "del {k}b --prev-kv", "get {k}none"],
               ["get {k}a"])
    reads = txn(['mod("{k}none") != "0"'], [], ["get {k}a", "get {k} --prefix --keys-only"])
    for form in ("simple", "json", "fields", "hex"):
        yield Case(in_format(["txn"], form), stdin=many, keys=STOCK, writes=True)
        yield Case(in_format(["txn", "-i"], form), stdin=many, keys=STOCK, writes=True)
    for form in FORMATS:
        yield Case(in_format(["txn"], form), stdin=reads, keys=STOCK)
        yield Case(in_format(["txn"], form), stdin=b"\n\n\n")
    for target, value in (("ver", "1"), ("version", "+1"), ("c", "0"), ("create", "-1"),
                          ("m", "0"), ("mod", "x"), ("val", "1"), ("value", "\\x31"),
                          ("bogus", "1"), ("", "1"), ("ver ", "1"), ("mod", ""), ("mod", "1_0")):
        for operator in ("=", "!=", "<", ">"):
            yield Case(["txn"], keys=STOCK, stdin=txn(
                ['%s("{k}a") %s "%s"' % (target, operator, value)], ["get {k}a"], ["get {k}b"]))
    for compare in ("bogus", "val", "val(", 'val("a"', 'val("a") =', 'val("a")="b"', "val(a) = b",
                    'val("a") = b', 'val( "{k}a") = "1"', 'val("{k}a" ) = "1"',
                    'val("{k}a")  =  "1"', "val(`{k}a`) = `1`", 'val("{k}a") = "1" more',
                    'val("\\q") = "1"', 'val("{k}a") = "\\q"', 'val("{k}a") = "1'):
        yield Case(["txn"], stdin=txn([compare], ["get {k}a"], ["get {k}b"]), keys=STOCK)
    for request in ("bogus x", "put", "put a", "put {k}a b --lease=zz", "put {k}a b --lease=1",
                    "get {k}a --order=x", "get {k}a --sort-by=x", "get {k}a --consistency=x",
                    "get {k}a {k}b --prefix", "del {k}a {k}b --prefix",
                    'put {k}a "x\\q"', 'get "{k}a"', "get {k}a -- ",
                    "ge {k}a --rev=1", "get {k}a --rev 99999999", "get {k}a'b'", "get ''"):
        yield Case(["txn"], stdin=txn([], [request], []), keys=STOCK)
    for request in ("put {k}a b --bogus", "get {k}a --limit=x", "get {k}a -w json"):
        yield Case(["txn"], stdin=txn([], [request], []), grammar=True)
    for requests in (["put {k}a 1", "put {k}a 2"], ['put {k}x "b c"', 'put {k}y "x\\ty"'],
                     ["put {k}q a'b'c", "get {k}q"], ['put {k}k "open', "get {k}k"],
                     ["put -- {k}a -b", "get {k}a"], ["pu {k}a b", "de {k}b"]):
        yield Case(["txn"], stdin=txn([], requests, []), keys=STOCK, writes=True)
    for stdin in (b"", b"\n", b"\n\n", b"\nget a", b'mod("a") = "0"\n\nput {k}a b\n\n'):
        yield Case(["txn"], stdin=stdin)
    yield Case(["txn", "x"])


def other_cases():
    for form in ("simple", "json", "fields", "hex"):
        yield Case(in_format(["compaction", "{rev}"], form), keys=STOCK, writes=True)
    yield Case(["compaction", "{rev}", "--physical"], keys=STOCK, writes=True)
    for line in (["compaction"], ["compaction", "1", "2"], ["compaction", "x"],
                 ["compaction", "0"], ["compaction", "--", "-1"], ["compaction", "99999999"],
                 ["comp", "99999999999999999999"], ["compaction", "1", "--physical"]):
        yield Case(line, keys=STOCK)
    for form in FORMATS:
        for line in (["member", "list"], ["mem", "li", "ignored"], ["endpoint", "status"],
                     ["endpoint", "hashkv"], ["endpoint", "status", "--cluster"],
                     ["end", "hash", "--cluster", "--rev=0"], ["member", "list", "--hex"]):
            yield Case(in_format(line, form))
        for line in (["endpoint", "health"], ["endpoint", "health", "--cluster", "ignored"]):
            yield Case(in_format(line, form), took=True)
        for line in (["endpoint", "health"], ["endpoint", "status"], ["endpoint", "hashkv"]):
            for where in ("127.0.0.1:1", "{here},127.0.0.1:1"):
                yield Case(in_format(line + ["--command-timeout=300ms"], form), endpoint=where,
                           took=True)
    yield Case(["endpoint", "hashkv", "--rev=99999999"])
    yield Case(["endpoint", "hashkv", "--rev=1"])
    for where in ("127.0.0.1:1", "", "http://{here}", " {here}", "127.0.0.1:1,{here}",
                  "{here},http://{here}", "https://{here}"):
        for line in (["get", "{k}a"], ["put", "{k}a", "v"], ["member", "list"]):
            yield Case(line + ["--command-timeout=700ms"], endpoint=where)
    for word in ("--limit=x", "--limit=99999999999999999999", "--limit=", "--limit=-",
                 "--prefix=maybe", "--bogus", "-z", "-5", "--=x", "---x", "--pre", "--limit",
                 "-w", "--dial-timeout=3", "--dial-timeout=abc", "--command-timeout=",
                 "--dial-timeout=3x", "--command-timeout=99999999999h", "--debug=x", "-zw"):
        yield Case(["get", "{k}a", word], grammar=True)
    for line in (["bogus"], ["put", "a", "b", "--lease"], ["compaction", "-1"], ["-x"],
                 ["endpoint", "status", "--bogus"], ["txn", "--interactive=x"]):
        yield Case(line, grammar=True)


class Player:
    """Prepares the server for a case and plays it with both programs."""

    def __init__(self, options):
        self.etcdctl = options.etcdctl
        self.programs = {"etcdctl": options.etcdctl, "althingctl": options.althingctl}
        self.here = options.endpoint
        self.number = 0

    def run(self, program, prefix, case, words):
        path = self.programs[program]
        env = {name: value for name, value in os.environ.items()
               if not name.startswith(("ETCDCTL_", "ALTHINGCTL_"))}
        env.update({"%s_%s" % (prefix, name): value for name, value in case.env.items()})
        fill = lambda text: self.fill(text, words)
        where = fill((case.endpoint if case.endpoint is not None else self.here).encode())
        line = [path.encode(), b"--endpoints=" + where] + [fill(word) for word in case.line]
        done = subprocess.run(line, input=fill(case.stdin), env=env, timeout=TIMEOUT_SECONDS,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
        return done.stdout, done.stderr, done.returncode

    @staticmethod
    def fill(text, words):
        for name, value in words.items():
            text = text.replace(b"{%s}" % name.encode(), value.encode())
        return text

    def admin(self, *line, stdin=b""):
        done = subprocess.run([self.etcdctl, "--endpoints=" + self.here, "-w", "json"]
                              + list(line), input=stdin, check=True, stdout=subprocess.PIPE,
                              timeout=TIMEOUT_SECONDS)
        return json.loads(done.stdout)

    def prepare(self, case, words):
        """Empties the case's prefix, writes its keys; gives the revision before its writes."""
        prefix = words["k"].encode()
        self.admin("del", "--prefix", b"" if case.wipe else prefix)
        base = self.admin("get", prefix)["header"]["revision"]
        for key, value in case.keys:
            self.admin("put", prefix + key, stdin=value) if value else \
                self.admin("put", prefix + key, "")
        words["rev"] = str(base + len(case.keys))
        return base

    def results(self, case):
        """What each program made of the case, normalised."""
        self.number += 1
        words = {"k": "%s%d/" % (ROOT, self.number), "here": self.here, "lease": ""}
        if case.leased:
            words["lease"] = "%x" % self.admin("lease", "grant", "600")["ID"]
        results = []
        base = None
        for program, prefix in (("etcdctl", "ETCDCTL"), ("althingctl", "ALTHINGCTL")):
            if base is None or case.writes:
                base = self.prepare(case, words)
            result = self.run(program, prefix, case, words)
            results.append(normalised(result, case, base if case.writes else None))
        self.admin("del", "--prefix", words["k"])
        return results


def normalised(result, case, base):
    """The result without what must differ between two runs."""
    stdout, stderr, code = result
    stderr = b"".join(line for line in stderr.splitlines(keepends=True)
                      if not line.startswith((b'{"level":', b"Warning: ")))
    if case.grammar:
        errors = [line for line in stderr.split(b"\n") if line.startswith(b"Error: ")]
        return b"", [line.replace(b'"althingctl"', b'"etcdctl"') for line in errors[:1]], code
    if base is not None:
        counted = lambda found: found.group(1) + b"base+%d" % (int(found.group(2)) - base)
        stdout = re.sub(rb'("(?:create_|mod_)?revision":)(\d+)', counted, stdout)
        stdout = re.sub(rb'("\w*Revision" : )(\d+)', counted, stdout)
        stdout = re.sub(rb"(compacted revision )(\d+)", counted, stdout)
    if case.took:
        stdout = re.sub(rb"\d[\d.]*(ns|\xc2\xb5s|ms|s)\b", b"TOOK", stdout)
        stdout = re.sub(rb"-+", b"-", re.sub(rb" +", b" ", stdout))
    return stdout, stderr, code


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


def on_terminal(player, answer):
    """What althingctl does when every key shall go and `answer` is typed at a terminal."""
    path = player.programs["althingctl"]
    parent, child = pty.openpty()
    line = [path, "--endpoints=127.0.0.1:1", "--command-timeout=1ms", "del", "", "--prefix"]
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
    yield ("a refusal at the terminal deletes nothing", "etcdctl does not ask",
           on_terminal(player, b"no\n")[1] == 5)
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


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def running(server):
    """Starts a server on free ports and gives its endpoint once it says that it serves."""
    client, peer = ["http://127.0.0.1:%d" % free_port() for _ in range(2)]
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


def grants_leases(options):
    """Whether the server grants leases."""
    line = [options.etcdctl, "--endpoints", options.endpoint, "lease", "grant", "60"]
    return subprocess.run(line, capture_output=True, check=False).returncode == 0


def play(options):
    """Plays every case and prints what differs. The exit code."""
    player = Player(options)
    leases = grants_leases(options)
    passed = failed = 0
    for cases in (put_cases, get_cases, del_cases, txn_cases, other_cases):
        for case in cases():
            if options.only not in case.name or (case.wipe and not options.wipe):
                continue
            if case.leased and not leases:
                continue
            difference = compare(player, case)
            passed, failed = (passed + 1, failed) if difference is None else (passed, failed + 1)
            if difference is not None:
                print("FAILED %s: %s" % (case.name, difference), flush=True)
    for name, reason, holds in ours_alone(player):
        if options.only not in name:
            continue
        passed, failed = (passed + 1, failed) if holds else (passed, failed + 1)
        if not holds:
            print("FAILED %s (%s)" % (name, reason), flush=True)
    print("%d passed, %d failed" % (passed, failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
