"""The wire between an agent's runtime and the gateway, in both directions."""
