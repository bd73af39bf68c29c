"""Prometheus metrics of the HTTP servers of this process. Not imported by the runtime, which has no Prometheus
client."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from komputer.http import descriptors
from komputer.http.connections import totals


class HttpCollector:
    """A Prometheus collector; register it in the registry of the process's one application."""

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics; prometheus-client calls this at each scrape."""
        yield GaugeMetricFamily("komputer_http_connections", "Open connections, WebSockets included.", totals.open)
        refused = CounterMetricFamily(
            "komputer_http_refused", "Connections and requests refused below the application.", labels=["code"]
        )
        for code, count in totals.refused.items():
            refused.add_metric([code], count)
        yield refused
        yield CounterMetricFamily(
            "komputer_http_idle_connections_closed", "Idle connections closed to make room.", totals.evicted
        )
        yield GaugeMetricFamily("process_open_fds", "File descriptors in use.", descriptors.in_use())
        yield GaugeMetricFamily("process_max_fds", "The soft limit of file descriptors.", descriptors.soft_limit())
