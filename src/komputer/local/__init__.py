"""Everything on one machine.

This package has what a cluster provides and a laptop lacks: the Kubernetes API (`apiserver`), the kubelet, Valkey, and
the start and stop of the parts. The programs do not know about it: they see a Kubernetes API over HTTP.
"""
