"""How a connection on which nothing happens is known to be there still: options of sockets, as plain values."""

import socket
from typing import Final

NOTICED_WITHIN_S: Final = 60
"""When a peer that vanished without a word is noticed, where calls have no time limit of their own. Long enough for a
network that is away for a moment, short against a call of minutes. A guess, unmeasured."""
PROBES: Final = 3


def socket_options(noticed_within_s: int = NOTICED_WITHIN_S) -> list[tuple[int, int, int]]:
    """For `setsockopt`. The first probe goes after half of the time, the others in what is left. What was sent and is
    not acknowledged for so long counts as a peer's end too: while such data waits, the kernel sends no probes."""
    options = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    for name, value in (
        ("TCP_KEEPIDLE", noticed_within_s // 2),
        ("TCP_KEEPINTVL", noticed_within_s // (2 * PROBES)),
        ("TCP_KEEPCNT", PROBES),
        ("TCP_USER_TIMEOUT", noticed_within_s * 1000),
    ):
        if hasattr(socket, name):  # macOS lacks some
            options.append((socket.IPPROTO_TCP, getattr(socket, name), value))
    return options
