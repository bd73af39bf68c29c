"""A kubelet for one machine: a pod is a tree of processes, in a bubblewrap sandbox where that works.

`kubelet.py` watches pods and keeps them as they should be, `container.py` runs one container's processes, `volumes.py`
makes its folders, `sandbox.py` (pure) says what a process may see, `status.py` (pure) what the pod's status says,
`logs.py` keeps what it printed. It speaks the Kubernetes API and nothing else: what it knows of agents is in pod specs.
"""

from komputer.local.kubelet.kubelet import Kubelet
from komputer.local.kubelet.logs import log_source
from komputer.local.kubelet.sandbox import Sandbox, why_no_sandbox

__all__ = ["Kubelet", "Sandbox", "log_source", "why_no_sandbox"]
