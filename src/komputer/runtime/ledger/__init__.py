"""The runtime's durable record of what it has accepted, done and sent, on the agent's own disk."""
