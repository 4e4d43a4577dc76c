"""Ports for servers that are started later, and started again: each is given once, and lies below
the range from which the kernel gives ports to outgoing connections, so that none of these takes it
meanwhile."""

import random
import socket

RANGE = range(10_000, 32_000)
GIVEN = set()


def is_free(port):
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_ports(count):
    """Ports that nobody listens on."""
    found = []
    for port in random.sample(RANGE, len(RANGE)):
        if len(found) == count:
            return found
        if port not in GIVEN and is_free(port):
            GIVEN.add(port)
            found.append(port)
    raise RuntimeError("there are no free ports")
