"""IANA's special-purpose address registries as data. Pure.

The tables are part of the product, so that an address is classified alike under every Python version:
`ipaddress.is_global` uses the tables of its Python release.

To update: compare with https://www.iana.org/assignments/iana-ipv4-special-registry and
https://www.iana.org/assignments/iana-ipv6-special-registry, then change `TABLES_OF`.
"""

import ipaddress
from collections.abc import Iterator
from typing import Final, TypeAlias

IP: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

TABLES_OF: Final = "2025-12"
"""Year and month of the registries' contents below. The newest entry is 100:0:0:1::/64 (RFC 9780, April 2025)."""

_NOT_GLOBAL: Final = (
    "0.0.0.0/8",  # this network
    "10.0.0.0/8",  # private use
    "100.64.0.0/10",  # shared address space
    "127.0.0.0/8",  # loopback
    "169.254.0.0/16",  # link-local
    "172.16.0.0/12",  # private use
    "192.0.0.0/24",  # IETF protocol assignments
    "192.0.2.0/24",  # documentation
    "192.88.99.0/24",  # deprecated 6to4 relay anycast
    "192.168.0.0/16",  # private use
    "198.18.0.0/15",  # benchmarking
    "198.51.100.0/24",  # documentation
    "203.0.113.0/24",  # documentation
    "224.0.0.0/4",  # multicast
    "240.0.0.0/4",  # reserved, limited broadcast
    "2001::/23",  # IETF protocol assignments: Teredo, benchmarking, ORCHID
    "2001:db8::/32",  # documentation
    "2002::/16",  # 6to4; the embedded address is checked instead
    "3fff::/20",  # documentation
)
_GLOBAL_WITHIN: Final = (
    "192.0.0.9/32",  # Port Control Protocol anycast
    "192.0.0.10/32",  # TURN anycast
    "2001:1::1/128",  # Port Control Protocol anycast
    "2001:1::2/128",  # TURN anycast
    "2001:1::3/128",  # DNS-SD service registration anycast
    "2001:3::/32",  # AMT
    "2001:4:112::/48",  # AS112-v6
    "2001:20::/28",  # ORCHIDv2
    "2001:30::/28",  # drone remote ID
)
"""Globally reachable parts of the networks in `_NOT_GLOBAL`."""
_GLOBAL_UNICAST: Final = ipaddress.IPv6Network("2000::/3")
"""The block from which IANA allocates global unicast addresses. Every other address is special or reserved:
64:ff9b:1::/48, 100::/64, 100:0:0:1::/64, 5f00::/16, fc00::/7, fe80::/10, fec0::/10, ff00::/8, and blocks without a
purpose yet."""

_NEVER: Final = (
    "0.0.0.0/32",  # unspecified
    "169.254.0.0/16",  # link-local, and the metadata service of most clouds
    "224.0.0.0/4",  # multicast
    "255.255.255.255/32",  # limited broadcast
    "100.100.100.200/32",  # metadata service: Alibaba Cloud
    "168.63.129.16/32",  # wire server: Azure. Its address is public, but answers inside of Azure only
    "192.0.0.192/32",  # metadata service: Oracle Cloud
    "::/128",  # unspecified
    "fd00:ec2::254/128",  # metadata service: AWS
    "fd20:ce::254/128",  # metadata service: Google Cloud
    "fe80::/10",  # link-local
    "fec0::/10",  # deprecated site-local
    "ff00::/8",  # multicast
)
"""Addresses that are refused whatever is configured: metadata services hand out the machine's own credentials, and the
other addresses do not identify a single host."""


def _networks(texts: tuple[str, ...]) -> tuple[Network, ...]:
    return tuple(ipaddress.ip_network(text) for text in texts)


NOT_GLOBAL: Final = _networks(_NOT_GLOBAL)
GLOBAL_WITHIN: Final = _networks(_GLOBAL_WITHIN)
NEVER: Final = _networks(_NEVER)
LOOPBACK: Final = _networks(("127.0.0.0/8", "::1/128"))

_MAPPED: Final = ipaddress.IPv6Network("::ffff:0:0/96")
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_SIX_TO_FOUR: Final = ipaddress.IPv6Network("2002::/16")
_COMPATIBLE: Final = ipaddress.IPv6Network("::/96")
_TRANSLATED: Final = ipaddress.IPv6Network("::ffff:0:0:0/96")
_LOCAL_NAT64: Final = ipaddress.IPv6Network("64:ff9b:1::/48")
_TEREDO: Final = ipaddress.IPv6Network("2001::/32")
_ISATAP: Final = (0x00005EFE, 0x02005EFE)
"""Values of the upper half of an ISATAP interface identifier (RFC 5214)."""


def is_in(ip: IP, networks: tuple[Network, ...]) -> bool:
    return any(ip.version == network.version and ip in network for network in networks)


def is_global(ip: IP) -> bool:
    """Return whether the registries list the address as globally reachable. An IPv4 address embedded in it is not
    considered."""
    if ip.version == 6 and ip not in _GLOBAL_UNICAST:
        return False
    return not is_in(ip, NOT_GLOBAL) or is_in(ip, GLOBAL_WITHIN)


def carried(ip: IP) -> IP:
    """Return the IPv4 address to which a packet to `ip` is delivered, if `ip` is IPv4-mapped, well-known NAT64 or 6to4.
    Return any other address unchanged."""
    if isinstance(ip, ipaddress.IPv6Address):
        if ip in _MAPPED or ip in _NAT64:
            return _bits(ip, 0)
        if ip in _SIX_TO_FOUR:
            return _bits(ip, 80)
    return ip


def embedded(ip: IP) -> Iterator[ipaddress.IPv4Address]:
    """Yield each IPv4 address that a translator or tunnel may extract from `ip`, including the deprecated
    mechanisms."""
    if not isinstance(ip, ipaddress.IPv6Address):
        return
    if any(ip in network for network in (_MAPPED, _NAT64, _TRANSLATED)) or (ip in _COMPATIBLE and int(ip) > 1):
        yield _bits(ip, 0)
    elif ip in _SIX_TO_FOUR:
        yield _bits(ip, 80)
    elif ip in _TEREDO:
        yield _bits(ip, 64)  # the server
        yield ipaddress.IPv4Address(int(_bits(ip, 0)) ^ 0xFFFFFFFF)  # the client
    elif ip in _LOCAL_NAT64:
        # RFC 6052: the operator chooses the prefix's length; bits 64 to 71 are skipped.
        yield _bits(ip, 0)
        upper, lower = int(_bits(ip, 64)), int(ip) >> 24 & 0xFFFFFFFF
        yield ipaddress.IPv4Address((upper & 0xFFFF) << 16 | lower >> 16)
        yield ipaddress.IPv4Address((upper & 0xFF) << 24 | lower >> 8)
        yield ipaddress.IPv4Address(lower)
    if int(ip) >> 32 & 0xFFFFFFFF in _ISATAP:
        yield _bits(ip, 0)


def _bits(ip: IP, right: int) -> ipaddress.IPv4Address:
    """Return the 32 bits of `ip` that remain after `right` lower bits are dropped, as an IPv4 address."""
    return ipaddress.IPv4Address(int(ip) >> right & 0xFFFFFFFF)
