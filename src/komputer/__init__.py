"""Komputer: persistent Claude agents on Kubernetes, or on a laptop with one command."""

__version__ = "0.1.0"
