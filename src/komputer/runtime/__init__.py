"""One agent's process inside its pod: gets the assignment, drives the Claude Agent SDK, and reports events.

It knows the gateway (protocol/wire.py) and the workspace, but neither Kubernetes nor Redis, and it has no inbound port.

| file or package | what it does |
|---|---|
| `ledger/` | the durable record: values, the pure rules about them, the store on the disk |
| `task/` | `worker` chooses the task, `runner` runs an attempt, `plan` and `ending` decide (pure), `relay` talks to the
log |
| `claude/` | the CLI's process, options, tools and transcript, and the translation of its messages into events |
| `gateway_client.py`, `proxy.py`, `mcp_proxy.py` | the client of the gateway, and Claude's loopback address in front of
it |
| `workspace.py`, `processes.py`, `masking.py` | the agent's disk, its processes, and secrets in events |
| `main.py` | the wiring, signals and exit codes |
"""
