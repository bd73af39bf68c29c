"""The work on one task: how it is planned, attempted and ended, and how its events and messages are exchanged."""
