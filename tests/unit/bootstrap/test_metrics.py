"""Metrics are served on a separate port."""

import socket

import httpx

from komputer.bootstrap.metrics import metrics_served


async def test_figures_and_nothing_else_are_answered_until_the_end() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        async with (
            metrics_served(listening, lambda: b"agents 3\n"),
            httpx.AsyncClient(base_url=address, trust_env=False) as prometheus,
        ):
            told = await prometheus.get("/metrics")
            assert (told.text, told.headers["content-type"].partition(";")[0]) == ("agents 3\n", "text/plain")
            assert (await prometheus.get("/api/v1/agents")).status_code == 404
