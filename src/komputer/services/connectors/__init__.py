"""Operations on connectors, shared by the REST API and the gateway.

`connectors.py` creates, changes and deletes them, and `reader.py` reads them. `secrets.py` and `credentials.py` handle
their Secrets. `egress.py` is the only HTTP client that calls a connector's server; `tools.py` lists the server's tools.
"""
