"""The closed union of events, its wire form, and the log that is the referee of every task.

`types.py` says what an event is, `entries.py` and `ids.py` how the log writes it (all pure); `log.py` with
`append.lua` is the only way into the log and out of it, `bell.py` wakes its readers, `server.py` holds the connection.
`tail.py` follows logs for many readers at once (`sources.py` reads, `marks.py` are its cursors), `groups.py` shares one
log's events among members. `idempotency.py` and `health.py` keep their records on the same server, beside the logs.
Importing this package does not need Redis: the runtime makes events, and never speaks to the log itself.
"""
