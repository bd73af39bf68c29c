"""The errors of the platform, classified by what the caller does next. Each has a stable `code` for programs."""


class KomputerError(Exception):
    """An expected failure. Its message says in one sentence what happened, to which object, and what to do."""

    code = "internal"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or type(self).code


class NotFound(KomputerError):
    """The object does not exist. Check the name and the namespace."""

    code = "not_found"


class Conflict(KomputerError):
    """The object exists already, or has changed since the caller read it. Read it and decide again."""

    code = "conflict"


class Busy(Conflict):
    """The agent has a task. Wait for its end or cancel it."""

    code = "busy"


class PreconditionFailed(KomputerError):
    """The object is not in the state that the caller requires (If-Match). Read it and decide again."""

    code = "precondition_failed"


class Invalid(KomputerError):
    """The request is invalid. Correct it. `field` is the path of the invalid value, if there is one."""

    code = "invalid"

    def __init__(self, message: str, *, code: str | None = None, field: str | None = None) -> None:
        super().__init__(message, code=code)
        self.field = field


class Unauthorized(KomputerError):
    """The caller is not authenticated."""

    code = "unauthorized"


class Forbidden(KomputerError):
    """The caller is authenticated, but the operation is not permitted."""

    code = "forbidden"


class Unavailable(KomputerError):
    """A required service does not answer. Try again after `retry_after_s` seconds."""

    code = "unavailable"

    def __init__(self, message: str, *, code: str | None = None, retry_after_s: int = 2) -> None:
        super().__init__(message, code=code)
        self.retry_after_s = retry_after_s


class TooManyRequests(Unavailable):
    """The caller exceeds a rate limit. Wait `retry_after_s` seconds, and send fewer requests at once."""

    code = "too_many_requests"


class ServerFailed(KomputerError):
    """The server of a connector fails. The code says how, such as `mcp_unauthorized`."""

    code = "mcp_protocol"
