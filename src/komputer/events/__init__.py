"""The closed union of events, its wire form, and the log in Redis that decides what happens to every task.

`schema.py` says what an event is, `entries.py` how the log stores it (both pure). `log.py` with `append.lua` writes the
log; `reading.py` and `ranges.py` with `read.lua` read it. `follow/` follows logs for many readers at once: the notifier
wakes them, the tail reads each log once for all of them, consumer groups share one log's events among members.
Importing this package does not need Redis: the runtime creates events and never accesses the log itself.
"""
