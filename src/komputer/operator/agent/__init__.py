"""The agent's reconciliation: observe, decide, apply, and report in the status."""
