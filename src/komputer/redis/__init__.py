"""Everything in Redis except the event log: the connection, idempotency records, the health of connectors, the presence
of gateways."""
