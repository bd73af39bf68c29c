"""Controllers of the kinds other than the agent: one reconciler per file."""
