"""An API process as the product serves it: `-m tests.contract.stream.serve <kubeconfig> <log> <prefix> <port>`."""

import os
import socket
import sys
from pathlib import Path

import uvloop

from komputer.api import ApiSettings
from komputer.bootstrap.api import serve_api
from komputer.bootstrap.backends import Backends
from komputer.bootstrap.server import Endpoint


def main(kubeconfig: str, url: str, prefix: str, port: str) -> None:
    listening = socket.create_server(("127.0.0.1", int(port)), backlog=256)
    endpoint = Endpoint(listening, lambda: print(listening.getsockname()[1], flush=True))
    settings = ApiSettings(readers=int(os.environ.get("READERS", "200")))
    uvloop.run(serve_api(settings, Backends(Path(kubeconfig), url, prefix), endpoint))


if __name__ == "__main__":
    main(*sys.argv[1:])
