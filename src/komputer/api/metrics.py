"""Prometheus metrics of the API. Paths are route templates, so that names of objects do not become label values."""

import re
import time
from collections import Counter as Count
from collections.abc import Iterable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from komputer import __version__
from komputer.domain.base import fields_of
from komputer.domain.errors import Unavailable
from komputer.domain.tasks import ACTIVE_STATUSES
from komputer.http.metrics import HttpCollector
from komputer.kube import Cache
from komputer.kube.metrics import WatchMetrics
from komputer.services.agents.agents import Agents

PARAMETER = re.compile(r"\{(\w+)\}")
UNMATCHED = "unmatched"


class ApiMetrics:
    """The metrics of one app."""

    def __init__(self, agents: Agents, open_streams: Any, caches: Iterable[Cache] = ()) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(WatchMetrics("komputer_api", caches))
        self.requests = Counter(
            "komputer_api_http_requests", "Requests answered.", ["method", "path", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "komputer_api_http_request_duration_seconds",
            "Until the answer's head was sent; streams go on after it.",
            ["method", "path"],
            registry=self.registry,
        )
        self._agents, self._streams = agents, open_streams
        self.registry.register(self)
        self.registry.register(HttpCollector())

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the gauges. prometheus-client calls it at each scrape."""
        build = GaugeMetricFamily("komputer_api_build_info", "Always 1.", labels=["version"])
        build.add_metric([__version__], 1)
        yield build
        streams = GaugeMetricFamily("komputer_api_streams_active", "Open WebSockets and Server-Sent Event streams.")
        streams.add_metric([], len(self._streams))
        yield streams
        phases, tasks = self._counts()
        active = GaugeMetricFamily("komputer_agents_active", "Agents.", labels=["namespace", "phase"])
        for labels, count in phases.items():
            active.add_metric(labels, count)
        yield active
        busy = GaugeMetricFamily("komputer_tasks_inprogress", "Tasks.", labels=["namespace", "model", "agent_name"])
        for labels, count in tasks.items():
            busy.add_metric([*labels, ""], count)
        yield busy

    def _counts(self) -> tuple[Count[tuple[str, str]], Count[tuple[str, str]]]:
        phases: Count[tuple[str, str]] = Count()
        tasks: Count[tuple[str, str]] = Count()
        try:
            manifests = self._agents.manifests()
        except Unavailable:  # not read yet
            manifests = []
        for manifest in manifests:
            namespace, status = manifest["metadata"]["namespace"], fields_of(manifest, "status")
            phases[namespace, str(status.get("phase") or "Pending")] += 1
            if status.get("taskStatus") in ACTIVE_STATUSES:
                tasks[namespace, str(fields_of(manifest, "spec").get("model") or "")] += 1
        return phases, tasks

    def text(self) -> bytes:
        return generate_latest(self.registry)


class Counted:
    """Middleware that counts and times requests."""

    def __init__(self, app: ASGIApp, metrics: ApiMetrics) -> None:
        self.app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, found = time.perf_counter(), dict[str, str]()
        scope.setdefault("state", {})["noted"] = found

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                path = PARAMETER.sub(r":\1", found.get("route", UNMATCHED))
                self._metrics.requests.labels(scope["method"], path, message["status"]).inc()
                self._metrics.seconds.labels(scope["method"], path).observe(time.perf_counter() - began)
            await send(message)

        await self.app(scope, receive, counted)
