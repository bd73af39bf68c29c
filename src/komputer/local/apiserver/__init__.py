"""The subset of the Kubernetes API that Komputer's programs, kopf, lightkube and kubectl use, over HTTP on the loopback
interface.

The package implements what a kube-apiserver, and the garbage collector of a kube-controller-manager, do for the
resources that Komputer uses. Objects are kept in memory and in one SQLite file. Every difference from the behaviour of
a real kube-apiserver is a defect of this package; `tests/contract/kubernetes` runs the same tests on both. Features
that Komputer does not use (server-side apply, CEL, webhooks, exec, …) are refused with a Status that says so.

A real API server is no alternative on a laptop: kube-apiserver is a Go program of 100 MB that also needs etcd, k3s runs
only on Linux and as root, and no Python package contains either.
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
