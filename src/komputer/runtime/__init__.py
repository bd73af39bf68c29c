"""One agent's process inside its pod: takes the assignment, drives the Claude Agent SDK, tells what happens.

Here belongs what runs beside Claude in the pod and nothing else: it knows the gateway's door (protocol/wire.py) and
the workspace, neither Kubernetes nor Redis, and it has no inbound port. What decides is pure (ledger, plan, ending,
translate, tools, masking); what acts is thin (store, door, relay, forwarder, managing, claude, attempt, worker). `main`
wires it together.
"""
