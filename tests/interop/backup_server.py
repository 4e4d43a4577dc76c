"""A running member of etcd or althingd for backup.py, spoken to by its JSON gateway."""

import base64
import json
import os
import subprocess
import sys
import threading
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "clients"))
from against import READY, START_S, STOP_S  # noqa: E402
from ports import free_ports  # noqa: E402

DEADLINE_S = 120
PAGE = 1000


class Differs(Exception):
    """A part did not end as it should."""


def expect(is_so, what):
    if not is_so:
        raise Differs(what)


def b64(raw):
    return base64.b64encode(raw).decode()


class Server:
    """A running member, spoken to by its JSON gateway."""
    ctl = None

    def __init__(self, program, directory, extra=(), ports=None):
        self.directory, self.ports = directory, ports or free_ports(2)
        client, peer = (f"http://127.0.0.1:{port}" for port in self.ports)
        self.endpoint, self.peer = f"127.0.0.1:{self.ports[0]}", peer
        line = [program, "--data-dir", directory, "--listen-client-urls", client,
                "--advertise-client-urls", client, "--listen-peer-urls", peer,
                "--initial-advertise-peer-urls", peer]
        extra = list(extra) or ["--name", "default", "--initial-cluster", f"default={peer}"]
        clean = {name: value for name, value in os.environ.items()
                 if not name.startswith(("ETCD_", "ALTHING_"))}
        self.process = subprocess.Popen(line + extra, stdin=subprocess.DEVNULL, env=clean,
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                        text=True, errors="replace")
        self.printed, self.ready = [], threading.Event()
        threading.Thread(target=self.follow, daemon=True).start()

    def follow(self):
        for line in self.process.stdout:
            self.printed.append(line)
            if READY in line:
                self.ready.set()

    def serving(self):
        """Waits until it serves."""
        if not self.ready.wait(START_S):
            raise Differs("the server does not serve:\n" + "".join(self.printed[-10:]))
        return self

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def post(self, path, **body):
        request = urllib.request.Request(f"http://{self.endpoint}/v3/{path}",
                                         json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=DEADLINE_S) as answer:
            return json.load(answer)

    def put(self, pairs, lease=0):
        ops = [{"requestPut": {"key": b64(key), "value": b64(value), "lease": lease}}
               for key, value in pairs]
        return int(self.post("kv/txn", success=ops)["header"]["revision"])

    def delete(self, keys):
        ops = [{"requestDeleteRange": {"key": b64(key)}} for key in keys]
        return int(self.post("kv/txn", success=ops)["header"]["revision"])

    def revision(self):
        answer = self.post("kv/range", key=b64(b"\0"), range_end=b64(b"\0"), count_only=True)
        return int(answer["header"]["revision"])

    def keys(self, revision=0, prefix=None):
        """Every key at a revision, with what is known about it."""
        start, end = b"\0", b"\0"
        if prefix:
            start, end = prefix, prefix[:-1] + bytes([prefix[-1] + 1])
        found = {}
        while True:
            answer = self.post("kv/range", key=b64(start), range_end=b64(end), limit=PAGE,
                               revision=revision)
            for kv in answer.get("kvs", []):
                found[kv.pop("key")] = kv
            if not answer.get("more"):
                return found
            start = base64.b64decode(list(found)[-1]) + b"\0"

    def leases(self):
        """Each lease's time to live and keys."""
        leases = {}
        for lease in self.post("lease/leases").get("leases", []):
            life = self.post("lease/timetolive", ID=lease["ID"], keys=True)
            leases[lease["ID"]] = (life["grantedTTL"], sorted(life.get("keys", [])))
        return leases

    def hash_kv(self):
        """The hash, by a program: not every release has it in the gateway."""
        line = [Server.ctl, "--endpoints", self.endpoint, "endpoint", "hashkv", "-w", "json"]
        return json.loads(subprocess.check_output(line))[0]["HashKV"]["hash"]
