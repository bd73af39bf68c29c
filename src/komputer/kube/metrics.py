"""Prometheus metrics of caches, the same in every program."""

from collections.abc import Iterable, Iterator

from prometheus_client.core import GaugeMetricFamily

from komputer.kube.cache import Cache


class WatchMetrics:
    """A collector of `<prefix>_watch_stale_seconds` and `<prefix>_watch_objects`, by kind.

    Pass it to `CollectorRegistry.register`."""

    def __init__(self, prefix: str, caches: Iterable[Cache]) -> None:
        self._prefix = prefix
        self._caches = tuple(caches)

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Return nothing: registering must not read the caches."""
        return iter(())

    def collect(self) -> Iterator[GaugeMetricFamily]:
        stale = GaugeMetricFamily(
            f"{self._prefix}_watch_stale_seconds",
            "How long a kind has not been watched; 0 while it is.",
            labels=["kind"],
        )
        objects = GaugeMetricFamily(f"{self._prefix}_watch_objects", "Objects in the cache.", labels=["kind"])
        for cache in self._caches:
            stale.add_metric([cache.kind.plural], cache.stale_s)
            objects.add_metric([cache.kind.plural], len(cache))
        yield stale
        yield objects
