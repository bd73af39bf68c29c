"""The proxy to MCP servers: it adds the connector's credential and redacts it from answers."""
