"""What the operator counts, under the names that controllers written with controller-runtime use, so that dashboards
and alerts for those work."""

from prometheus_client import Counter, Gauge, Histogram

RECONCILES = Counter("controller_runtime_reconcile", "Turns.", ["controller", "result"])
"""`result` is `success`, `requeue_after` (fine, and another look is due) or `error`."""
SECONDS = Histogram("controller_runtime_reconcile_time_seconds", "How long turns take.", ["controller"])
WAITED = Histogram("workqueue_queue_duration_seconds", "How long what is due waits for its turn.", ["name"])
DEPTH = Gauge("workqueue_depth", "What is due and waits.", ["name"])
WORKERS = Gauge("controller_runtime_active_workers", "Turns under way.", ["controller"])
FAILING = Gauge("komputer_operator_background_failing", "Background loops that fail now and are tried again.")
