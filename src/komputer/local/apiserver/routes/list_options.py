"""The checks of a list's or watch's query: `resourceVersion`, `resourceVersionMatch`, `sendInitialEvents`.

A resourceVersion is the store's revision at some moment. A list may ask for exactly that revision (`Exact`) or for one
that is not older (`NotOlderThan`). This server only serves the newest revision, which always satisfies the second, and
the first only if nothing has changed since.
"""

from typing import Any

from komputer.local.apiserver.errors import FieldError, StatusError, bad_request, expired, forbidden_field, invalid
from komputer.local.apiserver.requests import ResourceRequest


def parse_revision(text: str) -> int:
    """Return a resourceVersion as a number. Raises StatusError 400."""
    if not text.isascii() or not text.isdecimal() or len(text) > 18:
        raise bad_request(f"resourceVersion: Invalid value: {text!r}: must be a whole number")
    return int(text)


def check_list(call: ResourceRequest, current: int) -> None:
    """Raise StatusError 400, 410, 422 or 504 for a list that cannot be served at revision `current`."""
    text, match = call.query.get("resourceVersion", ""), call.query.get("resourceVersionMatch", "")
    if call.query.get("continue"):
        if text not in ("", "0"):
            raise bad_request("specifying resource version is not allowed when using continue")
        return
    requested = parse_revision(text) if text else 0
    faults: list[FieldError] = []
    if match and not text:
        faults.append(
            forbidden_field(
                "resourceVersionMatch", "resourceVersionMatch is forbidden unless resourceVersion is provided"
            )
        )
    elif match not in ("", "Exact", "NotOlderThan"):
        faults.append(forbidden_field("resourceVersionMatch", f"unknown value {match!r}"))
    elif match == "Exact" and requested == 0:
        faults.append(
            forbidden_field("resourceVersionMatch", 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"')
        )
    if faults:
        raise invalid("ListOptions", "meta.k8s.io", "", faults)
    refuse_future(requested, current)
    if match == "Exact" and requested != current:
        raise expired("The resourceVersion for the provided list is too old.")


def refuse_future(requested: int, current: int) -> None:
    """Raise StatusError 504 for a revision that the store has not reached yet.

    The client has read it from a database that has been lost since. This is the error that makes clients list again."""
    if requested > current:
        details: dict[str, Any] = {
            "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]
        }
        message = f"Timeout: Too large resource version: {requested}, current: {current}"
        raise StatusError(504, "Timeout", message, {**details, "retryAfterSeconds": 1})


def check_watch(call: ResourceRequest) -> None:
    """Raise StatusError 422 for options that a server without the WatchList feature refuses."""
    faults = []
    if "sendInitialEvents" in call.query:
        text = "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled"
        faults.append(forbidden_field("sendInitialEvents", text))
    if call.query.get("resourceVersionMatch"):
        text = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
        faults.append(forbidden_field("resourceVersionMatch", text))
    if faults:
        raise invalid("ListOptions", "meta.k8s.io", "", faults)
