"""Unit tests of the local API server on plain values; tests/contract/kubernetes tests its behaviour over HTTP."""
