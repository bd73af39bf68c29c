"""Brings the cluster to what agents ask for, and writes down what happened: the only writer of `status`.

`desired/`, `trouble.py`, `ends.py`, `account.py` and `status.py` decide, from values and the time, and do nothing;
`reconcile.py` looks and does what they say; `store.py` watches what is there, `queue.py` says whose turn it is.
Nothing here is remembered that a restart must not lose: what counts stands in the resources and the log.
"""

from komputer.operator.running import run
from komputer.operator.settings import OperatorSettings

__all__ = ["OperatorSettings", "run"]
