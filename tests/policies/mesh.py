"""Pods without a cluster: a network namespace each, all joined by one that routes between them and filters."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from types import TracebackType

from tests.policies.rules import Json, Pod, ruleset

Reached = set[tuple[str, str, int]]
"""Pod, protocol, port."""

LISTEN = """
import json, selectors, socket, sys
selector = selectors.DefaultSelector()
for protocol, port in json.loads(sys.argv[1]):
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    each = socket.socket(socket.AF_INET, kind)
    each.bind(("0.0.0.0", port))
    if protocol == "tcp":
        each.listen(64)
    selector.register(each, selectors.EVENT_READ, protocol)
print("ready", flush=True)
while True:
    for key, _ in selector.select():
        if key.data == "tcp":
            key.fileobj.accept()[0].close()
        else:
            key.fileobj.sendto(b"heard", key.fileobj.recvfrom(100)[1])
"""
TRY = """
import concurrent.futures, json, socket, sys
def reaches(target):
    address, protocol, port = target
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET, kind) as each:
        each.settimeout(5)
        try:
            each.connect((address, port))
            if protocol == "udp":
                each.send(b"anybody?")
                return each.recv(100) == b"heard"
            return True
        except OSError:
            return False
targets = json.loads(sys.argv[1])
with concurrent.futures.ThreadPoolExecutor(len(targets)) as pool:
    print(json.dumps(list(pool.map(reaches, targets))))
"""


class Mesh:
    """Wants root. Every pod listens on every one of `ports`, so that only policies decide what is reached."""

    def __init__(self, pods: Sequence[Pod], ports: Sequence[tuple[str, int]]) -> None:
        self.pods = pods
        self.ports = ports
        self._prefix = f"policies{os.getpid()}"
        self._listening: list[subprocess.Popen[str]] = []

    def __enter__(self) -> "Mesh":
        try:
            self._ip("netns", "add", self._prefix)
            self._in(self._prefix, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv4.icmp_ratelimit=0")
            for n, pod in enumerate(self.pods):
                self._join(n, pod)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        for each in self._listening:
            each.kill()
            each.communicate()
        for name in (*(self._name(n) for n in range(len(self.pods))), self._prefix):
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)

    def apply(self, policies: Sequence[Json]) -> None:
        self._in(self._prefix, "nft", "-f", "-", text=ruleset(policies, self.pods))

    def reached_from(self, name: str) -> Reached:
        """What this pod gets an answer from."""
        (n,) = (n for n, pod in enumerate(self.pods) if pod.name == name)
        targets = [(pod, *port) for pod in self.pods if pod.name != name for port in self.ports]
        asked = json.dumps([(pod.address, protocol, port) for pod, protocol, port in targets])
        answers = json.loads(self._in(self._name(n), sys.executable, "-c", TRY, asked))
        return {
            (pod.name, protocol, port)
            for (pod, protocol, port), answered in zip(targets, answers, strict=True)
            if answered
        }

    def reaching(self, name: str) -> Reached:
        """Which pods get an answer from this one, at what."""
        return {
            (pod.name, protocol, port)
            for pod in self.pods
            if pod.name != name
            for at, protocol, port in self.reached_from(pod.name)
            if at == name
        }

    def _join(self, n: int, pod: Pod) -> None:
        name, gateway = self._name(n), f"169.254.{n}.1"
        self._ip("netns", "add", name)
        self._ip("link", "add", f"pod{n}", "netns", self._prefix, "type", "veth", "peer", "name", "eth0", "netns", name)
        self._in(self._prefix, "ip", "addr", "add", f"{gateway}/32", "dev", f"pod{n}")
        self._in(self._prefix, "ip", "link", "set", f"pod{n}", "up")
        self._in(self._prefix, "ip", "route", "add", pod.address, "dev", f"pod{n}")
        self._in(name, "ip", "link", "set", "lo", "up")
        self._in(name, "ip", "addr", "add", f"{pod.address}/32", "dev", "eth0")
        self._in(name, "ip", "link", "set", "eth0", "up")
        self._in(name, "ip", "route", "add", gateway, "dev", "eth0")
        self._in(name, "ip", "route", "add", "default", "via", gateway)
        command = ["ip", "netns", "exec", name, sys.executable, "-c", LISTEN, json.dumps(self.ports)]
        listening = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self._listening.append(listening)
        assert listening.stdout
        assert listening.stdout.readline() == "ready\n"

    def _name(self, n: int) -> str:
        return f"{self._prefix}-{n}"

    def _ip(self, *arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True)

    def _in(self, name: str, *command: str, text: str | None = None) -> str:
        done = subprocess.run(
            ["ip", "netns", "exec", name, *command], input=text, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}: {done.stderr}\n{text or ''}"
        return done.stdout
