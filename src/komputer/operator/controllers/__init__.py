"""One reconciler per kind other than the agent."""
