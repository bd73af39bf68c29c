"""NetworkPolicies as nftables rules, by the semantics of networking.k8s.io/v1: whom a policy selects may do only what
some policy allows, in each direction that one names. For a router that every packet between the pods passes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]
NAMESPACE_LABEL = "kubernetes.io/metadata.name"


@dataclass(frozen=True)
class Pod:
    """`ports` are its named ones. A pod without a namespace is no pod but a host outside."""

    name: str
    namespace: str | None
    address: str
    labels: Mapping[str, str] = field(default_factory=dict)
    ports: Mapping[str, int] = field(default_factory=dict)


def ruleset(policies: Sequence[Json], pods: Sequence[Pod]) -> str:
    """What `nft -f` takes; it replaces the one before."""
    chains: list[str] = []
    jumps: list[str] = []
    for pod in pods:
        for direction, own in (("Egress", "saddr"), ("Ingress", "daddr")):
            isolating = [policy for policy in policies if _isolates(policy, pod, direction)]
            if isolating:
                name = f"{direction}_{pod.name}".replace("-", "_")
                allowed = [line for policy in isolating for line in _allowed(policy, pod, direction, pods)]
                chains.append("\n".join([f"chain {name} {{", *allowed, "reject", "}"]))
                jumps.append(f"ip {own} {pod.address} jump {name}")
    forward = ["type filter hook forward priority 0; policy accept;", "ct state established,related accept", *jumps]
    body = "\n".join([*chains, "chain forward {", *forward, "}"])
    return f"table ip policies {{}}\ndelete table ip policies\ntable ip policies {{\n{body}\n}}\n"


def _isolates(policy: Json, pod: Pod, direction: str) -> bool:
    spec = policy["spec"]
    directions = spec.get("policyTypes") or ["Ingress", *(["Egress"] if "egress" in spec else [])]
    return (
        direction in directions
        and pod.namespace == policy["metadata"]["namespace"]
        and _matches(spec.get("podSelector", {}), pod.labels)
    )


def _allowed(policy: Json, pod: Pod, direction: str, pods: Sequence[Pod]) -> Iterator[str]:
    """Rules that go on to the other end's, for each pair of an allowed address and port."""
    peers, other = ("to", "daddr") if direction == "Egress" else ("from", "saddr")
    for rule in policy["spec"].get(direction.lower()) or ():
        for address, target in _addresses(rule.get(peers), policy, pods):
            of = target if direction == "Egress" else pod
            match = f"ip {other} {address} " if address else ""
            for port in rule.get("ports") or [None]:
                if (wanted := _port(port, of)) is not None:
                    yield f"{match}{wanted} return".strip()


def _addresses(peers: Sequence[Json] | None, policy: Json, pods: Sequence[Pod]) -> Iterator[tuple[str, Pod | None]]:
    if not peers:
        yield "", None
    for peer in peers or ():
        if block := peer.get("ipBlock"):
            outside = "".join(f"ip daddr != {each} " for each in block.get("except") or ())
            yield f"{block['cidr']} {outside}".strip(), None
            continue
        for pod in pods:
            if "namespaceSelector" in peer:
                is_there = pod.namespace is not None and _matches(
                    peer["namespaceSelector"], {NAMESPACE_LABEL: pod.namespace}
                )
            else:
                is_there = pod.namespace == policy["metadata"]["namespace"]
            if is_there and _matches(peer.get("podSelector", {}), pod.labels):
                yield pod.address, pod


def _port(port: Json | None, target: Pod | None) -> str | None:
    """None for a name that the target does not have."""
    if port is None:
        return ""
    number = port.get("port")
    if isinstance(number, str):
        number = target.ports.get(number) if target else None
        if number is None:
            return None
    protocol = port.get("protocol", "TCP").lower()
    return f"{protocol} dport {number}" if number else f"meta l4proto {protocol}"


def _matches(selector: Json, labels: Mapping[str, str]) -> bool:
    if any(labels.get(key) != value for key, value in selector.get("matchLabels", {}).items()):
        return False
    for each in selector.get("matchExpressions") or ():
        value = labels.get(each["key"])
        holds = {
            "Exists": value is not None,
            "DoesNotExist": value is None,
            "In": value in each.get("values", ()),
            "NotIn": value not in each.get("values", ()),
        }[each["operator"]]
        if not holds:
            return False
    return True
