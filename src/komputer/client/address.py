"""Reads the address of the API in every form in which people write it."""

import ipaddress
import os
from typing import Final
from urllib.parse import urlsplit

VARIABLE: Final = "KOMPUTER_API"
"""Environment variable with the API's address."""
DEFAULT: Final = "http://127.0.0.1:8080"
PREFIX: Final = "/api/v1"


def from_environment() -> str:
    """Return the address that `KOMPUTER_API` names, else that of the platform on this machine."""
    return os.environ.get(VARIABLE) or DEFAULT


def normalized(address: str) -> str:
    """Return `scheme://host[:port][/path]`, without `/api/v1` and trailing slashes.

    Without a scheme, a loopback address is `http` and any other is `https`: a token never leaves the machine in clear
    text unless `http://` is written out. Raises `ValueError` for an invalid address.
    """
    text = address.strip()
    if text.isdecimal():
        raise ValueError(f"{address!r} is not the address of an API: it is a port only; write it as {DEFAULT}")
    try:
        parts = urlsplit(text if "://" in text else f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError as wrong:
        raise ValueError(
            f"{address!r} is not the address of an API; write it as {DEFAULT} or http://[::1]:8080"
        ) from wrong
    scheme = parts.scheme or ("http" if _is_loopback(host or "") else "https")
    is_mistyped = "://" not in text and parts.hostname in ("http", "https")
    if scheme not in ("http", "https") or not host or parts.query or parts.fragment or port == 0 or is_mistyped:
        raise ValueError(f"{address!r} is not the address of an API; write it as {DEFAULT}")
    if parts.username is not None or parts.password is not None:
        raise ValueError("the address of an API must not contain a user or a password; set KOMPUTER_TOKEN instead")
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError(f"{address!r} is not the address of an API: it contains characters that no address has")
    path = parts.path.rstrip("/").removesuffix(PREFIX).rstrip("/")
    return f"{scheme}://{parts.netloc}{path}"


def _is_loopback(host: str) -> bool:
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    return found.is_loopback or found.is_unspecified
