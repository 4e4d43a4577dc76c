"""Programs that last: watch, lock, elect and lease keep-alive. Played by ctl_compare.py.

Each test returns None, or what is wrong. Nothing sleeps: the server is driven, and what a program
prints is waited for until a deadline. Watches are started together by both programs and see the
same events, so that their output must be equal to the byte after every step; what makes keys and
leases of its own is played by one program after the other and compared without their ids.
"""

import functools
import itertools
import re
import signal
import subprocess
import threading

from ctl_cases import LEASE, Case, in_format, normalised

DEADLINE_SECONDS = 60
PREFIXES = {"etcdctl": "ETCDCTL", "althingctl": "ALTHINGCTL"}
# How a program is brought to its end, if not by a signal.
INPUT_ENDS = "input ends"
BY_ITSELF = "by itself"


class Running:
    """A program whose output is collected while it runs."""

    def __init__(self, player, program, line, env=None, endpoint=None):
        line = [player.programs[program], "--endpoints=" + (endpoint or player.here)] + line
        env = player.environment(PREFIXES[program], env or {})
        # A shell makes its background jobs ignore SIGINT, and they pass that on.
        hears = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
        self.process = subprocess.Popen(line, env=env, preexec_fn=hears,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE)
        self.program = program
        self.grown = threading.Condition()
        self.collected = {self.process.stdout: b"", self.process.stderr: b""}
        self.threads = [threading.Thread(target=self.collect, args=(pipe,), daemon=True)
                        for pipe in self.collected]
        for thread in self.threads:
            thread.start()

    def collect(self, pipe):
        while True:
            part = pipe.read1(65536)
            with self.grown:
                self.collected[pipe] += part
                self.grown.notify_all()
            if not part:
                return

    @property
    def out(self):
        return self.collected[self.process.stdout]

    def wait(self, holds):
        """Waits until `holds(output)`; returns whether it did."""
        with self.grown:
            return self.grown.wait_for(lambda: holds(self.out), DEADLINE_SECONDS)

    def lines(self, number):
        """Waits until that many lines are printed."""
        if not self.wait(lambda out: out.count(b"\n") >= number):
            raise Stuck("%s printed %r" % (self.program, self.out))

    def messages(self, number, form):
        """Waits until that many records of `elect` are printed to their last byte."""
        if form == "fields":
            # The last line of each.
            if not self.wait(lambda out: len(re.findall(rb'^"Count" : .*\n', out, re.M)) >= number):
                raise Stuck("%s printed %r" % (self.program, self.out))
        else:
            self.lines(number if form == "json" else 2 * number)

    def told(self, text):
        """Waits until this text is written to standard error."""
        with self.grown:
            holds = lambda: text in self.collected[self.process.stderr]
            if not self.grown.wait_for(holds, DEADLINE_SECONDS):
                raise Stuck("%s never told %r" % (self.program, text))

    def type(self, text):
        self.process.stdin.write(text)
        self.process.stdin.flush()

    def end(self, ending=BY_ITSELF):
        """Brings the end about and waits for it: stdout, stderr, exit code."""
        if ending == INPUT_ENDS:
            self.process.stdin.close()
        elif ending != BY_ITSELF:
            self.process.send_signal(ending)
        try:
            code = self.process.wait(DEADLINE_SECONDS)
        except subprocess.TimeoutExpired:
            raise Stuck("%s did not end; it printed %r" % (self.program, self.out)) from None
        for thread in self.threads:
            thread.join(DEADLINE_SECONDS)
        return self.out, self.collected[self.process.stderr], code

    def __enter__(self):
        return self

    def __exit__(self, *_reason):
        self.process.kill()
        self.process.wait()


class Stuck(Exception):
    """Something that was waited for did not come."""


def tested(test):
    """The test, which now also fails when something does not come."""
    @functools.wraps(test)
    def guarded(player):
        try:
            return test(player)
        # A missing key or lease shows as an error of a look-up.
        except (Stuck, RuntimeError, LookupError, OSError, subprocess.SubprocessError) as error:
            return repr(error)
    return guarded


def difference(results):
    """What differs between two results, or None."""
    names = ("stdout", "stderr", "exit code")
    parts = ["%s: etcdctl %r, althingctl %r" % (name, a, b)
             for name, a, b in zip(names, *results) if a != b]
    return "; ".join(parts) or None


def together(line, steps, ending=signal.SIGINT, env=None):
    """A test of a watch: both programs see the steps, and must have printed the same after each.

    A step is a function of player and words, or text to be typed; nothing need be printed for one
    that is `quiet`."""
    @tested
    def test(player):
        words = player.place()
        fill = lambda text: player.fill(text.encode(), words)
        start = lambda program: Running(player, program, [fill(word) for word in line],
                                        {name: fill(text) for name, text in (env or {}).items()})
        with start("etcdctl") as theirs, start("althingctl") as ours:
            for step in steps:
                before = len(theirs.out)
                if isinstance(step, str):
                    theirs.type(fill(step))
                    ours.type(fill(step))
                else:
                    step(player, words)
                if step not in QUIET and not (
                        theirs.wait(lambda out, before=before: len(out) > before)
                        and ours.wait(lambda out: len(out) >= len(theirs.out))
                        and theirs.wait(lambda out: out == ours.out)):
                    return "stdout: etcdctl %r, althingctl %r" % (theirs.out, ours.out)
            results = [program.end(ending) for program in (theirs, ours)]
        return difference([normalised(result, Case([]), None) for result in results])
    return test


# Steps for which nothing need be printed.
QUIET = []


def quiet(step):
    """The step, for which nothing need be printed."""
    QUIET.append(step)
    return step


def in_turn(line, steps, ending=BY_ITSELF, leased=0):
    """A test of what makes keys of its own: one program after the other. A step is a number of
    lines to wait for, or a function of player and words. `leased` grants the lease for that many
    seconds before each; how often it is renewed meanwhile depends on the machine's speed, so lines
    that repeat the one before them are not compared."""
    @tested
    def test(player):
        results = []
        for program in PREFIXES:
            words = player.place()
            if leased:
                player.grant(leased)
            fill = lambda text, words=words: player.fill(text.encode(), words)
            with Running(player, program, [fill(word) for word in line]) as running:
                for step in steps:
                    if isinstance(step, int):
                        running.lines(step)
                    else:
                        step(player, words)
                out, err, code = blotted(running.end(ending), words)
                if leased:
                    out = b"".join(line for line, _ in itertools.groupby(out.splitlines(True)))
                results.append((out, err, code))
        return difference(results)
    return test


def blotted(result, words):
    """A result without revisions, ids and the place of its keys."""
    out, err, code = normalised(result, Case([], ids=True), int(words["rev"]))
    return out.replace(words["k"].encode(), b"K/"), err, code


def put(key, value):
    return lambda player, words: player.admin("put", words["k"] + key, value)


def delete(key):
    return lambda player, words: player.admin("del", words["k"] + key)


def put_two(player, words):
    text = "\nput %sa t1\nput %sb t2\n\n\n" % (words["k"], words["k"])
    player.admin("txn", stdin=text.encode())


def revoke_holder(player, words):
    """Revokes the lease on which the first key of the case hangs."""
    holder = player.admin("get", words["k"], "--prefix")["kvs"][0]
    player.post("/v3/lease/revoke", ID=holder["lease"])


def revoke_lease(player, _words):
    player.post("/v3/lease/revoke", ID=LEASE)


CHANGES = [put("a", "1"), put("a", "2"), put_two, delete("a"), put("a", "\x01 \"odd\" \u20ac")]
SHOW = ["sh", "-c", "echo $ETCD_WATCH_REVISION $ETCD_WATCH_EVENT_TYPE $ETCD_WATCH_KEY "
        "$ETCD_WATCH_VALUE"]


def watch_tests():
    for form in ("simple", "json", "fields", "protobuf", "hex"):
        for flags in ([], ["--prefix"], ["--prefix", "--prev-kv"]):
            line = in_format(["watch", "{k}a", "--rev={next}"] + flags, form)
            yield " ".join(line), together(line, CHANGES)
        line = in_format(["watch", "-i"], form)
        asks = [quiet("watch {k}a --rev={next}\n"), put("a", "1"), "progress\n", put("a", "2")]
        yield " ".join(line), together(line, asks, INPUT_ENDS)
    line = ["watch", "{k}a", "{k}c", "--rev={next}", "--progress-notify"]
    yield " ".join(line), together(line, CHANGES, signal.SIGTERM)
    line = ["watch", "{k}a", "--rev={next}", "--"] + SHOW
    yield "watch with a command", together(line, CHANGES)
    for command in (["false"], ["nope"], ["./nope"], ["sh", "-c", "kill -9 $$"], ["/etc"]):
        line = ["watch", "{k}a", "--rev={next}", "--"] + command
        yield " ".join(line), together(line, [quiet(put("a", "1"))], BY_ITSELF)
    env = {"WATCH_KEY": "{k}a", "WATCH_RANGE_END": "{k}c"}
    yield "watch what the environment says", together(["watch", "--rev={next}"], CHANGES, env=env)
    line = ["watch", "--rev={next}", "--"] + SHOW
    yield "watch with a command what the environment says", together(line, CHANGES, env=env)
    asks = [quiet("watch {k}a --rev={next} --prev-kv -- echo \"an event\"\n"), put("a", "1"),
            put("a", "2"), quiet("watch {k}c {k}a\n"), put("a", "3")]
    yield "watch -i with a command", together(["watch", "-i"], asks, INPUT_ENDS)


def lasting_tests():
    for form in ("simple", "json", "fields"):
        line = in_format(["lock", "{k}l"], form)
        yield " ".join(line), in_turn(line, [1], signal.SIGINT)
        line = in_format(["elect", "{k}e", "a proposal"], form)
        yield " ".join(line), in_turn(line, [1], signal.SIGTERM)
        yield "elect --listen, " + form, listening(form)
    line = ["lock", "{k}l", "--ttl=6"]
    yield "a lock whose lease is revoked", in_turn(line, [1, revoke_holder])
    line = ["lease", "keep-alive", "%x" % LEASE]
    for form in ("simple", "json"):
        yield "keep-alive of a lease that is revoked, " + form, \
            in_turn(in_format(line, form), [1, revoke_lease], leased=6)
    yield "keep-alive until a signal", in_turn(line, [3], signal.SIGINT, leased=6)


def listening(form):
    """A listener sees a leader, its new proposal, and (in a format that does not tell how it was
    found out) the next leader."""
    @tested
    def test(player):
        results = []
        for program in PREFIXES:
            words = player.place()
            name = words["k"] + "e"
            with Running(player, "etcdctl", ["elect", name, "first"]) as leader:
                leader.messages(1, "simple")
                key = leader.out.split(b"\n")[0]
                line = in_format(["elect", "--listen", name], form)
                with Running(player, program, line) as listener:
                    listener.messages(1, form)
                    player.admin("put", key, "second")
                    listener.messages(2, form)
                    if form == "simple":
                        leader.end(signal.SIGINT)
                        with Running(player, "etcdctl", ["elect", name, "next"]):
                            listener.messages(3, form)
                            results.append(blotted(listener.end(signal.SIGINT), words))
                    else:
                        results.append(blotted(listener.end(signal.SIGTERM), words))
        return difference(results)
    return test
