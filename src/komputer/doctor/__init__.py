"""`komputer doctor`: examines a platform and says how to fix what is wrong.

There is one file per check: a function that takes the examined platform and returns a `Result`. `laptop` and `cluster`
list their checks in the order in which they run, and `report.py` runs them. Checks change nothing, with one exception:
the network policy of a cluster is tried with a pod that runs for seconds.

This package is in a layer above `local` and `serve`, because it examines what they define: the data directory, the
sandbox, the RBAC rules of each program.
"""
