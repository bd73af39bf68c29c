"""Runs the platform on one machine.

This package provides what a cluster has and a laptop does not: the Kubernetes API (`apiserver`), the kubelet, Valkey,
and the start and stop of the parts. The programs do not depend on it: they use a Kubernetes API over HTTP.
"""
