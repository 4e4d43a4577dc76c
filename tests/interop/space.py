#!/usr/bin/env python3
"""Overwrites a data set again and again while its history is compacted, and looks what that takes
on the disk and how long puts take meanwhile, with and without a defragmentation.

usage: space.py --althingd PATH [--mib N] [--rounds N] [--value-bytes N | MIN-MAX] [--seed N]

The data set is N MiB of values in keys that are overwritten in random order. Every
twentieth of a round, what is older than the twentieth before is compacted. The store's file may
take 1.5 times the live data and the history that is kept, once there are 32 MiB of them; a
defragmentation's copy is told apart. A client that puts one small value after the other must never
wait longer than 200 ms. A debug build, or a busy machine, has other times: --put-ms. Prints a line
for each round; the exit code is 0 when all of it holds."""

import argparse
import base64
import contextlib
import http.client
import json
import os
import pathlib
import random
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "clients"))
from against import start  # noqa: E402

MIB = 1 << 20
TXN_BYTES = 400_000
TXN_OPS = 100
STEPS_PER_ROUND = 20
RATIO_MAX = 1.5
SMALLEST_MIB = 32
LOOK_S = 0.05
PATIENCE_S = 120


def b64(raw):
    return base64.b64encode(raw).decode()


class Client:
    """One connection to the JSON gateway."""

    def __init__(self, port):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)

    def post(self, path, **body):
        self.connection.request("POST", f"/v3/{path}", json.dumps(body))
        answer = self.connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise OSError(content.decode(errors="replace"))
        return json.loads(content)


class Puts:
    """How long single puts take, until this ends."""

    def __init__(self, port):
        self.port, self.ended, self.slowest, self.refusal = port, threading.Event(), 0, None
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        client = Client(self.port)
        while not self.ended.wait(0.01):
            begun = time.monotonic()
            try:
                client.post("kv/put", key=b64(b"probe"), value=b64(b"x"))
            except OSError as error:
                self.refusal = error
                return
            finally:
                self.slowest = max(self.slowest, time.monotonic() - begun)

    def told(self):
        """The slowest put since the last call, in ms."""
        if self.refusal:
            raise SystemExit(f"a put was refused after {self.slowest:.1f} s: {self.refusal}")
        slowest, self.slowest = self.slowest, 0
        return slowest * 1000

    def end(self):
        self.ended.set()
        self.thread.join()


class Files:
    """Looks at the member's files all the time."""

    def __init__(self, directory):
        self.member = pathlib.Path(directory) / "data/member"
        self.entitled, self.worst, self.copy, self.worst_with_copy = 0, 0.0, 0, 0.0
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        while not self.ended.wait(LOOK_S):
            store, copy = self.taken()
            if self.entitled >= SMALLEST_MIB * MIB:
                self.worst = max(self.worst, store / self.entitled)
                self.worst_with_copy = max(self.worst_with_copy, (store + copy) / self.entitled)
            self.copy = max(self.copy, copy)

    def taken(self):
        """Bytes of the store's file, and of a copy under way."""
        def blocks(path):
            with contextlib.suppress(FileNotFoundError):
                return path.stat().st_blocks * 512
            return 0

        return (blocks(self.member / "store.redb"),
                sum(blocks(path) for path in self.member.glob("snap/*")))

    def told(self):
        """The worst ratios since the last call, and the largest copy."""
        told = self.worst, self.worst_with_copy, self.copy
        self.worst, self.worst_with_copy, self.copy = 0.0, 0.0, 0
        return told

    def end(self):
        self.ended.set()
        self.thread.join()


class Data:
    """The keys, the sizes of their values, and how much of what was written is kept."""

    def __init__(self, client, files, chance, total, sizes):
        self.client, self.files, self.chance = client, files, chance
        self.sizes = []
        low, high = sizes
        while sum(self.sizes) < total:
            # Equally many of each magnitude.
            self.sizes.append(int(low * (high / low) ** chance.random()))
        self.live = self.kept = 0
        self.last_step = None

    def round(self):
        """Writes every key once."""
        is_first = not self.live
        order = list(range(len(self.sizes)))
        self.chance.shuffle(order)
        share = -(-len(order) // STEPS_PER_ROUND)
        for begin in range(0, len(order), share):
            written, revision = self.write(order[begin:begin + share], is_first)
            if self.last_step:
                self.client.post("kv/compaction", revision=self.last_step)
                # What this step overwrote can still be read; what earlier steps overwrote cannot.
                self.kept = 0 if is_first else written
            self.last_step = revision
            self.files.entitled = self.live + self.kept

    def write(self, numbers, is_first):
        """Writes these; returns how much it was, and the revision then."""
        written, revision, ops, size = 0, 0, [], 0
        for number in numbers:
            value = self.chance.randbytes(self.sizes[number])
            ops.append({"requestPut": {"key": b64(b"key/%08d" % number), "value": b64(value)}})
            size += len(value)
            if size < TXN_BYTES and len(ops) < TXN_OPS and number != numbers[-1]:
                continue
            # A put under way may be on the disk before it is answered.
            if is_first:
                self.live += size
            else:
                self.kept += size
            self.files.entitled = self.live + self.kept
            answer = self.client.post("kv/txn", success=ops)
            revision = int(answer["header"]["revision"])
            written, ops, size = written + size, [], 0
        return written, revision


def told(name, files, puts, begun):
    """Prints a line; returns whether its bounds hold."""
    ratio, with_copy, copy = files.told()
    slowest = puts.told()
    print(f"{name:12} {time.monotonic() - begun:6.1f} s   file {ratio:5.2f} x   with copy "
          f"{with_copy:5.2f} x ({copy // MIB} MiB)   slowest put {slowest:6.1f} ms", flush=True)
    return ratio, slowest


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--althingd", required=True)
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--value-bytes", default="256-65536")
    parser.add_argument("--put-ms", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    options = parser.parse_args()
    low, _, high = options.value_bytes.partition("-")
    print(f"seed {options.seed}: {options.mib} MiB in values of {options.value_bytes} bytes")
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="althing-"))
        process, port, printed = start(os.path.abspath(options.althingd), directory)
        stack.callback(process.wait)
        stack.callback(process.terminate)
        files, puts = Files(directory), Puts(port)
        stack.callback(files.end)
        stack.callback(puts.end)
        data = Data(Client(port), files, random.Random(options.seed), options.mib * MIB,
                    (int(low), int(high or low)))
        lines, begun = [], time.monotonic()
        data.round()
        lines.append(told("written", files, puts, begun))
        for number in range(options.rounds):
            begun = time.monotonic()
            data.round()
            lines.append(told(f"round {number + 1}", files, puts, begun))
        begun = time.monotonic()
        defragment = threading.Thread(
            target=lambda: Client(port).post("maintenance/defragment"))
        defragment.start()
        data.round()
        defragment.join()
        lines.append(told("defragment", files, puts, begun))
        for line in printed:
            if "defragmenting" in line:
                print(line.strip())
    worst, slowest = (max(column) for column in zip(*lines))
    holds = worst <= RATIO_MAX and slowest <= options.put_ms
    print(f"worst file {worst:.2f} x of {RATIO_MAX}, slowest put {slowest:.0f} of "
          f"{options.put_ms} ms: {'ok' if holds else 'FAILED'}")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
