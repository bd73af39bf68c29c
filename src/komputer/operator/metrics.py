"""Metrics of the operator. Names are those of controller-runtime, so that its dashboards and alerts work."""

from prometheus_client import Counter, Gauge, Histogram

RECONCILES = Counter("controller_runtime_reconcile", "Turns.", ["controller", "result"])
"""`result` is `success`, `requeue_after` (also a success; the turn is repeated after a while) or `error`."""
SECONDS = Histogram("controller_runtime_reconcile_time_seconds", "How long turns take.", ["controller"])
WAITED = Histogram("workqueue_queue_duration_seconds", "How long a key that is due waits for its turn.", ["name"])
DEPTH = Gauge("workqueue_depth", "Keys that are due and wait.", ["name"])
WORKERS = Gauge("controller_runtime_active_workers", "Turns in progress.", ["controller"])
FAILING = Gauge("komputer_operator_background_failing", "Background loops that fail now and are tried again.")
