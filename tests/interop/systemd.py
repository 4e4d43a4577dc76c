#!/usr/bin/env python3
"""The Debian package in a real systemd: a Debian root booted by systemd-nspawn, where the package
is installed, started, reloaded under load, killed, hung, misconfigured, upgraded, removed and
purged.

Needs root, mmdebstrap, systemd-nspawn and a Debian mirror; if one is missing it says so and
succeeds. The root is kept in target/; a run changes an overlay of it only. PACKAGES (default: made
from the debug build in target/) holds the two packages, of which the second upgrades the first."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
TOP = HERE.parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", TOP / "target"))
ROOT = TARGET / "systemd-root"
PACKAGES = TARGET / "systemd-packages"
SUITE = "bookworm"
DEADLINE_S = 90
OLD, NEW = "0.0.1", "0.0.2"
TOML = "/etc/althing/althing.toml"
# Members besides the service, with the ports of their clients and of their peers.
OTHERS = {"b": (2479, 2480), "c": (2579, 2580)}
CLUSTER = ",".join(["default=http://localhost:2380"] + [
    f"{name}=http://localhost:{peer}" for name, (_, peer) in OTHERS.items()])
# The cluster's first election timeout is that of the service; the others would wait this long.
OTHERS_ELECT_MS = 50_000


def missing():
    """What this machine lacks, if anything."""
    if os.geteuid() != 0:
        return "root"
    for program in ("mmdebstrap", "systemd-nspawn", "nsenter", "dpkg-deb"):
        if not shutil.which(program):
            return program
    if not ROOT.exists():
        include = "--include=systemd,systemd-sysv,dbus,procps,libgcc-s1"
        made = subprocess.run(
            ["mmdebstrap", "--quiet", "--variant=minbase", include, SUITE, str(ROOT)],
            capture_output=True, text=True, check=False)
        if made.returncode != 0:
            shutil.rmtree(ROOT, ignore_errors=True)
            return "a Debian mirror: " + made.stderr.strip().splitlines()[-1]
    return None


def packages():
    """Packs the built programs twice, under two versions."""
    profile = os.environ.get("PROFILE", "debug")
    for version in (OLD, NEW):
        subprocess.run(
            [TARGET / profile / "althing-packaging", "deb", PACKAGES,
             "--binaries", TARGET / profile, "--set-version", version],
            check=True, stdout=subprocess.DEVNULL,
            env=dict(os.environ, DPKG_DEB_COMPRESSOR_LEVEL="1"))


class Machine:
    """A booted container."""

    def __init__(self):
        self.log = open(TARGET / "systemd-console.log", "wb")
        command = ["systemd-nspawn", "--quiet", "--directory", str(ROOT), "--boot",
                   "--volatile=overlay", "--private-network", "--register=no", "--keep-unit",
                   "--machine", f"althing-{os.getpid()}", f"--bind-ro={PACKAGES}:/packages"]
        environment = dict(os.environ, SYSTEMD_NSPAWN_UNIFIED_HIERARCHY="1")
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, env=environment)
        self.leader = None

    def boot(self):
        """Waits until systemd is up."""
        until("systemd is up", self.is_up)
        # An installer would have written it.
        self.must("echo 127.0.0.1 localhost > /etc/hosts")

    def is_up(self):
        # The first child only prepares the container, and makes way for the one that boots it.
        self.leader = self.child()
        state = self.leader and self.run("systemctl is-system-running").stdout.strip()
        return state in ("running", "degraded")

    def child(self):
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        found = children.read_text().split()
        return int(found[0]) if found else None

    def enter(self, script):
        return ["nsenter", "--all", "--target", str(self.leader), "sh", "-c", script]

    def run(self, script):
        """Runs a line of shell; the caller looks at the outcome."""
        return subprocess.run(self.enter(script), capture_output=True, text=True,
                              check=False, timeout=120)

    def must(self, script):
        """Runs a line that has to succeed, and returns what it printed."""
        done = self.run(script)
        if done.returncode != 0:
            raise AssertionError(f"{script}: {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def show(self, name):
        """A property of the service."""
        return self.must(f"systemctl show --property={name} --value althing").strip()

    def set(self, section, key, value):
        """Writes an option into the configuration."""
        self.must(f"sed -i '/^\\[{section}\\]/,/^\\[/ s|^#\\?{key} = .*|{key} = {value}|' {TOML}")

    def serves(self):
        return self.run("althingctl endpoint health").returncode == 0

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()


def until(what, condition):
    """Waits until a condition holds, and returns its value."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"in vain: {what}")
        time.sleep(0.1)


def equal(found, expected):
    if found != expected:
        raise AssertionError(f"{found!r} is not {expected!r}")


def contains(text, part):
    if part not in text:
        raise AssertionError(f"{part!r} is not in {text!r}")


def lintian_finds_nothing(m):
    if not shutil.which("lintian"):
        print("   (not looked: no lintian on this machine)")
        return
    package = next(PACKAGES.glob(f"althing_{NEW}_*.deb"))
    # The address is the packager's; lintian does not accept a test's default.
    looked = subprocess.run(
        ["lintian", "--allow-root", "--fail-on", "error,warning", "--suppress-tags",
         "bogus-mail-host,bogus-mail-host-in-debian-changelog", str(package)],
        capture_output=True, text=True, check=False)
    equal((looked.returncode, looked.stdout), (0, ""))


def the_package_installs_and_starts_nothing_by_itself(m):
    m.must(f"apt-get install -y /packages/althing_{OLD}_*.deb")
    equal(m.run("systemctl is-active althing").stdout.strip(), "inactive")
    equal(m.run("systemctl is-enabled althing").stdout.strip(), "disabled")
    contains(m.must("getent passwd althing"), "/var/lib/althing")
    m.must(f"althingctl config check {TOML}")


def it_starts_and_serves_as_its_own_user(m):
    m.must("systemctl enable --now althing")
    equal(m.must("althingctl put greeting hello").strip(), "OK")
    equal(m.must("althingctl get greeting --print-value-only").strip(), "hello")
    pid = m.show("MainPID")
    equal(m.must(f"ps -o user= -p {pid}").strip(), "althing")
    equal(m.must("stat -c '%a %U' /var/lib/althing").strip(), "700 althing")
    until("the status says so", lambda: m.show("StatusText") == "serving, the only member")


def nobody_else_reads_its_configuration_and_root_does(m):
    contains(m.must("althingctl config show --origin"), TOML)
    refused = m.run("setpriv --reuid=nobody --clear-groups althingctl config show")
    if refused.returncode == 0:
        raise AssertionError("nobody may read the configuration")


RELOADED = [
    ("log", "level", '"debug"'), ("log", "format", '"console"'), ("log", "slow_request", '"1s"'),
    ("store", "quota_bytes", '"1GiB"'), ("store", "disk_reserve_bytes", '"16MiB"'),
    ("store", "auto_compaction_mode", '"revision"'),
    ("store", "auto_compaction_retention", '"1000000"'),
    ("store", "corrupt_check_interval", '"1m"'),
    ("client", "advertise_urls", '["http://localhost:2379", "http://127.0.0.1:2379"]'),
    ("client", "listen_urls", '["http://localhost:2379", "http://localhost:3379"]'),
    ("client", "metrics_urls", '["http://127.0.0.1:9100"]'),
    ("client", "request_bytes_max", '"2MiB"'), ("client", "txn_ops_max", "64"),
    ("client", "streams_max", "100"), ("client", "connections_max", "1000"),
    ("client", "read_bytes_max", '"64MiB"'), ("client", "watch_progress_interval", '"1m"'),
    ("client", "keepalive_interval", '"1h"'), ("client", "keepalive_timeout", '"30s"'),
    ("client", "grpc_gateway", "false"), ("client", "cors", '["http://a"]'),
    ("client", "host_whitelist", '["localhost"]'), ("client", "shutdown_timeout", '"5s"'),
    ("peer", "listen_urls", '["http://localhost:2380", "http://localhost:3380"]'),
    ("raft", "proposals_max", "1000"), ("raft", "heartbeat_interval", '"50ms"'),
    ("raft", "election_timeout", '"2s"'), ("raft", "snapshot_count", "100"),
    ("cluster", "learners_max", "2"),
]


def each_kind_of_setting_reloads_under_load(m):
    m.must("mkdir -p /run/notes")
    load = subprocess.Popen(m.enter(
        "althingctl watch --rev=1 load > /run/notes/watched & echo $! > /run/notes/watcher; "
        "n=0; while [ ! -e /run/notes/enough ]; do n=$((n+1)); "
        "althingctl put load $n >/dev/null || echo failed >> /run/notes/failed; done; "
        "echo $n > /run/notes/written"))
    pid = m.show("MainPID")
    m.must(f"cp {TOML} /run/notes/before.toml")
    for section, key, value in RELOADED:
        m.set(section, key, value)
        m.must("systemctl reload althing")
        shown = m.must("althingctl config show --origin")
        line = next(line for line in shown.splitlines() if line.startswith(f"{section}.{key} "))
        contains(line, TOML)
    until("the new URL is published",
          lambda: "127.0.0.1:2379" in m.must("althingctl member list"))
    elsewhere = "althingctl --endpoints localhost:3379 endpoint health"
    m.must(elsewhere)
    for section, port in (("client", 2379), ("peer", 2380)):
        m.set(section, "listen_urls", f'["http://localhost:{port}"]')
    m.must("systemctl reload althing")
    until("the listener that was taken out is closed", lambda: m.run(elsewhere).returncode != 0)
    m.must("touch /run/notes/enough")
    load.wait(timeout=60)
    equal(m.run("cat /run/notes/failed").stdout, "")
    last = m.must("cat /run/notes/written").strip()
    until("the watch has seen the last write",
          lambda: m.must("tail -n 1 /run/notes/watched").strip() == last)
    # Each event is three lines: PUT, key, value.
    equal(m.must("grep -c PUT /run/notes/watched").strip(), last)
    m.must("kill $(cat /run/notes/watcher)")
    equal(m.show("MainPID"), pid)


def a_refused_file_fails_the_reload_and_changes_nothing(m):
    m.must(f"cp {TOML} /run/notes/good.toml && echo 'nonsense = 1' >> {TOML}")
    if m.run("systemctl reload althing").returncode == 0:
        raise AssertionError("a file with a mistake was reloaded")
    contains(m.must("journalctl -u althing --no-pager"), "nothing changed")
    contains(m.run("althingctl config reload").stderr, "nonsense")
    equal(m.must("systemctl is-active althing").strip(), "active")
    equal(m.must("althingctl get greeting --print-value-only").strip(), "hello")


def a_refused_file_fails_the_start_and_is_not_tried_again(m):
    if m.run("systemctl restart althing").returncode == 0:
        raise AssertionError("a file with a mistake was started with")
    equal(m.show("ActiveState"), "failed")
    equal(m.show("ExecMainStatus"), "78")
    equal(m.show("NRestarts"), "0")
    contains(m.must("journalctl -u althing --no-pager"), "trace.nonsense")
    m.must(f"cp /run/notes/good.toml {TOML} && systemctl start althing")
    equal(m.must("althingctl get greeting --print-value-only").strip(), "hello")


def it_is_started_again_after_kill_9(m):
    pid = m.show("MainPID")
    m.must(f"kill -9 {pid}")
    until("another process serves", lambda: m.show("MainPID") not in (pid, "0") and m.serves())
    equal(m.show("NRestarts"), "1")
    equal(m.must("althingctl get greeting --print-value-only").strip(), "hello")


def the_watchdog_ends_a_process_that_hangs(m):
    timed(m, "WatchdogSec=10", "TimeoutAbortSec=5")
    m.must("systemctl restart althing")
    pid = m.show("MainPID")
    m.must(f"kill -STOP {pid}")
    until("another process serves", lambda: m.show("MainPID") not in (pid, "0") and m.serves())
    contains(m.must("journalctl -u althing --no-pager"), "Watchdog timeout")
    # A busy machine would look like a hung process to the other steps.
    timed(m)
    m.must("systemctl restart althing")
    equal(m.must("althingctl get greeting --print-value-only").strip(), "hello")


def timed(m, *lines):
    """Sets other times of the unit, for its next start."""
    text = "\\n".join(("[Service]",) + lines)
    m.must("mkdir -p /run/systemd/system/althing.service.d && "
           f"printf '{text}\\n' > /run/systemd/system/althing.service.d/quick.conf && "
           "systemctl daemon-reload")


def a_stop_is_orderly(m):
    m.must("systemctl stop althing")
    equal(m.show("Result"), "success")
    equal(m.show("ExecMainStatus"), "0")
    m.must("systemctl start althing")


def a_member_without_its_cluster_says_what_it_waits_for_and_is_given_time(m):
    m.must("systemctl stop althing && mv /var/lib/althing /var/lib/althing.kept && "
           "install -d -m 700 -o althing -g althing /var/lib/althing && "
           f"echo ALTHING_INITIAL_CLUSTER={CLUSTER} > /etc/default/althing")
    timed(m, "TimeoutStartSec=4")
    m.must("systemctl start --no-block althing")
    wanted = "waiting for 2 of 3 members; 1 answer"
    until("the status says so", lambda: m.show("StatusText") == wanted)
    pid, begun = m.show("MainPID"), time.monotonic()
    # Twice the time that a start may take without asking for more.
    until("it was given time", lambda: time.monotonic() - begun > 8)
    equal((m.show("ActiveState"), m.show("MainPID")), ("activating", pid))


def an_upgrade_replaces_a_member_that_waits_and_it_joins(m):
    pid, waits = m.show("MainPID"), m.show("StatusText")
    # To dpkg and systemd the same version is as good as another one.
    upgrade = subprocess.Popen(
        m.enter(f"apt-get install -y --reinstall /packages/althing_{OLD}_*.deb"),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    until("another process waits", lambda: m.show("MainPID") not in (pid, "0")
          and (m.show("ActiveState"), m.show("StatusText")) == ("activating", waits))
    pid = m.show("MainPID")
    # For a replaced program this is "... (deleted)".
    equal(m.must(f"readlink /proc/{pid}/exe").strip(), "/usr/bin/althingd")
    for name, (client, peer) in OTHERS.items():
        m.must(f"systemd-run --quiet --unit=althing-{name} -p Type=notify -p User=althing "
               f"-p StateDirectory=althing-{name} -p StateDirectoryMode=0700 --no-block "
               f"althingd --name={name} --data-dir=/var/lib/althing-{name} "
               f"--listen-client-urls=http://localhost:{client} "
               f"--advertise-client-urls=http://localhost:{client} "
               f"--listen-peer-urls=http://localhost:{peer} "
               f"--initial-advertise-peer-urls=http://localhost:{peer} "
               f"--initial-cluster={CLUSTER} --election-timeout={OTHERS_ELECT_MS}")
    until("the status says so",
          lambda: m.show("StatusText") == "serving, leads; 3 of 3 members answer")
    until("every member serves", lambda: m.run(
        "systemctl is-active althing " + " ".join(f"althing-{name}" for name in OTHERS)
    ).returncode == 0)
    equal(m.show("MainPID"), pid)
    printed, _ = upgrade.communicate(timeout=DEADLINE_S)
    equal((upgrade.returncode, printed if upgrade.returncode else ""), (0, ""))
    timed(m)


def a_stop_hands_the_lead_over(m):
    # Long enough for a busy machine: the leader looks for a successor for this long.
    m.set("raft", "election_timeout", '"20s"')
    m.must("systemctl reload althing")
    term = terms(m)
    m.must("systemctl stop althing")
    # No election timeout is as short as this.
    m.must("althingctl --endpoints localhost:2579 --command-timeout=10s put handed over")
    # One election, which the leader asked for before it went.
    equal(terms(m), {term + 1 for term in term})
    log = m.must("journalctl -u althing --no-pager -o cat")
    log = log[log.rindex("received signal; shutting down"):]
    if not -1 < log.find("handed the lead over") < log.find("stopped"):
        raise AssertionError(f"nothing was handed over:\n{log}")
    m.must("systemctl start althing")
    until("the status says so", lambda: m.show("StatusText").startswith("serving, follows "))
    equal(m.must("althingctl get handed --print-value-only").strip(), "over")
    # All at once, so that the leader may find no successor and has to end without one.
    m.must("systemctl stop althing althing-b althing-c")
    log = m.must("journalctl -u 'althing*' --no-pager -o cat")
    if "'stop-sigterm' timed out" in log:
        raise AssertionError(f"a member did not end in time:\n{log[-3000:]}")
    m.must("rm -rf /var/lib/althing; mv /var/lib/althing.kept /var/lib/althing; "
           "rm /etc/default/althing")
    m.set("raft", "election_timeout", '"2s"')
    m.must("systemctl start althing")


def terms(m):
    """The terms that the members besides the service are in."""
    where = ",".join(f"localhost:{client}" for client, _ in OTHERS.values())
    status = json.loads(m.must(f"althingctl --endpoints {where} endpoint status -w json"))
    return {member["Status"]["raftTerm"] for member in status}


def an_upgrade_keeps_data_and_configuration(m):
    pid = m.show("MainPID")
    m.must(f"apt-get install -y -o Dpkg::Options::=--force-confold /packages/althing_{NEW}_*.deb")
    until("the new program serves", lambda: m.show("MainPID") not in (pid, "0") and m.serves())
    contains(m.must("dpkg-query -W althing"), NEW)
    contains(m.must(f"cat {TOML}"), "proposals_max = 1000")
    equal(m.run("systemctl is-enabled althing").stdout.strip(), "enabled")
    equal(m.must("althingctl get greeting --print-value-only").strip(), "hello")


def remove_keeps_data_and_configuration_and_purge_does_not(m):
    m.must("apt-get remove -y althing")
    m.must(f"test -e {TOML} && test -e /var/lib/althing/member && ! pgrep althingd")
    m.must("apt-get purge -y althing")
    m.must("! test -e /etc/althing && ! test -e /var/lib/althing && ! test -e /etc/default/althing")
    m.must("! systemctl cat althing 2>/dev/null")


def purge_empties_a_data_directory_that_is_a_mount_point(m):
    m.must(f"apt-get install -y /packages/althing_{NEW}_*.deb")
    m.must("mkdir -p /var/lib/althing && mount -t tmpfs data /var/lib/althing")
    m.must("systemctl start althing && althingctl put greeting hello")
    # A directory of the operator's, which is not the member's data.
    m.must("mkdir /var/lib/althing/backup && mount -t tmpfs backup /var/lib/althing/backup && "
           "touch /var/lib/althing/backup/kept")
    m.must("apt-get purge -y althing")
    m.must("mountpoint -q /var/lib/althing && test -e /var/lib/althing/backup/kept")
    equal(m.must("ls -A /var/lib/althing").split(), ["backup"])
    equal(m.run("dpkg-query -W althing").stdout, "")
    m.must("umount /var/lib/althing/backup /var/lib/althing && rmdir /var/lib/althing")


STEPS = [
    the_package_installs_and_starts_nothing_by_itself,
    it_starts_and_serves_as_its_own_user,
    nobody_else_reads_its_configuration_and_root_does,
    each_kind_of_setting_reloads_under_load,
    a_refused_file_fails_the_reload_and_changes_nothing,
    a_refused_file_fails_the_start_and_is_not_tried_again,
    it_is_started_again_after_kill_9,
    the_watchdog_ends_a_process_that_hangs,
    a_stop_is_orderly,
    a_member_without_its_cluster_says_what_it_waits_for_and_is_given_time,
    an_upgrade_replaces_a_member_that_waits_and_it_joins,
    a_stop_hands_the_lead_over,
    an_upgrade_keeps_data_and_configuration,
    remove_keeps_data_and_configuration_and_purge_does_not,
    purge_empties_a_data_directory_that_is_a_mount_point,
    lintian_finds_nothing,
]


def main():
    lacks = missing()
    if lacks:
        print(f"systemd: not run, for this machine lacks {lacks}")
        print("0 passed, 0 failed")
        return 0
    packages()
    machine = Machine()
    passed = 0
    try:
        machine.boot()
        # Each step begins where the one before it ended.
        for step in STEPS:
            begun = time.monotonic()
            try:
                step(machine)
            except (AssertionError, subprocess.TimeoutExpired) as error:
                print(f"FAILED {step.__name__}: {error}")
                print(machine.run("journalctl -u althing -n 60 --no-pager").stdout)
                break
            passed += 1
            print(f"ok {step.__name__} ({time.monotonic() - begun:.1f} s)", flush=True)
    finally:
        machine.stop()
    print(f"{passed} passed, {len(STEPS) - passed} failed")
    return 0 if passed == len(STEPS) else 1


if __name__ == "__main__":
    sys.exit(main())
