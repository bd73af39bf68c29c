"""The model's credential as a mounted Secret: in a file, never in the environment, read anew when it was rotated."""

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
    """Call it for the credential as it is now. Raises `Invalid` (`model_credential`) at the start where the file cannot
    be read or is empty; later the last one that was read counts until it can be."""

    path: Path
    kind: Literal["api_key", "bearer"]
    _seen: tuple[int, int, int] | None = None
    _credential: ModelCredential | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        try:
            self._look()
        except (OSError, ValueError) as wrong:
            raise Invalid(
                f"the model's credential cannot be read from {self.path}: {wrong}", code="model_credential"
            ) from wrong

    async def __call__(self) -> ModelCredential | None:
        try:
            self._look()
        except (OSError, ValueError) as wrong:
            log.warning("model credential not read anew", path=str(self.path), error=type(wrong).__name__)
        return self._credential

    def _look(self) -> None:
        found = os.stat(self.path)
        now = (found.st_ino, found.st_mtime_ns, found.st_size)
        if now == self._seen:
            return
        value = self.path.read_text("utf-8").strip()
        if not value or not value.isascii() or not value.isprintable():
            raise ValueError("it holds no credential: one line of printable ASCII is expected")
        self._seen, self._credential = now, ModelCredential(kind=self.kind, value=value)
