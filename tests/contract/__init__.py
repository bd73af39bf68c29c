"""One suite over every engine: what we rely on from Kubernetes, from Redis, and what our parts promise each other."""
