"""Access tokens of Google Cloud, for a service account's key or the pod's identity, by Google's own library."""

import asyncio
import time
from pathlib import Path
from typing import Any

import google.auth
import structlog
from google.auth.credentials import TokenState
from google.auth.exceptions import GoogleAuthError
from google.auth.transport.requests import Request
from google.oauth2 import service_account

from komputer.gateway import ModelCredential, UpstreamUnreachable

SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
TIMEOUT_S = 10.0
RETRY_S = 30.0
"""Seconds between attempts to renew a token that is still valid. Without this pause, every request would wait for an
attempt while Google does not answer."""

log = structlog.get_logger(__name__)


class GoogleToken:
    """An access token that renews itself. A call returns a token that is valid for some minutes at least. `key_file`
    is read for each new token. None: the token is for the pod's identity, or for the key in the file that
    GOOGLE_APPLICATION_CREDENTIALS names."""

    def __init__(self, key_file: Path | None) -> None:
        self._key_file = key_file
        self._credentials: Any = None
        self._renewing = asyncio.Lock()
        self._tried_at = -RETRY_S

    async def __call__(self) -> ModelCredential:
        """Return the token. Raises `UpstreamUnreachable` if Google issues none."""
        async with self._renewing:
            is_due = time.monotonic() - self._tried_at > RETRY_S
            if self._state is TokenState.INVALID or (self._state is TokenState.STALE and is_due):
                await self._renew()
        return ModelCredential(kind="bearer", value=self._credentials.token)

    @property
    def _state(self) -> TokenState:
        return self._credentials.token_state if self._credentials else TokenState.INVALID

    async def _renew(self) -> None:
        self._tried_at = time.monotonic()
        try:
            async with asyncio.timeout(TIMEOUT_S):
                self._credentials = await asyncio.to_thread(self._new)
        except (GoogleAuthError, OSError, ValueError) as error:
            if self._state is TokenState.INVALID:
                log.warning("no access token from Google", error=type(error).__name__)
                raise UpstreamUnreachable(
                    f"Google gives the platform no access token ({type(error).__name__}); its operator can see why."
                ) from None
            log.warning("access token from Google not renewed", error=type(error).__name__)

    def _new(self) -> Any:
        if self._key_file:
            kind: Any = service_account.Credentials  # untyped
            credentials = kind.from_service_account_file(str(self._key_file), scopes=SCOPES)
        else:
            credentials, _ = google.auth.default(scopes=SCOPES)
        credentials.refresh(Request())
        return credentials
