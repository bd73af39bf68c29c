"""`python -m komputer.local.apiserver --database F --port P --kubeconfig F`: run only the API server, for tests."""

import argparse
import json
import logging
import secrets
import socket
from pathlib import Path
from types import FrameType

import uvicorn

from komputer.http import server as http
from komputer.local.apiserver import connect
from komputer.local.apiserver.errors import as_status
from komputer.local.apiserver.kubeconfig import write_kubeconfig
from komputer.local.apiserver.server import ApiServer
from komputer.local.apiserver.tokens import ServerCredentials


class Server(uvicorn.Server):
    """A uvicorn server that ends the watches at the first signal, because a graceful stop waits for open responses."""

    def __init__(self, config: uvicorn.Config, api: ApiServer) -> None:
        super().__init__(config)
        self._api = api

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._api.stop_watches()
        super().handle_exit(sig, frame)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m komputer.local.apiserver", description="The Kubernetes API on one machine."
    )
    parser.add_argument("--database", type=Path, required=True, help="the SQLite file; made when it is not there")
    parser.add_argument("--kubeconfig", type=Path, required=True, help="written; a token found in it is kept")
    parser.add_argument("--port", type=int, default=0, help="0 picks a free one")
    parser.add_argument(
        "--history-length", type=int, default=2000, help="changes per resource from which a watch can resume"
    )
    arguments = parser.parse_args()
    token = _token_in(arguments.kubeconfig) or secrets.token_urlsafe(32)
    api = ApiServer(arguments.database, ServerCredentials(token), history_length=arguments.history_length)
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", arguments.port))
    listener.listen(512)
    address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    write_kubeconfig(arguments.kubeconfig, address, token)
    print(address, flush=True)
    logging.basicConfig(level=logging.WARNING)
    config = http.config(api.app(), refusal=as_status, protocol=connect.ConnectProtocol, timeout_graceful_shutdown=5)
    Server(config, api).run(sockets=[listener])


def _token_in(kubeconfig: Path) -> str | None:
    try:
        return str(json.loads(kubeconfig.read_text())["users"][0]["user"]["token"])
    except (OSError, ValueError, LookupError, TypeError):
        return None


if __name__ == "__main__":
    main()
