"""Runs a client's scenario against a fresh member.

usage: against.py SERVER COMMAND... (HOST:PORT is appended to the command)

SERVER takes etcd's flags. It gets free ports and a directory that is removed; the exit code is
that of the command, and the server's last words are shown when it fails.
"""

import os
import subprocess
import sys
import tempfile
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from ports import free_ports  # noqa: E402

READY = "ready to serve client requests"
START_S = 60
SCENARIO_S = 600
STOP_S = 30


def start(server, directory):
    """The running server, its client port and what it prints."""
    client_port, peer_port = free_ports(2)
    client, peer = (f"http://127.0.0.1:{port}" for port in (client_port, peer_port))
    # The environment of the caller must not configure the server.
    clean = {name: value for name, value in os.environ.items()
             if not name.startswith(("ETCD_", "ALTHING_"))}
    process = subprocess.Popen(
        [server, "--name", "default", "--data-dir", os.path.join(directory, "data"),
         "--listen-client-urls", client, "--advertise-client-urls", client,
         "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
         "--initial-cluster", f"default={peer}"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, errors="replace", cwd=directory, env=clean)
    printed, ready = [], threading.Event()

    def follow():
        for line in process.stdout:
            printed.append(line)
            if READY in line:
                ready.set()

    threading.Thread(target=follow, daemon=True).start()
    if not ready.wait(START_S):
        process.kill()
        sys.exit("the server does not serve:\n" + "".join(printed[-20:]))
    return process, client_port, printed


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    server, command = os.path.abspath(sys.argv[1]), sys.argv[2:]
    with tempfile.TemporaryDirectory(prefix="althing-") as directory:
        process, port, printed = start(server, directory)
        try:
            scenario = subprocess.run(command + [f"127.0.0.1:{port}"], timeout=SCENARIO_S)
            code = scenario.returncode
        except subprocess.TimeoutExpired:
            print(f"FAILED: not done within {SCENARIO_S} s")
            code = 1
        finally:
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if code != 0:
            print("the server printed at last:\n" + "".join(printed[-20:]))
    sys.exit(code)


if __name__ == "__main__":
    main()
