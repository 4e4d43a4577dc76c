"""Changes of the membership, played by ctl_compare.py: one program after the other adds a learner
that never starts, moves it, asks for its promotion, and removes it."""

import re

from ctl_cases import Case, in_format, normalised
from ctl_live import PREFIXES, difference, tested

WRONG = (["add"], ["add", "x"], ["add", "x", "y", "--peer-urls=http://127.0.0.1:9"],
         ["add", "x", "--peer-urls=a:1"], ["add", "x", "--peer-urls=,"],
         ["add", "x", "--learner", "--peer-urls=http://127.0.0.1:9/x"],
         ["add", "x", "--peer-urls=http://127.0.0.1"], ["remove"], ["remove", "xyz"],
         ["remove", "1234"], ["remove", "1", "2"], ["update"], ["update", "12"],
         ["update", "12", "--peer-urls=foo"], ["update", "77", "--peer-urls=http://127.0.0.1:4"],
         ["promote"], ["promote", "a", "b"], ["promote", "77"])


def member_cases():
    for words in WRONG:
        yield Case(["member"] + words)
    for words in ([], ["zz"], ["12"], ["1", "2"]):
        yield Case(["move-leader"] + words)
    for form in ("simple", "json"):
        yield Case(in_format(["move-leader", "12"], form))


# How often one line is played with etcd.
TRIES_MAX = 5


def member_tests():
    for form in ("simple", "json", "hex"):
        yield "members come and go, " + form, changes(form)


def changes(form):
    @tested
    def test(player):
        return difference([played(player, program, form) for program in PREFIXES])
    return test


def in_order(stdout):
    """The output with the members in an order that does not depend on their ids."""
    def ordered(separator):
        return lambda found: found.group(1) + separator.join(
            sorted(found.group(2).split(separator))) + found.group(3)
    stdout = re.sub(rb'(ETCD_INITIAL_CLUSTER=")([^"]*)(")', ordered(b","), stdout)
    return re.sub(rb'("members":\[\{)(.*)(\}\])', ordered(b"},{"), stdout)


def played(player, program, form):
    """What the program prints, without ids and ports."""
    player.number += 1
    # Nobody listens there; a member of the same second and the same URL would get the same id.
    urls = ["http://127.0.0.1:%d" % (2 * player.number + port) for port in (1, 2)]
    results = []

    def play(*line):
        line = ["member"] + list(line) + ["--command-timeout=10s"]
        case = Case(in_format(line, form), ids=True)
        # etcd drops a change that comes before its raft has noted the one before as applied, which
        # it tells nobody; nothing happened then, and the same line may be played again.
        for _ in range(1 if player.is_althingd else TRIES_MAX):
            stdout, stderr, code = normalised(
                player.run(program, PREFIXES[program], case, {}), case, None)
            if b"context deadline exceeded" not in stderr:
                break
        # An id with fewer digits has blanks in front.
        stdout = re.sub(rb"(Member|cluster) +", rb"\1 ", stdout)
        for number, url in enumerate(urls):
            stdout = re.sub(url.encode() + rb"(?!\d)", b"URL%d" % number, stdout)
        results.append((in_order(stdout), stderr, code))

    play("add", "new comer", "--learner", "--peer-urls", urls[0])
    members = player.admin("member", "list")["members"]
    member = next("%x" % one["ID"] for one in members if one["peerURLs"] == [urls[0]])
    play("add", "another", "--peer-urls", urls[1] + "," + urls[0])
    play("update", member, "--peer-urls", urls[1])
    play("promote", member)
    play("remove", member)
    play("remove", member)
    return list(zip(*results))
