"""The wire protocol between an agent's runtime and the gateway."""
