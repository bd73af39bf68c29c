"""The local API server's decisions on plain values; its behaviour over HTTP is judged in tests/contract/kubernetes."""
