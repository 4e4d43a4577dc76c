"""What althingctl promises beyond etcdctl's output: locks that exclude etcdctl's, watches that
outlive their connections, `watch --once`, `put --ttl`. Played by ctl_compare.py; each test
returns None, or what is wrong.
"""

import os
import re
import select
import signal
import socket
import tempfile
import threading

from ctl_cases import Case
from ctl_live import PREFIXES, Running, Stuck, tested
from ports import free_ports

OUTAGES = 6
PUTS_PER_OUTAGE = 5
# Enough for ten thousand puts on a busy machine.
CHECK_SECONDS = 180


def queued(player, name, number):
    """Waits until that many keys are in the queue for a name; each look is a request."""
    for _attempt in range(1000):
        if len(player.admin("get", name + "/", "--prefix", "--keys-only").get("kvs", [])) == number:
            return
    raise Stuck("never %d keys in the queue for %s" % (number, name))


def excluding(first, second, line):
    """The second one waits, and follows when the first one goes."""
    @tested
    def test(player):
        name = player.place()["k"] + "x"
        full = [word.replace("NAME", name) for word in line]
        with Running(player, first, full) as holder:
            holder.lines(2)
            with Running(player, second, full) as waiter:
                queued(player, name, 2)
                early = waiter.out
                holder.end(signal.SIGTERM)
                waiter.lines(2)
                code = waiter.end(signal.SIGINT)[2]
        if early or code or player.admin("get", name + "/", "--prefix").get("kvs"):
            return "%s printed %r while %s held; it ended with %d" % (second, early, first, code)
        return None
    return test


def leaving(line):
    """A waiter that is told to end leaves the queue and says so."""
    @tested
    def test(player):
        results = []
        for program in PREFIXES:
            name = player.place()["k"] + "x"
            full = [word.replace("NAME", name) for word in line]
            with Running(player, "etcdctl", full) as holder:
                holder.lines(2)
                with Running(player, program, full) as waiter:
                    queued(player, name, 2)
                    results.append(waiter.end(signal.SIGINT))
                queued(player, name, 1)
        return None if results[0] == results[1] else repr(results)
    return test


class Proxy:
    """A port before the server that can be cut off, with every connection through it."""

    def __init__(self, server):
        self.server = server
        self.connections = []
        # A port that nobody else takes while it is cut off.
        self.port = free_ports(1)[0]
        self.open()

    def open(self):
        self.listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self.accept, args=(self.listener,), daemon=True).start()

    def accept(self, listener):
        while True:
            try:
                client, _address = listener.accept()
            except OSError:
                return
            host, port = self.server.rsplit(":", 1)
            server = socket.create_connection((host, int(port)))
            self.connections += [client, server]
            threading.Thread(target=self.pump, args=(client, server), daemon=True).start()

    @staticmethod
    def pump(client, server):
        try:
            while True:
                for source in select.select([client, server], [], [])[0]:
                    data = source.recv(65536)
                    if not data:
                        return
                    (server if source is client else client).sendall(data)
        except (OSError, ValueError):
            return
        finally:
            for end in (client, server):
                shut(end)

    def cut(self):
        shut(self.listener)
        self.listener.close()
        while self.connections:
            shut(self.connections.pop())

    def heal(self):
        self.open()


def shut(connection):
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # It is shut already.


@tested
def a_watch_survives_outages(player):
    """Every put is printed once, whether the connection was there or not, over two endpoints."""
    words = player.place()
    proxies = [Proxy(player.here), Proxy(player.here)]
    where = ",".join("127.0.0.1:%d" % proxy.port for proxy in proxies)
    line = ["watch", words["k"], "--prefix", "--rev=" + words["next"]]
    expected = []
    with Running(player, "althingctl", line, endpoint=where) as watch:
        for outage in range(OUTAGES):
            for number in range(PUTS_PER_OUTAGE):
                value = "%d.%d" % (outage, number)
                player.admin("put", words["k"] + "a", value)
                expected.append(value)
                if number == 1:
                    watch.lines(3 * len(expected))
                    proxies[outage % 2].cut()
                    if outage % 3 == 2:
                        proxies[1 - outage % 2].cut()
            for proxy in proxies:
                proxy.cut()
                proxy.heal()
            watch.lines(3 * len(expected))
        out = watch.end(signal.SIGINT)[0]
    for proxy in proxies:
        proxy.cut()
    values = out.decode().split("\n")[2::3]
    return None if values == expected else "printed %s" % values


@tested
def once_waits_for_one_change(player):
    words = player.place()
    line = ["watch", words["k"] + "a", "--once", "--rev=" + words["next"]]
    with Running(player, "althingctl", line) as watch:
        player.admin("put", words["k"] + "other", "x")
        player.admin("put", words["k"] + "a", "new")
        result = watch.end()
    expected = (b"PUT\n%sa\nnew\n" % words["k"].encode(), b"", 0)
    return None if result == expected else repr(result)


@tested
def a_count_of_events_is_kept(player):
    words = player.place()
    for value in "123456":
        player.admin("put", words["k"] + value, value)
    line = ["watch", words["k"], "--prefix", "--count=4", "--rev=" + words["next"], "--", "echo",
            "-"]
    with Running(player, "althingctl", line) as watch:
        out, err, code = watch.end()
    lines = out.decode().split("\n")
    shown = (lines.count("PUT"), lines.count("-"), code, err)
    return None if shown == (4, 4, 0, b"") else repr((out, err, code))


@tested
def a_ttl_is_kept_or_its_absence_told(player):
    """An etcd ignores the TTL; that must not look like success."""
    key = player.place()["k"] + "t"
    case = Case(["put", key, "v", "--ttl=1h", "-w", "json"])
    out, err, code = player.run("althingctl", "ALTHINGCTL", case, {})
    leased = player.admin("get", key)["kvs"][0].get("lease", 0) != 0
    kept = leased and out.startswith(b'{"header"') and (err, code) == (b"", 0)
    told = b"does not know put --ttl" in err and (out, code) == (b"", 1)
    return None if kept or (told and not leased) else repr((leased, out, err, code))


@tested
def a_watch_waits_for_a_server(player):
    """Nothing listens at first; the watch begins when somebody does."""
    words = player.place()
    proxy = Proxy(player.here)
    proxy.cut()
    line = ["watch", words["k"] + "a", "--once", "--rev=" + words["next"]]
    with Running(player, "althingctl", line, endpoint="127.0.0.1:%d" % proxy.port) as watch:
        player.admin("put", words["k"] + "a", "1")
        watch.told(b"Warning: ")
        proxy.heal()
        out, _err, code = watch.end()
    proxy.cut()
    return None if (out.count(b"PUT\n"), code) == (1, 0) else repr((out, code))


@tested
def a_lease_is_renewed_after_an_outage(player):
    """At another endpoint at once, and at the same one when it is there again."""
    proxies = [Proxy(player.here), Proxy(player.here)]
    where = ",".join("127.0.0.1:%d" % proxy.port for proxy in proxies)
    line = ["lease", "keep-alive", player.grant(12)]
    with Running(player, "althingctl", line, endpoint=where) as keeper:
        keeper.lines(1)
        proxies[0].cut()
        keeper.lines(2)
        proxies[1].cut()
        proxies[0].heal()
        keeper.lines(3)
        out = keeper.end(signal.SIGINT)[0]
    proxies[0].cut()
    return None if out.count(b"keepalived with TTL(12)\n") == 3 else repr(out)


@tested
def a_holder_that_is_cut_off_gives_up_in_time(player):
    """The server cannot be asked; the lock counts as lost when its TTL is over."""
    name = player.place()["k"] + "l"
    proxy = Proxy(player.here)
    line = ["lock", name, "--ttl=8"]
    with Running(player, "althingctl", line, endpoint="127.0.0.1:%d" % proxy.port) as lock:
        lock.lines(2)
        proxy.cut()
        _out, err, code = lock.end()
    expected = (b"Error: session expired\n", 1)
    return None if (err, code) == expected else repr((err, code))


@tested
def a_command_under_a_lost_lock_is_warned_of(player):
    words = player.place()
    script = "echo begun; read line < $0; exit 7"
    line = ["lock", words["k"] + "l", "--ttl=6", "--", "sh", "-c", script]
    with tempfile.TemporaryDirectory() as scratch:
        fifo = os.path.join(scratch, "fifo")
        os.mkfifo(fifo)
        with Running(player, "althingctl", line + [fifo]) as lock:
            lock.lines(1)
            holder = player.admin("get", words["k"], "--prefix")["kvs"][0]
            player.post("/v3/lease/revoke", ID=holder["lease"])
            lock.told(b"others may hold the lock")
            with open(fifo, "w", encoding="ascii") as end:
                end.write("go on\n")
            code = lock.end()[2]
    return None if code == 7 else "exit code %d" % code


@tested
def a_check_clears_up_after_itself(player):
    """It compacts and defragments as told, and prints what etcdctl prints."""
    case = Case(["check", "datascale", "--load=s", "--auto-compact", "--auto-defrag"])
    out, _err, code = player.run("althingctl", "ALTHINGCTL", case, {}, timeout=CHECK_SECONDS)
    expected = """Start data scale check for work load [10000 key-value pairs, 1024 bytes \
per key-value, 50 concurrent clients].
Compacting with revision N
Compacted with revision N
Defragmenting "HERE"
Defragmented "HERE"
PASS: Approximate system memory used : N MB.
""".replace("HERE", player.here)
    told = re.sub(r"(revision |used : )\d[\d.]*", r"\1N", out.decode())
    return None if (told, code) == (expected, 0) else repr((told, code))


def tests():
    """Every test with its name."""
    lock, elect = ["lock", "NAME"], ["elect", "NAME", "me"]
    for name, line in (("lock", lock), ("elect", elect)):
        for first, second in (("etcdctl", "althingctl"), ("althingctl", "etcdctl"),
                              ("althingctl", "althingctl")):
            yield "%s: %s waits for %s" % (name, second, first), excluding(first, second, line)
        yield "%s: a signal ends the waiting" % name, leaving(line)
    for test in (a_watch_survives_outages, once_waits_for_one_change, a_count_of_events_is_kept,
                 a_ttl_is_kept_or_its_absence_told, a_watch_waits_for_a_server,
                 a_lease_is_renewed_after_an_outage, a_holder_that_is_cut_off_gives_up_in_time,
                 a_command_under_a_lost_lock_is_warned_of,
                 a_check_clears_up_after_itself):
        yield test.__name__.replace("_", " "), test
