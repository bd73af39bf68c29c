"""The gateway's metrics, for Prometheus."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from komputer.gateway.task_metrics import TaskMetrics
from komputer.http.metrics import HttpCollector
from komputer.kube import Cache
from komputer.kube.metrics import WatchMetrics

SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class GatewayMetrics:
    """The metrics of one app; two apps in one process share nothing."""

    def __init__(self, caches: Iterable[Cache] = ()) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(WatchMetrics("komputer_gateway", caches))
        self.requests = Counter(
            "komputer_gateway_requests", "Requests answered.", ["kind", "status"], registry=self.registry
        )
        self.model_seconds = Histogram(
            "komputer_gateway_model_seconds",
            "From a model request's arrival to the last byte of its answer.",
            ["status"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.model_first_byte_seconds = Histogram(
            "komputer_gateway_model_first_byte_seconds",
            "From a model request's arrival to the head of its answer.",
            buckets=SECONDS,
            registry=self.registry,
        )
        self.tasks = TaskMetrics(self.registry)
        self.streams = Gauge("komputer_gateway_assignment_streams", "Open assignment streams.", registry=self.registry)
        self.registry.register(HttpCollector())

    def text(self) -> bytes:
        return generate_latest(self.registry)
