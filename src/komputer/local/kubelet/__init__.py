"""A kubelet for one machine: each pod is a tree of processes, in a bubblewrap sandbox if the machine supports that.

`kubelet.py` watches pods and claims and reconciles them, `pod.py` runs one pod, `container.py` one container's
processes. `volumes.py` and `environment.py` prepare what a container needs, `removal.py` deletes and sets aside
folders. `sandbox.py` (what a process can see) and `status.py` (the pod's status) are pure. The package uses only the
Kubernetes API: it has no knowledge of agents apart from their pod specs.

An existing kubelet is no alternative: it needs a container runtime and root, and does not run on macOS.
"""

from komputer.local.kubelet.kubelet import Kubelet
from komputer.local.kubelet.logs import log_source
from komputer.local.kubelet.sandbox import Sandbox, why_no_sandbox

__all__ = ["Kubelet", "Sandbox", "log_source", "why_no_sandbox"]
