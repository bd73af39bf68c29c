"""Who follows an agent is told when the API is away, and when it is back."""

import contextlib
import socket
import threading

from komputer.client import Client

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
EVENT = b'id: 1-1\ndata: {"id": "1-1", "type": "text", "payload": {}}\n\n'


def test_an_api_that_is_away_is_told_once_and_its_return_too() -> None:
    told = list[str]()
    is_told = threading.Event()

    def tell(sentence: str) -> None:
        told.append(sentence)
        is_told.set()

    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                connection, _ = server.accept()
                with connection, contextlib.suppress(ConnectionError):
                    connection.recv(4096)
                    if is_told.is_set():
                        connection.sendall(HEAD + EVENT)
                        return

        serving = threading.Thread(target=serve)
        serving.start()
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        with Client(address) as client:
            assert next(client.follow("ada", "0-0", tell=tell))["id"] == "1-1"
        serving.join()
    assert len(told) == 2
    assert told[0].startswith(f"no answer from {address}")
    assert told[1] == f"{address} answers again"
