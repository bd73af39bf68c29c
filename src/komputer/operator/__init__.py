"""The operator: makes the cluster match the specs of agents, and is the only writer of `status`.

`agent/` observes one agent, decides (pure functions of one value and the time) and applies the decision; `controllers/`
has the reconcilers of the other kinds. `cluster_state.py` caches what is in the cluster, `queue.py` orders the work,
`running.py` connects them. The operator keeps no state that must survive a restart: all of that is in the resources
and in the log.
"""

from komputer.operator.running import run
from komputer.operator.settings import OperatorSettings

__all__ = ["OperatorSettings", "run"]
