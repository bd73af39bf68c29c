"""Our errors, by what the caller does next. Each has a stable `code`, which clients may match on."""


class KomputerError(Exception):
    """Something that we expected to go wrong, told in one sentence: what happened, to which object, what to do."""

    code = "internal"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or type(self).code


class NotFound(KomputerError):
    """There is no such object; check the name and the namespace."""

    code = "not_found"


class Conflict(KomputerError):
    """The object exists already, or is no longer what the caller had read: read again and decide anew."""

    code = "conflict"


class Busy(Conflict):
    """The agent has a task; wait for its end or cancel it."""

    code = "busy"


class PreconditionFailed(KomputerError):
    """The object is no longer in the state that the caller named (If-Match): read it again and decide anew."""

    code = "precondition_failed"


class Invalid(KomputerError):
    """What was sent cannot be accepted; correct it. `field` is the path of what is wrong, where one is."""

    code = "invalid"

    def __init__(self, message: str, *, code: str | None = None, field: str | None = None) -> None:
        super().__init__(message, code=code)
        self.field = field


class Unauthorized(KomputerError):
    """The caller did not prove who it is."""

    code = "unauthorized"


class Forbidden(KomputerError):
    """The caller is known and may not do this."""

    code = "forbidden"


class Unavailable(KomputerError):
    """Something we need does not answer now; try again after `retry_after_s` seconds."""

    code = "unavailable"

    def __init__(self, message: str, *, code: str | None = None, retry_after_s: int = 2) -> None:
        super().__init__(message, code=code)
        self.retry_after_s = retry_after_s


class TooManyRequests(Unavailable):
    """The caller asks for more than its share; wait `retry_after_s` seconds, and ask for less at once."""

    code = "too_many_requests"


class ServerFailed(KomputerError):
    """A server that somebody named to us does not do its part. The code says how: `mcp_unauthorized`, …"""

    code = "mcp_protocol"
