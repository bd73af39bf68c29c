"""An API process as the product serves it: `-m tests.contract.stream.serve <kubeconfig> <log> <prefix> <port>`.

The environment may shorten limits that a test waits for: READERS, WRITE_TIMEOUT_S, CLAIM_AFTER_S, RENEW_S.
"""

import os
import socket
import sys
from pathlib import Path

import uvloop

from komputer.api import ApiSettings, stream
from komputer.bootstrap.api import serve_api
from komputer.bootstrap.backends import Backends
from komputer.bootstrap.server import Endpoint
from komputer.events.follow import groups

LIMITS = ((stream, "WRITE_TIMEOUT_S"), (groups, "CLAIM_AFTER_S"), (groups, "RENEW_S"))


def main(kubeconfig: str, url: str, prefix: str, port: str) -> None:
    for module, name in LIMITS:
        setattr(module, name, float(os.environ.get(name, getattr(module, name))))
    listening = socket.create_server(("127.0.0.1", int(port)), backlog=256)
    endpoint = Endpoint(listening, lambda: print(listening.getsockname()[1], flush=True))
    settings = ApiSettings(readers=int(os.environ.get("READERS", "200")))
    uvloop.run(serve_api(settings, Backends(Path(kubeconfig), url, prefix), endpoint))


if __name__ == "__main__":
    main(*sys.argv[1:])
