"""TCP keepalive options, which detect a peer that vanished without closing the connection."""

import socket
from typing import Final

DEAD_PEER_TIMEOUT_S: Final = 60
"""Time in seconds until a vanished peer is detected, on connections whose calls have no time limit of their own. Long
enough for a short network outage, short compared with a call of minutes. A guess, unmeasured."""
PROBES: Final = 3


def socket_options(timeout_s: int = DEAD_PEER_TIMEOUT_S) -> list[tuple[int, int, int]]:
    """Return options for `setsockopt`. The first probe is sent after half of `timeout_s`, the others in the second
    half. TCP_USER_TIMEOUT covers a peer that vanishes while data waits for its acknowledgement: the kernel sends no
    probes then."""
    options = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    for name, value in (
        ("TCP_KEEPIDLE", timeout_s // 2),
        ("TCP_KEEPINTVL", timeout_s // (2 * PROBES)),
        ("TCP_KEEPCNT", PROBES),
        ("TCP_USER_TIMEOUT", timeout_s * 1000),
    ):
        if hasattr(socket, name):  # macOS does not define all of them
            options.append((socket.IPPROTO_TCP, getattr(socket, name), value))
    return options
