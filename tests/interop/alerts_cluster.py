"""Three members of althingd for alerts.py: each with a small disk of its own, and every exchange
between them through a network that can be slowed down."""

import asyncio
import base64
import contextlib
import http.client
import json
import os
import pathlib
import signal
import subprocess
import threading
import time

from against import READY, START_S, STOP_S
from ports import free_ports

MIB = 1 << 20
DISK_BYTES = 1024 * MIB
RESERVE_BYTES = 32 * MIB
QUOTA_BYTES = 256 * MIB
# A little less than a power of two, the size of the store's pages.
LARGE_BYTES = 1_000_000
PATIENCE_S = 30


def b64(raw):
    return base64.b64encode(raw).decode()


class Network:
    """Forwards connections to the members' peer ports, each piece of data with a chosen delay."""

    def __init__(self):
        self.delay_s = 0
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

    def forward(self, port):
        """Returns a port that forwards to `port`."""
        async def accept(reader, writer):
            try:
                back, forth = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                writer.close()
                return
            await asyncio.gather(self.pump(reader, forth), self.pump(back, writer))

        serving = asyncio.start_server(accept, "127.0.0.1", 0)
        server = asyncio.run_coroutine_threadsafe(serving, self.loop).result()
        return server.sockets[0].getsockname()[1]

    async def pump(self, reader, writer):
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                writer.write(data)
                await writer.drain()
        writer.close()


class Disk:
    """A file system in memory, which a file can fill."""

    def __init__(self, path):
        self.path = pathlib.Path(path)
        self.path.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", self.path],
                       check=True)

    def fill(self):
        """Leaves less space than the members keep free."""
        with open(self.path / "filler", "wb") as filler:
            free = os.statvfs(self.path)
            bytes_free = free.f_bavail * free.f_frsize
            os.posix_fallocate(filler.fileno(), 0, bytes_free - RESERVE_BYTES // 2)

    def free(self):
        (self.path / "filler").unlink(missing_ok=True)

    def remove(self):
        subprocess.run(["umount", "--lazy", self.path], check=True)


class Member:
    """One member, spoken to by its JSON gateway."""

    def __init__(self, program, name, directory, network):
        self.program, self.name = program, name
        self.client, self.peer = free_ports(2)
        self.advertised = f"http://127.0.0.1:{network.forward(self.peer)}"
        self.address = f"127.0.0.1:{self.client}"
        self.disk = Disk(os.path.join(directory, name))
        self.printed, self.process = [], None

    def start(self, cluster=None):
        """Starts it, if it does not run."""
        if self.process and self.process.poll() is None:
            return
        self.cluster = cluster or self.cluster
        client = f"http://{self.address}"
        line = [self.program, "--name", self.name, "--data-dir", self.disk.path / "data",
                "--listen-client-urls", client, "--advertise-client-urls", client,
                "--listen-peer-urls", f"http://127.0.0.1:{self.peer}",
                "--initial-advertise-peer-urls", self.advertised,
                "--initial-cluster", self.cluster, "--election-timeout", "3000",
                "--quota-backend-bytes", str(QUOTA_BYTES),
                "--disk-reserve-bytes", str(RESERVE_BYTES)]
        clean = {name: value for name, value in os.environ.items()
                 if not name.startswith(("ETCD_", "ALTHING_"))}
        self.ready = threading.Event()
        self.process = subprocess.Popen(line, stdin=subprocess.DEVNULL, env=clean, text=True,
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                        errors="replace")
        follow = (self.process.stdout, self.ready)
        threading.Thread(target=self.follow, args=follow, daemon=True).start()

    def follow(self, printed, ready):
        for line in printed:
            self.printed.append(line)
            if READY in line:
                ready.set()

    def signal(self, number):
        self.process.send_signal(number)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def post(self, path, **body):
        """An answer; a refusal is an OSError."""
        connection = http.client.HTTPConnection(self.address, timeout=PATIENCE_S)
        try:
            connection.request("POST", f"/v3/{path}", json.dumps(body))
            answer = connection.getresponse()
            content = answer.read()
        except http.client.HTTPException as error:
            raise OSError(str(error)) from error
        finally:
            connection.close()
        if answer.status != 200:
            raise OSError(content.decode(errors="replace"))
        return json.loads(content)

    def put(self, key, value):
        return self.post("kv/put", key=b64(key), value=b64(value))

    def takes_writes(self):
        with contextlib.suppress(OSError):
            return self.put(b"asked", b"x")
        return None

    def play(self):
        """A request of each kind that a dashboard shows."""
        lease = self.post("lease/grant", TTL=600)["ID"]
        self.post("lease/keepalive", ID=lease)
        self.post("kv/range", key=b64(b"k"))

    def fill_quota(self):
        """Puts until one is refused for lack of space; returns the keys."""
        keys = []
        while True:
            key = b"fill/%04d" % len(keys)
            try:
                self.put(key, os.urandom(LARGE_BYTES))
            except OSError as error:
                if "space exceeded" not in str(error):
                    raise
                return keys
            keys.append(key)

    def delete(self, keys):
        """Deletes one by one; returns the last revision."""
        for key in keys:
            revision = self.post("kv/deleterange", key=b64(key))["header"]["revision"]
        return int(revision)

    def compact(self, revision):
        self.post("kv/compaction", revision=revision)

    @contextlib.contextmanager
    def slow_flushes(self, seconds):
        """Makes each flush take this long."""
        late = f"inject=fdatasync,fsync:delay_enter={int(seconds * 1e6)}"
        tracer = subprocess.Popen(
            ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync,fsync", "-e", late,
             "-p", str(self.process.pid)], stdin=subprocess.DEVNULL)
        try:
            yield
        finally:
            # If asked to end in order, it may wait forever for a thread.
            tracer.kill()
            tracer.wait()

    def stop(self):
        self.signal(signal.SIGCONT)
        self.process.terminate()
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()


class Cluster:
    """Three members."""

    def __init__(self, program, directory):
        self.network = Network()
        self.members = []
        self.cleanup = contextlib.ExitStack()
        for name in ("one", "two", "three"):
            member = Member(program, name, directory, self.network)
            self.cleanup.callback(member.disk.remove)
            self.members.append(member)

    def __enter__(self):
        cluster = ",".join(f"{member.name}={member.advertised}" for member in self.members)
        for member in self.members:
            member.start(cluster)
            self.cleanup.callback(member.stop)
        for member in self.members:
            if not member.ready.wait(START_S):
                words = self.last_words()
                self.cleanup.close()
                raise SystemExit(f"a member does not serve:\n{words}")
        return self

    def __exit__(self, *_):
        self.cleanup.close()

    def leader(self, without=None):
        """The leader, according to the members other than `without`."""
        for member in self.members:
            if member is without:
                continue
            with contextlib.suppress(OSError):
                status = member.post("maintenance/status")
                if status.get("leader") == status["header"]["member_id"]:
                    return member
        return None

    @contextlib.contextmanager
    def trickle(self):
        """A client that always writes a little, to each member in turn."""
        ended = threading.Event()

        def write():
            while not ended.is_set():
                for member in self.members:
                    with contextlib.suppress(OSError):
                        member.put(b"trickle", b"x")
                    time.sleep(0.02)

        writer = threading.Thread(target=write)
        writer.start()
        try:
            yield
        finally:
            ended.set()
            writer.join()

    def last_words(self):
        return "".join(f"--- {member.name}\n{''.join(member.printed[-15:])}"
                       for member in self.members)
