"""The subset of the Kubernetes API that Komputer's programs, kopf, lightkube and kubectl use, over HTTP on the loopback
interface.

The package implements what a kube-apiserver, and the garbage collector of a kube-controller-manager, do for the
resources that Komputer uses. Objects are kept in memory and in one SQLite file. Where it behaves differently from a
real kube-apiserver, that is a defect of this one; `tests/contract/kubernetes` runs the same tests on both. Features
that Komputer does not use (server-side apply, CEL, webhooks, exec, …) are refused with a Status that says so.

A real API server is no alternative on a laptop: kube-apiserver is a Go program of 100 MB that needs etcd beside it, k3s
runs on Linux as root only, and no Python package brings either.
"""

from komputer.local.apiserver.errors import as_status
from komputer.local.apiserver.kubeconfig import ensure_kubeconfig, write_kubeconfig
from komputer.local.apiserver.logs import LogRequest, LogSource
from komputer.local.apiserver.server import ApiServer
from komputer.local.apiserver.tokens import ServerCredentials

__all__ = [
    "ApiServer",
    "LogRequest",
    "LogSource",
    "ServerCredentials",
    "as_status",
    "ensure_kubeconfig",
    "write_kubeconfig",
]
