"""The command lines that ctl_compare.py plays through both programs and that end by themselves, and
what of a result is compared."""

import base64
import re

ROOT = "ctl-compare/"
# The id of a case's lease; fixed, so that both programs find the same one.
LEASE = 0x7a1e
FORMATS = ["simple", "json", "fields", "protobuf", "table", "hex"]
# Quotes, escapes, control bytes, invalid UTF-8, HTML's letters, separators, exotic letters.
ODD = b'\x7f\x80\xc3\xa9\xe2\x80\xa8\xf0\x9f\x98\x80\x07\x08\x0b\x1b"\\\xe2\x80\x8b\xc2\xa0 <&>\n\t'


class Case:
    """A command line and how to compare it. `{k}`, `{rev}`, `{lease}` in it are filled in.

    leased: there is a lease, and if attached, key `{k}held` hangs on it; ids: the program makes ids
    of its own, which are blotted out; left: the time that a lease has left is blotted out."""

    def __init__(self, line, stdin=b"", keys=(), writes=False, grammar=False, env=None,
                 endpoint=None, leased=False, took=False, wipe=False, name=None,
                 attached=False, ids=False, left=False):
        self.attached = attached
        self.ids = ids
        self.left = left
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


def normalised(result, case, base):
    """The result without what must differ between two runs."""
    stdout, stderr, code = result
    stderr = b"".join(line for line in stderr.splitlines(keepends=True)
                      if not line.startswith((b'{"level":', b"Warning: ")))
    stderr = stderr.replace(b"ALTHINGCTL_WATCH", b"ETCDCTL_WATCH")
    if case.grammar:
        errors = [line for line in stderr.split(b"\n") if line.startswith(b"Error: ")]
        return b"", [line.replace(b'"althingctl"', b'"etcdctl"') for line in errors[:1]], code
    if base is not None:
        counted = lambda found: found.group(1) + b"base+%d" % (int(found.group(2)) - base)
        stdout = re.sub(rb'("(?:create_|mod_)?revision":)(\d+)', counted, stdout)
        stdout = re.sub(rb'("\w*Revision" : )(\d+)', counted, stdout)
        stdout = re.sub(rb"(compacted revision )(\d+)", counted, stdout)
    if case.ids:
        stdout = without_ids(stdout)
    if case.left:
        seconds = rb"(remaining\(|\"ttl\":|\"TTL\" : )(?:59\d|600)\b"
        stdout = re.sub(seconds, rb"\1LEFT", stdout)
    if case.took:
        stdout = re.sub(rb"\d[\d.]*(ns|\xc2\xb5s|ms|s)\b", b"TOOK", stdout)
        stdout = re.sub(rb"-+", b"-", re.sub(rb" +", b" ", stdout))
    return stdout, stderr, code


def without_ids(stdout):
    """The output without the ids of leases, which the server chooses. Zeros in front are not
    printed."""
    plain = lambda found: b'"key":"%s"' % base64.b64decode(found.group(1))
    stdout = re.sub(rb'"key":"([^"]*)"', plain, stdout)
    stdout = re.sub(rb'("(?:ID|id|lease)":)[1-9]\d*', rb"\1ID", stdout)
    stdout = re.sub(rb'("(?:ID|Lease)" : )[1-9]\d*', rb"\1ID", stdout)
    return re.sub(rb"\b[0-9a-f]{13,16}\b", b"ID", stdout)


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


def lease_cases():
    """Commands whose etcdctl acts and then refuses a format are in ctl_compare's `ours_alone`."""
    for form in FORMATS:
        if form != "table":
            yield Case(in_format(["lease", "grant", "60"], form), ids=True)
            yield Case(in_format(["lease", "keep-alive", "--once", "{lease}"], form), leased=True)
        if form not in ("table", "protobuf"):
            yield Case(in_format(["lease", "revoke", "{lease}"], form), leased=True, writes=True,
                       attached=True)
        for line in (["lease", "timetolive", "{lease}"], ["lease", "timetolive", "7b"],
                     ["lease", "timetolive", "{lease}", "--keys"],
                     ["lease", "timetolive", "7b", "--keys"], ["lease", "list"]):
            yield Case(in_format(line, form), leased=True, attached=True, left=True)
    yield Case(["lease", "grant", "0"], ids=True)
    yield Case(["lease", "grant", "--", "-1"], ids=True)
    for line in (["grant"], ["grant", "x"], ["grant", "1", "2"], ["grant", "9999999999"],
                 ["grant", "0x10"], ["grant", "99999999999999999999"], ["revoke"],
                 ["revoke", "zz"], ["revoke", "7b"], ["revoke", "0"], ["revoke", "a", "b"],
                 ["timetolive"], ["timetolive", "zz"], ["timetolive", "0"], ["timetolive", ""],
                 ["timetolive", "--", "-1"], ["keep-alive"], ["keep-alive", "zz"],
                 ["keep-alive", "7b"], ["keep-alive", "7b", "-w", "json"],
                 ["keep-alive", "7b", "--once"], ["keep-alive", "a", "b"], ["list", "ignored"]):
        yield Case(["lease"] + line)
    for line in (["grant", "5"], ["revoke", "5"]):
        yield Case(["lease"] + line + ["--command-timeout=300ms"], endpoint="127.0.0.1:1")
    for line in (["timetolive", "5", "--bogus"], ["timetolive", "-1"], ["grant", "-5"]):
        yield Case(["lease"] + line, grammar=True)


def watch_cases():
    for form in FORMATS:
        if form != "table":
            yield Case(in_format(["watch", "{k}b", "{k}a"], form))
            yield Case(in_format(["watch", "{k}a", "--rev=1"], form))
    key, end = {"WATCH_KEY": "x"}, {"WATCH_RANGE_END": "y"}
    for line, env in ((["a", "--"], {}), ([], {}), (["--"], {}), (["--", "echo"], {}),
                      (["--prefix"], {}), (["a", "b", "--prefix"], {}), ([], end), (["-i"], end),
                      (["a"], key), (["a", "--", "echo"], key), (["--"], key),
                      (["a", "-w", "bogus"], {})):
        yield Case(["watch"] + line, env=env)
    for line in (["--rev=x", "a"], ["-x", "a"], ["--bogus", "a"], ["-i", "--rev=x"],
                 ["--prefix=maybe", "a"], ["-i=x"], ["a", "--rev"]):
        yield Case(["watch"] + line, grammar=True)
    for stdin in ("", "watch", "\n", "watch\n", "foo\n", "exit\nquit\nfoo bar\n", "progress\n",
                  "watch a b --prefix\n", "watch --bogus a\n", "watch -z a\n", "watch -h\n",
                  "watch a --\n", "watch --prefix\n", "watch --rev=x a\n", "watch --rev\n",
                  "watch a --rev=1 --\n", "watch -- echo\n", "progress x\n", "watch -i a\n",
                  "watch 'a b' \"c d\" e\n", "watch 'a\n", "watch \"\\q\"\n", "watch -w json a\n"):
        yield Case(["watch", "-i"], stdin=stdin.encode())
    for stdin in ("watch a\n", "watch --\n"):
        yield Case(["watch", "-i"], stdin=stdin.encode(), env=key)


def lock_cases():
    for line in (["sh", "-c", "echo $ETCD_LOCK_KEY; exit 3"], ["echo", "-n", "x"], ["nope"],
                 ["./nope"], ["/etc"], ["false"], ["sh", "-c", "kill -9 $$"], ["cat"],
                 ["sh", "-c", "kill -15 $$"], ["sh", "-c", "echo out; echo err >&2"],
                 ["sh", "-c", "test $ETCD_LOCK_REV -gt 1"], ["sh", "-c", "exit 200"]):
        yield Case(["lock", "{k}l", "--"] + line, writes=True, ids=True)
    yield Case(["lock", "{k}l", "echo", "without", "dashes"], writes=True, ids=True)
    yield Case(["lock", "{k}l", "--ttl=0", "true"], writes=True, ids=True)
    yield Case(["lock", "{k}l", "-w", "table", "--", "true"], writes=True, ids=True)
    for line in (["lock"], ["lock", "{k}l", "--ttl=9999999999", "true"], ["elect"],
                 ["elect", "x"], ["elect", "x", "y", "z"], ["elect", "-l", "x", "y"]):
        yield Case(line)
    for line in (["lock", "--ttl=x", "y"], ["lock", "x", "sh", "-c", "true"],
                 ["elect", "--listen", "--bogus", "x"], ["elect", "-l=x", "y"]):
        yield Case(line, grammar=True)


def copy_cases():
    for line in (["snapshot", "save"], ["snapshot", "save", "a", "b"], ["make-mirror"],
                 ["make-mirror", "a", "b"], ["check", "perf", "--load", "tiny"],
                 ["check", "datascale", "--load="]):
        yield Case(line)
    for line in (["snapshot", "save", "--bogus", "a"],
                 ["check", "perf", "--auto-compact=maybe"]):
        yield Case(line, grammar=True)


ALL = (put_cases, get_cases, del_cases, txn_cases, other_cases, lease_cases, watch_cases,
       lock_cases, copy_cases)
