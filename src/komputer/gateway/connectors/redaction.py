"""Removes a credential from a stream of bytes, in case a server sends it back."""

SHORTEST: int = 8
"""The shortest value that is redacted, in characters. A shorter one is not a secret and would match ordinary text."""


class Redaction:
    """The filter for one answer. It replaces each byte of the secret by an asterisk, so the length does not change. It
    holds back only the bytes at the end of a chunk that may be the beginning of the secret."""

    def __init__(self, secret: str | None) -> None:
        self._secret = secret.encode() if secret and len(secret) >= SHORTEST else b""
        self._held = b""

    def feed(self, chunk: bytes) -> bytes:
        if not self._secret:
            return chunk
        text = (self._held + chunk).replace(self._secret, b"*" * len(self._secret))
        keep = self._begun(text)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def rest(self) -> bytes:
        held, self._held = self._held, b""
        return held

    def _begun(self, text: bytes) -> int:
        """Return how many bytes at the end of `text` may be the beginning of the secret."""
        for length in range(min(len(self._secret) - 1, len(text)), 0, -1):
            if self._secret.startswith(text[-length:]):
                return length
        return 0
