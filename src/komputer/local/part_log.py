"""The log file of a part: `logs/<part>.log` in the data directory, rotated."""

import contextlib
import logging
import logging.handlers
import os
from pathlib import Path

from komputer.bootstrap import logs
from komputer.local.platform import Platform

LOG_LIMIT_BYTES, LOGS_KEPT = 10 * 1024 * 1024, 3


class PartLogFile(logging.handlers.RotatingFileHandler):
    """A log file that is rotated at `LOG_LIMIT_BYTES`, and created again if it is removed."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        super().__init__(path, maxBytes=LOG_LIMIT_BYTES, backupCount=LOGS_KEPT, encoding="utf-8", errors="replace")

    def emit(self, record: logging.LogRecord) -> None:
        if not os.path.exists(self.baseFilename):
            with contextlib.suppress(OSError):
                os.makedirs(os.path.dirname(self.baseFilename), mode=0o700, exist_ok=True)
                self.close()
                self.stream = self._open()
        super().emit(record)


def log_to_file(platform: Platform, part: str) -> None:
    """Send the log records of this process, and its standard error, to `logs/<part>.log`."""
    with contextlib.suppress(OSError):  # a full disk: the part may work without the missing files
        platform.restore()
    path = platform.data.logs / f"{part}.log"
    logs.configure(PartLogFile(path), platform.options.log_level, platform.options.log_format)
    log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(log, 2)
    os.close(log)
