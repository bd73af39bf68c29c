"""An API process as the product serves it: `-m tests.contract.stream.serve <kubeconfig> <log> <prefix> <port>`."""

import os
import socket
import sys
from pathlib import Path

import uvloop

from komputer import api
from komputer.events.log import Log
from komputer.kube import Cluster
from komputer.serve.http import serve


def main(kubeconfig: str, url: str, prefix: str, port: str) -> None:
    async def run() -> None:
        listening = socket.create_server(("127.0.0.1", int(port)), backlog=256)
        cluster, log = Cluster.connect(Path(kubeconfig)), Log.connect(url, prefix=prefix)
        settings = api.ApiSettings(readers=int(os.environ.get("READERS", "200")))
        app = api.app(settings, cluster, log)
        await serve(
            app,
            listening,
            lambda: print(listening.getsockname()[1], flush=True),
            app.state.streams.drain,
            websockets=api.WebSocketProtocol,
        )
        await cluster.close()
        await log.close()

    uvloop.run(run())


if __name__ == "__main__":
    main(*sys.argv[1:])
