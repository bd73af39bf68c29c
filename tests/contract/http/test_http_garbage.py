"""Requests create no reference cycles, because the garbage collector would pause all requests to find them."""

import gc
from collections import Counter

import pytest

from tests.contract.http.servers import Server, parsed

TIMES = 200


@pytest.mark.parametrize("path", ["/healthz", "/api/v1/agents", "/nowhere"])
def test_a_request_leaves_no_reference_cycles(server: Server, path: str) -> None:
    def ask(times: int) -> None:
        with server.connect() as connection:
            for _ in range(times):
                connection.sendall(server.head("GET", path))
                got = b""
                while True:
                    got += connection.recv(65536)
                    _, fields, body = parsed(got)
                    if len(body) >= int(fields["content-length"]):
                        break

    ask(20)
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        ask(TIMES)
        gc.collect()
        found = Counter(f"{type(each).__module__}.{type(each).__qualname__}" for each in gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert {kind: count for kind, count in found.items() if count >= TIMES} == {}
