"""`komputer doctor`: examines a platform and says how to fix what is wrong.

One file per check: a function that takes what is examined and returns a `Result`. `laptop` and `cluster` list their
checks in the order in which they run; `report.py` runs them. A check changes nothing, with one exception: the network
policy of a cluster is tried with a pod that lives for seconds.

This room is above `local` and `serve`, because it examines what they define: the data directory, the sandbox, the RBAC
rules of each program.
"""
