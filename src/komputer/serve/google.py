"""Google's access tokens, by Google's own library: of a service account's key, or of the pod's identity."""

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
WITHIN_S = 10.0
AGAIN_S = 30.0
"""Between attempts while the last token is still good: requests do not wait for each."""

log = structlog.get_logger(__name__)


class GoogleToken:
    """Call it for a token that is good for minutes at least. `key_file` is read for each new token; None: the identity
    of the pod, or what GOOGLE_APPLICATION_CREDENTIALS names."""

    def __init__(self, key_file: Path | None) -> None:
        self._key_file = key_file
        self._credentials: Any = None
        self._one_at_a_time = asyncio.Lock()
        self._tried = -AGAIN_S

    async def __call__(self) -> ModelCredential:
        """Raises `UpstreamUnreachable` where Google gives none."""
        async with self._one_at_a_time:
            is_due = time.monotonic() - self._tried > AGAIN_S
            if self._state is TokenState.INVALID or (self._state is TokenState.STALE and is_due):
                await self._renew()
        return ModelCredential(kind="bearer", value=self._credentials.token)

    @property
    def _state(self) -> TokenState:
        return self._credentials.token_state if self._credentials else TokenState.INVALID

    async def _renew(self) -> None:
        self._tried = time.monotonic()
        try:
            async with asyncio.timeout(WITHIN_S):
                self._credentials = await asyncio.to_thread(self._new)
        except (GoogleAuthError, OSError, ValueError) as error:
            if self._state is TokenState.INVALID:
                log.warning("no access token of Google's", error=type(error).__name__)
                raise UpstreamUnreachable(
                    f"Google gives the platform no access token ({type(error).__name__}); its operator can see why."
                ) from None
            log.warning("access token of Google's not renewed yet", error=type(error).__name__)

    def _new(self) -> Any:
        if self._key_file:
            kind: Any = service_account.Credentials  # untyped
            credentials = kind.from_service_account_file(str(self._key_file), scopes=SCOPES)
        else:
            credentials, _ = google.auth.default(scopes=SCOPES)
        credentials.refresh(Request())
        return credentials
