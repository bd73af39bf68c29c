"""The MCP server by which a manager starts, watches and cancels its own agents."""
