"""The subset of the Kubernetes API that Komputer's own parts, kopf, lightkube and kubectl need, over loopback HTTP.

Here belongs what a kube-apiserver and the garbage collector of a controller manager do for the resources that Komputer
uses; objects live in memory and in one SQLite file. Where it and a real kube-apiserver differ, this one is wrong. What
Komputer does not use (server-side apply, CEL, webhooks, exec, …) is refused with a Status that says so.
"""

from komputer.local.apiserver.errors import as_status
from komputer.local.apiserver.logs import LogRequest, LogSource
from komputer.local.apiserver.server import ApiServer, ensure_kubeconfig, write_kubeconfig

__all__ = ["ApiServer", "LogRequest", "LogSource", "as_status", "ensure_kubeconfig", "write_kubeconfig"]
