#!/usr/bin/env python3
"""Compares what a cluster of three of a real etcd and one of althingd say to changes of their
membership: codes, texts and the members after each.

    members_compare.py --etcd PROGRAM --althingd PROGRAM --etcdctl PROGRAM

Each question goes to another member than the one before, so that leader and followers are asked.
They go through the JSON gateway, whose answers carry gRPC's code and text. Prints what differs, and
ends with 1 if anything does. The etcdctl, an old one, asks all members of althingd at once."""

import argparse
import json
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

from ports import free_ports

SIZE = 3
# A member's id is made of its URLs and the second in which it is added, so none is added twice.
SPARE_URLS = 5
PATIENCE = 60
# Long enough that a busy machine is not taken for a dead leader: no step asks for an election.
ELECTION_MS = 10_000
UNHEALTHY = "etcdserver: unhealthy cluster"


class Cluster:
    """Three members of one program."""

    def __init__(self, program, directory):
        ports = free_ports(2 * SIZE + SPARE_URLS)
        self.clients = ports[:SIZE]
        self.urls = ["http://127.0.0.1:%d" % port for port in ports[SIZE:]]
        self.processes, self.asked = [], 0
        initial = ",".join("m%d=%s" % (n, self.urls[n]) for n in range(SIZE))
        for n in range(SIZE):
            client = self.client_url(n)
            line = [program, "--name", "m%d" % n, "--data-dir", "%s/%d" % (directory, n),
                    "--listen-client-urls", client, "--advertise-client-urls", client,
                    "--listen-peer-urls", self.urls[n],
                    "--initial-advertise-peer-urls", self.urls[n], "--initial-cluster", initial,
                    "--election-timeout", str(ELECTION_MS)]
            with open("%s/%d.log" % (directory, n), "w") as log:
                self.processes.append(subprocess.Popen(line, stdout=log, stderr=log))

    def client_url(self, n):
        return "http://127.0.0.1:%d" % self.clients[n]

    def end(self):
        for process in self.processes:
            process.kill()
            process.wait()

    def kill(self, n):
        self.processes[n].kill()
        self.processes[n].wait()

    def send(self, n, path, body):
        """Code, text and the answer itself."""
        request = urllib.request.Request(self.client_url(n) + path, json.dumps(body).encode())
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return 0, "", json.load(answer)
        except urllib.error.HTTPError as error:
            told = json.load(error)
            return told["code"], told["message"], {}

    def ask(self, path, body):
        """Asks the next member that runs."""
        while True:
            self.asked += 1
            n = self.asked % SIZE
            if self.processes[n].poll() is None:
                return self.send(n, path, body)

    def ask_until(self, field, path, body):
        """Asks until an answer has this field, which needs a leader."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            answer = self.ask(path, body)[2]
            if field in answer:
                return answer[field]
            time.sleep(0.05)
        raise RuntimeError("no %s from %s" % (field, path))

    def members(self):
        return self.ask_until("members", "/v3/cluster/member/list", {"linearizable": True})

    def until_all_know(self):
        """Waits until the last change is applied on all running members."""
        deadline = time.monotonic() + PATIENCE
        running = [n for n in range(SIZE) if self.processes[n].poll() is None]
        while time.monotonic() < deadline:
            known = [self.send(n, "/v3/cluster/member/list", {})[2].get("members") for n in running]
            if all(one == known[0] for one in known):
                return
            time.sleep(0.05)
        raise RuntimeError("the members do not agree on who they are")

    def id_at(self, url):
        return next(one["ID"] for one in self.members() if url in one["peerURLs"])

    def id_of(self, n):
        return next(one["ID"] for one in self.members() if one.get("name") == "m%d" % n)

    def leader(self):
        told = self.ask_until("leader", "/v3/maintenance/status", {})
        return next(n for n in range(SIZE) if self.id_of(n) == told)

    def lead_with(self, n):
        """Makes a member the leader, so that both programs have the same one."""
        deadline = time.monotonic() + PATIENCE
        while self.leader() != n:
            body = {"targetID": self.id_of(n)}
            self.send(self.leader(), "/v3/maintenance/transfer-leadership", body)
            if time.monotonic() > deadline:
                raise RuntimeError("the lead does not move")

    def wait_until_it_serves(self):
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                answers = [self.send(n, "/v3/maintenance/status", {}) for n in range(SIZE)]
                if all(answer.get("leader", "0") != "0" for _, _, answer in answers) and \
                        sum("name" in one for one in self.members()) == SIZE:
                    return
            except OSError:
                pass
            if time.monotonic() > deadline:
                raise RuntimeError("the cluster does not come to serve")
            time.sleep(0.1)


def counted(etcdctl, cluster):
    """How many members report their status to an etcdctl that was given one of them."""
    line = [etcdctl, "--endpoints", cluster.client_url(0), "endpoint", "status", "--cluster",
            "-w", "json", "--command-timeout=%ds" % PATIENCE]
    done = subprocess.run(line, capture_output=True, text=True, timeout=PATIENCE,
                          env={"ETCDCTL_API": "3"})
    print(done.stderr, end="")
    return len(json.loads(done.stdout or "[]"))


def played(program, etcdctl=None):
    """Steps and their outcomes, with names in the place of ids and ports."""
    with tempfile.TemporaryDirectory() as directory:
        cluster = Cluster(program, directory)
        try:
            cluster.wait_until_it_serves()
            if etcdctl is not None and counted(etcdctl, cluster) != SIZE:
                raise RuntimeError("not all members told their status")
            return list(steps(cluster))
        finally:
            cluster.end()


def shown(cluster, members):
    """The members, in an order that does not depend on their ids."""
    def name(url):
        return "url%d" % cluster.urls.index(url) if url in cluster.urls else url
    return sorted((one.get("name", ""), sorted(map(name, one["peerURLs"])),
                   len(one.get("clientURLs", [])), one.get("isLearner", False))
                  for one in members)


def steps(cluster):
    def step(title, action, patient=False, at=None, **body):
        """`patient`: a cluster that has just changed takes a while to count as healthy. `at`: who
        is asked."""
        path = "/v3/cluster/member/" + action if "/" not in action else action
        deadline = time.monotonic() + PATIENCE
        while True:
            code, text, answer = cluster.ask(path, body) if at is None else cluster.send(
                at, path, body)
            if not patient or text != UNHEALTHY or time.monotonic() > deadline:
                break
            time.sleep(0.2)
        members = shown(cluster, answer["members"]) if "members" in answer else None
        cluster.until_all_know()
        return title, (code, text, members, shown(cluster, cluster.members()))

    new, other, third, fourth, fifth = cluster.urls[SIZE:]
    unknown = "1234"
    yield step("list", "list")
    yield step("list, linearizable", "list", linearizable=True)
    yield step("add without a URL", "add")
    # An update to one of them is not compared: every member of etcd panics on it.
    for url in ("", "127.0.0.1:1", "http://127.0.0.1", "ftp://127.0.0.1:1", "http://a:1/p",
                "http://"):
        yield step("add " + repr(url), "add", peerURLs=[url])
    yield step("add a known URL", "add", patient=True, peerURLs=[cluster.urls[1]])
    yield step("add a known URL beside a new one", "add", patient=True,
               peerURLs=[third, cluster.urls[1]])
    yield step("add a learner", "add", patient=True, peerURLs=[new], isLearner=True)
    learner = cluster.id_at(new)
    yield step("add a second learner", "add", patient=True, peerURLs=[other], isLearner=True)
    yield step("add a learner's URL", "add", patient=True, peerURLs=[new, third])
    yield step("promote one that never started", "promote", ID=learner)
    yield step("promote a voter", "promote", ID=cluster.id_of(1))
    yield step("promote nobody", "promote", ID=unknown)
    yield step("promote zero", "promote")
    move = "/v3/maintenance/transfer-leadership"
    cluster.lead_with(0)
    yield step("move the lead to a learner", move, at=0, targetID=learner)
    yield step("move the lead to nobody", move, at=0, targetID=unknown)
    yield step("move the lead without naming a member", move, at=0)
    yield step("have a follower move the lead", move, at=1, targetID=cluster.id_of(1))
    yield step("update nobody", "update", ID=unknown, peerURLs=[other])
    yield step("update to a known URL", "update", ID=learner, peerURLs=[cluster.urls[0]])
    yield step("update to its own URL", "update", ID=learner, peerURLs=[new])
    yield step("update", "update", ID=learner, peerURLs=[other])
    yield step("update to two", "update", ID=learner, peerURLs=[other, new])
    yield step("remove nobody", "remove", ID=unknown)
    yield step("remove zero", "remove")
    yield step("remove the learner", "remove", ID=learner)
    yield step("remove it again", "remove", ID=learner)
    yield step("update one that is removed", "update", ID=learner, peerURLs=[other])
    yield step("promote one that is removed", "promote", ID=learner)
    yield step("add a voter that never starts", "add", patient=True, peerURLs=[third])
    voter = cluster.id_at(third)
    yield step("remove the voter", "remove", ID=voter)
    cluster.lead_with(0)
    dead, left = cluster.id_of(1), cluster.id_of(2)
    cluster.kill(1)
    # Waits until the others have noticed.
    deadline = time.monotonic() + PATIENCE
    while cluster.ask("/v3/cluster/member/add", {"peerURLs": [cluster.urls[0]]})[1] != UNHEALTHY:
        if time.monotonic() > deadline:
            raise RuntimeError("nobody notices that a member is dead")
        time.sleep(0.2)
    yield step("add while one is dead", "add", peerURLs=[fourth])
    yield step("add a learner while one is dead", "add", peerURLs=[fourth], isLearner=True)
    yield step("remove one that works while another is dead", "remove", ID=left)
    yield step("update the dead one", "update", ID=dead, peerURLs=[fifth])
    yield step("remove the dead one", "remove", ID=dead)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for program in ("etcd", "althingd", "etcdctl"):
        parser.add_argument("--" + program, required=True)
    programs = parser.parse_args()
    theirs, ours = played(programs.etcd), played(programs.althingd, programs.etcdctl)
    wrong = 0
    for (title, expected), (_, found) in zip(theirs, ours):
        if expected != found:
            wrong += 1
            print("DIFFERS %s\n  theirs %s\n  ours   %s" % (title, expected, found))
    print("%d steps, %d wrong" % (len(theirs), wrong))
    sys.exit(1 if wrong or len(theirs) != len(ours) else 0)


if __name__ == "__main__":
    main()
