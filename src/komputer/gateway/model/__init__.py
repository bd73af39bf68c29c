"""Model requests: their check, the upstream with its credential, and the proxy between them."""
