"""The runtime's side of the gateway: whose pod it is, the hello, the assignment and the events."""
