"""The runtime's log on stderr: one JSON object per line. A stalled reader never blocks the runtime.

It uses the standard library's logging, because the import of structlog takes 0.3 s of each agent's start.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from datetime import UTC, datetime

_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class _Lines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {"timestamp": moment, "level": record.levelname.lower(), "event": record.getMessage()}
        line |= {key: value for key, value in vars(record).items() if key not in _OWN}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class Dropping(logging.Handler):
    """Writes lines to a descriptor without blocking. While the pipe or the disk is full, lines are dropped. The number
    of dropped lines is logged before the next line."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._rest = b""
        self._dropped = 0
        os.set_blocking(descriptor, False)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record).encode("utf-8", "backslashreplace") + b"\n"
        except Exception:  # a caller may log anything
            self.handleError(record)
            return
        dropped = json.dumps({"level": "warning", "event": "log lines were dropped", "lines": self._dropped}).encode()
        if self._write(self._rest + (dropped + b"\n" if self._dropped else b"") + line):
            self._dropped = 0
        else:
            self._dropped += 1

    def _write(self, data: bytes) -> bool:
        """Write as much as possible and return whether anything was written. The rest of an incomplete line is written
        before the next line."""
        try:
            written = os.write(self._descriptor, data)
        except OSError:
            return False
        self._rest = data[written:]
        return True


def set_up(level: str) -> None:
    """Log the runtime's messages from `level` on, and those of libraries from WARNING on."""
    handler = Dropping(sys.stderr.fileno())
    handler.setFormatter(_Lines())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    known = logging.getLevelNamesMapping()
    logging.getLogger("komputer").setLevel(known.get(level.upper(), logging.INFO))
    # The runtime logs the death of Claude itself, and a forwarded stream that breaks is not an error of the server.
    logging.getLogger("claude_agent_sdk").setLevel(logging.CRITICAL)
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL)
