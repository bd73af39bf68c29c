"""What the HTTP servers of this process count, for Prometheus. Not imported by the runtime, which has no Prometheus."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from komputer.http import descriptors
from komputer.http.connections import totals


class HttpCollector:
    """Register it in the registry of the one app of a process."""

    def collect(self) -> Iterator[Metric]:
        """prometheus-client calls this at each scrape."""
        yield GaugeMetricFamily("komputer_http_connections", "Open connections, WebSockets included.", totals.open)
        refused = CounterMetricFamily(
            "komputer_http_refused", "Connections and requests refused below the application.", labels=["code"]
        )
        for code, count in totals.refused.items():
            refused.add_metric([code], count)
        yield refused
        yield CounterMetricFamily(
            "komputer_http_idle_connections_closed", "Idle connections closed to make room.", totals.closed_for_others
        )
        yield GaugeMetricFamily("process_open_fds", "File descriptors in use.", descriptors.in_use())
        yield GaugeMetricFamily("process_max_fds", "The soft limit of file descriptors.", descriptors.soft_limit())
