"""What is in Redis and is not the event log: connections, idempotency records, health, presence."""
