"""The rules for the addresses that connectors may call. Pure.

A URL is checked twice: `check_url` checks its text, and `why_refused` checks each resolved IP address directly before a
connection to it is opened. A name that resolves to another address at the second lookup (DNS rebinding) therefore gains
nothing.
"""

import ipaddress
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, urlsplit

from komputer.domain import special_addresses as special
from komputer.domain.connector import URL_LIMIT
from komputer.domain.errors import Invalid
from komputer.domain.special_addresses import IP, Network

CODE: Final = "address_not_allowed"
CLUSTER_SUFFIXES: Final = (".svc", ".cluster.local", ".internal")


@dataclass(frozen=True, kw_only=True)
class AddressRules:
    """The addresses that connectors may call: by default all public addresses, by https only. The fields allow more.
    Link-local and cloud metadata addresses are never allowed."""

    loopback: bool = False
    """Whether loopback addresses may be called, also by http. Meant for servers on a laptop."""
    own_ports: frozenset[int] = frozenset()
    """Ports of the platform's own programs on this machine. No connector may call them."""
    networks: tuple[Network, ...] = ()
    """Private or cluster-internal networks that may be called, also by http."""


def check_url(url: str, rules: AddressRules) -> None:
    """Raise `Invalid` if the rules forbid every connection to `url`. The message says what to change. Only the text is
    checked here; `why_refused` checks the addresses that a host name resolves to."""
    parts = _split(url)
    host = (parts.hostname or "").rstrip(".").lower()
    if parts.scheme not in ("https", "http"):
        raise _wrong("url must begin with https://")
    if not host:
        raise _wrong("url names no host")
    if parts.username is not None or parts.password is not None:
        raise _wrong("url must not hold a user or password; give a token instead")
    if parts.port == 0:
        raise _wrong("url must not name port 0")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    ip = _ip(host)
    is_local_name = host == "localhost" or host.endswith(".localhost")
    if ip or is_local_name:
        if why := why_refused(ip or ipaddress.ip_address("127.0.0.1"), port, rules, is_https=parts.scheme == "https"):
            raise _refused(f"url: {why}")
        return
    if rules.networks:
        return
    if parts.scheme == "http":
        raise _refused("url must be https: a credential is never sent in the clear")
    if "." not in host or host.endswith(CLUSTER_SUFFIXES):
        raise _refused(f"url: {host!r} is a name inside of the cluster; this platform lets connectors call none")


def why_refused(ip: IP, port: int, rules: AddressRules, *, is_https: bool) -> str | None:
    """Return the reason for which a connection to this address is refused; None if it is allowed. An IPv4 address
    embedded in an IPv6 address is treated as that IPv4 address."""
    if any(special.is_in(each, special.NEVER) for each in (ip, *special.embedded(ip))):
        return "link-local, multicast, unspecified and cloud metadata addresses are never called"
    target = special.carried(ip)
    if any(special.is_in(each, special.LOOPBACK) for each in (ip, *special.embedded(ip))):
        if port in rules.own_ports:
            return "that is a port of the platform itself"
        return None if rules.loopback else "this platform lets connectors call no loopback address"
    if special.is_in(target, rules.networks):
        return None
    hosts = (target,) if target != ip else (ip, *special.embedded(ip))
    if not all(special.is_global(each) for each in hosts):
        return "this platform lets connectors call no private, reserved or cluster-internal address"
    return None if is_https else "it must be https: a credential is never sent in the clear"


def _ip(host: str) -> IP | None:
    """Return a host as an IP address; None if it is a name. Raises `Invalid` for legacy notations that resolvers accept
    as an address (`127.1`, `0x7f.1`, `0177.0.0.1`, `2130706433`), and for a percent sign (a zone or an encoded host).
    As in browsers, a host whose last label is a number is an address."""
    if "%" in host:
        raise _refused("url: write the host without a percent sign, an IPv6 address without a zone")
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        pass
    if not _is_number(host.rpartition(".")[2]):
        return None
    raise _refused("url: write an IP address in its usual form")


def _is_number(label: str) -> bool:
    digits = "0123456789abcdef" if label.startswith("0x") else "0123456789"
    return bool(label) and all(sign in digits for sign in label.removeprefix("0x"))


def _split(url: str) -> SplitResult:
    try:
        if len(url) > URL_LIMIT or not url.isascii() or any(sign <= " " or sign in '\\"<>' for sign in url):
            raise ValueError
        parts = urlsplit(url)
        _ = parts.port, parts.hostname
    except ValueError:
        raise _wrong(f"url is no address, or longer than {URL_LIMIT} characters") from None
    return parts


def _wrong(sentence: str) -> Invalid:
    return Invalid(sentence, code="invalid", field="url")


def _refused(sentence: str) -> Invalid:
    return Invalid(sentence, code=CODE, field="url")
