"""The model's credential from a mounted Secret. It is in a file, never in the environment, and is read again after a
rotation."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import structlog

from komputer.domain.errors import Invalid
from komputer.gateway import ModelCredential

log = structlog.get_logger(__name__)


@dataclass
class CredentialFile:
    """The credential in a file. A call returns the present one. The constructor raises `Invalid` (`model_credential`)
    if the file cannot be read or is empty. If that happens later, the last valid credential is used until the file can
    be read again."""

    path: Path
    kind: Literal["api_key", "bearer"]
    _version: tuple[int, int, int] | None = None
    _credential: ModelCredential | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        try:
            self._refresh()
        except (OSError, ValueError) as wrong:
            raise Invalid(
                f"the model's credential cannot be read from {self.path}: {wrong}", code="model_credential"
            ) from wrong

    async def __call__(self) -> ModelCredential | None:
        try:
            self._refresh()
        except (OSError, ValueError) as wrong:
            log.warning("model credential not refreshed", path=str(self.path), error=type(wrong).__name__)
        return self._credential

    def _refresh(self) -> None:
        found = os.stat(self.path)
        version = (found.st_ino, found.st_mtime_ns, found.st_size)
        if version == self._version:
            return
        value = self.path.read_text("utf-8").strip()
        if not value or not value.isascii() or not value.isprintable():
            raise ValueError("it contains no credential: one line of printable ASCII is expected")
        self._version, self._credential = version, ModelCredential(kind=self.kind, value=value)
