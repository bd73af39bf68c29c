"""Which addresses a connector may lead to."""

import ipaddress

import pytest

from komputer.domain.addresses import AddressRules, check_url, why_refused
from komputer.domain.errors import Invalid

INTERNET = AddressRules()
LAPTOP = AddressRules(loopback=True, own_ports=frozenset({8080, 6443}))
OFFICE = AddressRules(networks=(ipaddress.ip_network("10.1.0.0/16"), ipaddress.ip_network("fd00:1::/32")))


def code(url: str, rules: AddressRules) -> str | None:
    try:
        check_url(url, rules)
    except Invalid as refused:
        return refused.code if refused.field == "url" else None
    return None


@pytest.mark.parametrize(
    "url",
    [
        "https://mcp.example.com/mcp",
        "https://mcp.example.com:8443/v1/mcp?tenant=1",
        "https://93.184.216.34/mcp",
        "HTTPS://MCP.EXAMPLE.COM/",
        "https://[2606:4700::1111]/mcp",
    ],
)
def test_the_internet_may_be_called_by_https(url: str) -> None:
    assert code(url, INTERNET) is None


@pytest.mark.parametrize(
    "url",
    [
        "http://mcp.example.com/mcp",
        "http://93.184.216.34/mcp",
        "https://127.0.0.1/mcp",
        "https://localhost/mcp",
        "https://x.localhost/mcp",
        "https://[::1]/mcp",
        "https://[::ffff:127.0.0.1]/mcp",
        "https://[64:ff9b::7f00:1]/mcp",
        "https://[2002:7f00:1::]/mcp",
        "https://0.0.0.0/mcp",
        "https://[::]/mcp",
        "https://10.0.0.5/mcp",
        "https://172.16.0.1/mcp",
        "https://192.168.1.1/mcp",
        "https://100.64.0.1/mcp",
        "https://169.254.169.254/latest/meta-data",
        "https://[fe80::1%25eth0]/mcp",
        "https://[fd00::1]/mcp",
        "https://224.0.0.1/",
        "https://kubernetes/api",
        "https://kubernetes.default.svc/api",
        "https://redis.team.svc.cluster.local/",
        "https://redis.team.svc.cluster.local./",
        "https://metadata.google.internal/",
        "https://127.1/",
        "https://2130706433/",
        "https://0x7f.0.0.1/",
        "https://0x7f.1/",
        "https://0177.0.0.1/",
        "https://017700000001/",
        "https://127.0.0.1./",
        "https://tools.example.0x7f/",
        "https://[::1%25lo]/",
        "https://[2606:4700::1111%25eth0]/",
        "https://%31%32%37.0.0.1/",
    ],
)
def test_nothing_inside_may_be_called_and_nothing_in_the_clear(url: str) -> None:
    assert code(url, INTERNET) == "address_not_allowed"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "mcp.example.com",
        "ftp://mcp.example.com",
        "file:///etc/passwd",
        "https://",
        "https:///mcp",
        "https://user:secret@mcp.example.com/",
        "https://token@mcp.example.com/",
        "https://mcp.example.com:99999/",
        "https://mcp.example.com:0/",
        "https://mcp.example.com\\@127.0.0.1/",
        "https://mcp.example.com/\r\nhost: x",
        "https://mcp.example.com/ x",
        "https://[::1/",
        "https://mcp.exämple.com/",
        "https://１２７.0.0.1/",
        "https://127。0。0。1/",
        "https://mcp.example.com/" + "x" * 3000,
    ],
)
def test_what_is_no_address_is_told_as_such(url: str) -> None:
    assert code(url, LAPTOP) == "invalid"


def test_a_laptop_may_call_its_own_servers_but_no_part_of_the_platform() -> None:
    assert code("http://127.0.0.1:9000/mcp", LAPTOP) is None
    assert code("http://localhost:9000/mcp", LAPTOP) is None
    assert code("http://[::1]:9000/mcp", LAPTOP) is None
    for host in ("127.0.0.1", "127.8.9.10", "localhost", "[::1]", "[::ffff:127.0.0.1]"):
        for port in (8080, 6443):
            assert code(f"http://{host}:{port}/mcp", LAPTOP) == "address_not_allowed", host
    assert code("https://192.168.1.1/mcp", LAPTOP) == "address_not_allowed"


def test_networks_that_are_configured_may_be_called_and_no_others() -> None:
    assert code("http://10.1.2.3:8000/mcp", OFFICE) is None
    assert code("https://[fd00:1::5]/mcp", OFFICE) is None
    assert code("http://tools.team.svc:8000/mcp", OFFICE) is None, "judged when it is connected to"
    assert code("http://10.2.0.1/mcp", OFFICE) == "address_not_allowed"
    assert code("https://127.0.0.1/mcp", OFFICE) == "address_not_allowed"
    anything = AddressRules(networks=(ipaddress.ip_network("0.0.0.0/0"),))
    assert code("https://169.254.169.254/", anything) == "address_not_allowed"
    assert code("https://127.0.0.1/", anything) == "address_not_allowed"


@pytest.mark.parametrize("text", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "fe80::1", "::ffff:10.0.0.1"])
def test_each_address_is_judged_again_as_it_is_connected_to(text: str) -> None:
    assert why_refused(ipaddress.ip_address(text), 443, INTERNET, is_https=True)


def test_a_name_that_leads_to_the_internet_is_called_by_https_only() -> None:
    public = ipaddress.ip_address("93.184.216.34")
    assert why_refused(public, 443, INTERNET, is_https=True) is None
    assert why_refused(public, 80, LAPTOP, is_https=False)


NEVER_CALLED = [
    "169.254.169.254",
    "::a9fe:a9fe",
    "::ffff:169.254.169.254",
    "::ffff:0:169.254.169.254",
    "64:ff9b::169.254.169.254",
    "64:ff9b:1::169.254.169.254",
    "64:ff9b:1:a9fe:a9:fe00::",
    "2002:a9fe:a9fe::1",
    "2001:0:5db8:d822::5601:5601",  # Teredo: the client, inverted
    "2001:0:a9fe:a9fe::1",
    "2606:4700::5efe:a9fe:a9fe",
    "168.63.129.16",
    "::ffff:168.63.129.16",
    "64:ff9b::a83f:8110",
    "100.100.100.200",
    "192.0.0.192",
    "fd00:ec2::254",
    "fd20:ce::254",
    "fe80::1",
    "fec0::1",
    "ff02::1",
    "224.0.0.1",
    "255.255.255.255",
    "0.0.0.0",
    "::",
]


@pytest.mark.parametrize("text", NEVER_CALLED)
def test_the_machines_own_credentials_are_out_of_reach_whatever_is_configured(text: str) -> None:
    everything = AddressRules(loopback=True, networks=(ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0")))
    assert why_refused(ipaddress.ip_address(text), 443, everything, is_https=True)


@pytest.mark.parametrize(
    "text",
    [
        *NEVER_CALLED,
        "0.1.2.3",
        "100.64.0.1",
        "192.0.0.8",
        "192.0.0.170",
        "192.0.2.1",
        "192.88.99.1",
        "198.19.255.255",
        "198.51.100.1",
        "203.0.113.1",
        "240.0.0.1",
        "::2",
        "::93.184.216.34",
        "::ffff:0:127.0.0.1",
        "::ffff:0:93.184.216.34",
        "64:ff9b::10.0.0.1",
        "64:ff9b:1::1",
        "64:ff9b:1::93.184.216.34",
        "64:ff9b:2::1",
        "100::1",
        "100:0:0:1::1",
        "2001::1",
        "2001:1::4",
        "2001:2::1",
        "2001:10::1",
        "2001:db8::1",
        "2002:0a00:0001::1",
        "2606:4700::5efe:a00:1",
        "3fff::1",
        "3fff:fff:ffff::1",
        "4000::1",
        "5f00::1",
        "fc00::1",
        "fd12::1",
    ],
)
def test_addresses_that_iana_calls_special_or_has_not_allocated_are_refused(text: str) -> None:
    assert why_refused(ipaddress.ip_address(text), 443, INTERNET, is_https=True)
    host = f"[{text}]" if ":" in text else text
    assert code(f"https://{host}/mcp", INTERNET) == "address_not_allowed"


@pytest.mark.parametrize(
    "text",
    [
        "192.0.0.9",
        "192.0.1.1",
        "192.31.196.1",
        "198.20.0.1",
        "223.255.255.255",
        "::ffff:93.184.216.34",
        "64:ff9b::93.184.216.34",
        "2001:1::1",
        "2001:4:112::1",
        "2001:20::1",
        "2001:200::1",
        "2002:5db8:d822::1",
        "2606:4700::1111",
        "3ffe::1",
        "3fff:1000::1",
    ],
)
def test_the_rest_of_the_internet_is_not(text: str) -> None:
    assert why_refused(ipaddress.ip_address(text), 443, INTERNET, is_https=True) is None


def test_a_port_of_the_platform_is_refused_however_loopback_is_written() -> None:
    for text in ("127.0.0.1", "::1", "::ffff:127.0.0.1", "::127.0.0.1", "::ffff:0:127.0.0.1", "64:ff9b:1::127.0.0.1"):
        assert why_refused(ipaddress.ip_address(text), 8080, LAPTOP, is_https=True), text
