"""The runtime's durable record, on the agent's own disk, of what it accepted, did and sent."""
