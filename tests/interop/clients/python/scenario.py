"""What the Python scenarios need: a clean prefix, checks that fail loudly, and waiting for a
condition with a deadline.
"""

import sys
import time

PATIENCE_S = 60


def check(condition, what):
    """Ends the scenario if something is wrong."""
    if not condition:
        sys.exit(f"FAILED: {what}")


def equal(found, wanted, what):
    check(found == wanted, f"{what}: {found!r}, not {wanted!r}")


def eventually(condition, what):
    """Waits until a condition holds."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        check(time.monotonic() < deadline, f"{what} within {PATIENCE_S} s")
        time.sleep(0.05)


def endpoint():
    """Host and port of the only argument, HOST:PORT."""
    check(len(sys.argv) == 2, f"usage: {sys.argv[0]} HOST:PORT")
    host, port = sys.argv[1].rsplit(":", 1)
    return host, int(port)
