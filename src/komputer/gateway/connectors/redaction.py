"""Takes a credential out of a stream of bytes, should a server send it back. Pure, but for what it holds back."""

SHORTEST: int = 8
"""What is shorter is no secret, and would be found in innocent text."""


class Redaction:
    """Of one answer. As many bytes come out as go in, and at once, but for those with which the secret may begin."""

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
        """How many bytes at the end of `text` may be the beginning of the secret."""
        for length in range(min(len(self._secret) - 1, len(text)), 0, -1):
            if self._secret.startswith(text[-length:]):
                return length
        return 0
