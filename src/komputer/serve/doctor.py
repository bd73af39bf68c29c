"""`komputer doctor`: looks at an installation from outside, as an administrator, and says what to do where something is
wrong."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal
from uuid import uuid4

from pydantic import ValidationError

from komputer import __version__
from komputer.domain import crds, names
from komputer.domain.config import Config
from komputer.domain.errors import KomputerError, NotFound
from komputer.kube import CLUSTER_TEMPLATES, CONFIGS, CRDS, PODS, Cluster, Kind
from komputer.serve.rights import IN_NAMESPACES, OF_THE_CLUSTER

DEPLOYMENTS: Final = Kind("apps", "v1", "deployments", "Deployment")
STORAGE_CLASSES: Final = Kind("storage.k8s.io", "v1", "storageclasses", "StorageClass", namespaced=False)
DEFAULT_CLASS: Final = "storageclass.kubernetes.io/is-default-class"
PART_OF: Final = "app.kubernetes.io/part-of=komputer"
COMPONENT: Final = "app.kubernetes.io/component"
OLDEST: Final = (1, 28)
SKEW_S: Final = 5.0
"""Clocks may differ so far without a word. Order never depends on them; what people read does."""
PROBE_S: Final = 90.0
OURS: Final = ("api", "gateway", "operator")


@dataclass(frozen=True)
class Finding:
    check: str
    state: Literal["ok", "warning", "failed", "skipped"]
    said: str
    do: str = ""

    def to_wire(self) -> dict[str, str]:
        return {key: value for key, value in asdict(self).items() if value}


def ok(check: str, said: str) -> Finding:
    return Finding(check, "ok", said)


def warned(check: str, said: str, do: str) -> Finding:
    return Finding(check, "warning", said, do)


def failed(check: str, said: str, do: str = "") -> Finding:
    return Finding(check, "failed", said, do)


def skipped(check: str, said: str) -> Finding:
    return Finding(check, "skipped", said)


class Doctor:
    """Of the installation that `kubeconfig` leads to, in `namespace` (empty: wherever it is found)."""

    def __init__(self, cluster: Cluster, kubeconfig: Path | None, namespace: str, *, probes: bool) -> None:
        self._cluster = cluster
        self._kubeconfig = kubeconfig
        self._namespace = namespace
        self._probes = probes
        self._deployments: dict[str, dict[str, Any]] = {}

    async def findings(self, told: Callable[[Finding], None]) -> list[Finding]:
        """Each as soon as it is known. What a check cannot find out fails, with the reason."""
        checks: list[tuple[str, Callable[[], Awaitable[Finding]]]] = [
            ("versions", self._versions),
            ("clock", self._clock),
            ("definitions", self._definitions),
            ("configuration", self._configuration),
            ("parts", self._parts),
            ("rights", self._rights),
            ("storage", self._storage),
            ("token audience", self._audience),
            ("redis", self._redis),
            ("model", self._model),
            ("network policy", self._policy),
        ]
        found = []
        for name, check in checks:
            try:
                finding = await check()
            except KomputerError as error:
                finding = failed(name, error.message)
            told(finding)
            found.append(finding)
        return found

    async def _versions(self) -> Finding:
        version, _ = await self._cluster.server()
        major, minor = (int("".join(filter(str.isdigit, version[part])) or 0) for part in ("major", "minor"))
        said = f"komputer {__version__}, Kubernetes {version['gitVersion']}"
        if (major, minor) < OLDEST:
            return failed("versions", said, f"use Kubernetes {'.'.join(map(str, OLDEST))} or newer")
        return ok("versions", said)

    async def _clock(self) -> Finding:
        _, there = await self._cluster.server()
        skew_s = abs((datetime.now(UTC) - there).total_seconds())
        if skew_s > SKEW_S:
            return warned("clock", f"this machine and the API server differ by {skew_s:.0f} s", "run NTP")
        return ok("clock", "this machine and the API server agree")

    async def _definitions(self) -> Finding:
        missing, other = [], []
        for ours in crds.manifests():
            name = ours["metadata"]["name"]
            try:
                theirs = await self._cluster.get(CRDS, name)
            except NotFound:
                missing.append(name)
                continue
            there = {version["name"]: _fields(version) for version in theirs["spec"]["versions"]}
            if any(_fields(version) != there.get(version["name"]) for version in ours["spec"]["versions"]):
                other.append(name)
        apply = "kubectl apply --server-side --force-conflicts -f charts/komputer/crds"
        if missing:
            return failed("definitions", f"not installed: {', '.join(missing)}", apply)
        if other:
            return warned("definitions", f"of another version: {', '.join(other)}", apply)
        return ok("definitions", f"{len(crds.manifests())} are as this version has them")

    async def _configuration(self) -> Finding:
        try:
            config = Config.model_validate(await self._cluster.get(CONFIGS, names.CONFIG_NAME))
            await self._cluster.get(CLUSTER_TEMPLATES, names.DEFAULT_TEMPLATE)
        except NotFound as missing:
            return failed("configuration", missing.message, "helm upgrade --install komputer charts/komputer")
        except ValidationError as wrong:
            return failed("configuration", f"KomputerConfig: {wrong.errors()[0]['msg']}", "correct it")
        return ok("configuration", f"agents talk to {config.spec.gateway_url}")

    async def _parts(self) -> Finding:
        listed = await self._cluster.list(DEPLOYMENTS, self._namespace or None, PART_OF)
        self._deployments = {each["metadata"]["labels"].get(COMPONENT, ""): each for each in listed.items}
        missing = [part for part in OURS if part not in self._deployments]
        if missing:
            return failed("parts", f"there is no {', '.join(missing)}", "helm install (docs/install.md)")
        down = [part for part in OURS if not self._deployments[part].get("status", {}).get("availableReplicas")]
        if down:
            namespace = self._where()
            do = f"kubectl -n {namespace} describe pods -l app.kubernetes.io/component={down[0]}"
            return failed("parts", f"no pod is ready: {', '.join(down)}", do)
        ready = (f"{part} {self._deployments[part]['status']['availableReplicas']}" for part in OURS)
        return ok("parts", f"ready in {self._where()}: {', '.join(ready)}")

    def _where(self) -> str:
        return str(self._deployments[OURS[0]]["metadata"]["namespace"])

    async def _rights(self) -> Finding:
        if not self._deployments:
            return skipped("rights", "no part was found")
        asked = [
            self._may(part, verb, right.group, resource, namespace)
            for part in OURS
            for rights, namespaces in ((IN_NAMESPACES[part], self._namespaces(part)), (OF_THE_CLUSTER[part], [None]))
            for namespace in namespaces
            for right in rights
            for resource in right.resources
            for verb in right.verbs
        ]
        lacking = sorted(filter(None, await asyncio.gather(*asked)))
        if lacking:
            more = f" and {len(lacking) - 3} more" if len(lacking) > 3 else ""
            said = f"lacking: {'; '.join(lacking[:3])}{more}"
            return failed("rights", said, "rbac.create=true, or grant what docs/security.md lists")
        return ok("rights", f"all {len(asked)} that the parts need")

    def _namespaces(self, part: str) -> list[str | None]:
        """Those that the part was told to look at; None: all."""
        (container, *_) = self._deployments[part]["spec"]["template"]["spec"]["containers"]
        told = {entry["name"]: entry.get("value", "") for entry in container.get("env", ())}
        return [*told.get("KOMPUTER_NAMESPACES", "").split(",")] if told.get("KOMPUTER_NAMESPACES") else [None]

    async def _may(self, part: str, verb: str, group: str, resource: str, namespace: str | None) -> str | None:
        account = self._deployments[part]["spec"]["template"]["spec"]["serviceAccountName"]
        user = f"system:serviceaccount:{self._where()}:{account}"
        groups = ["system:serviceaccounts", f"system:serviceaccounts:{self._where()}", "system:authenticated"]
        plural, _, subresource = resource.partition("/")
        allowed = await self._cluster.review_access(
            user, groups, verb, group, plural, namespace, subresource=subresource or None
        )
        return None if allowed else f"{part} may not {verb} {resource}"

    async def _storage(self) -> Finding:
        template = await self._cluster.get(CLUSTER_TEMPLATES, names.DEFAULT_TEMPLATE)
        wanted = (template["spec"].get("storage") or {}).get("storageClassName")
        there = (await self._cluster.list(STORAGE_CLASSES)).items
        found = {each["metadata"]["name"] for each in there}
        default = [c["metadata"]["name"] for c in there if _annotation(c, DEFAULT_CLASS) == "true"]
        if wanted and wanted not in found:
            return failed("storage", f"there is no StorageClass {wanted!r}", "agents.template.storageClassName")
        if not wanted and not default:
            do = "mark a StorageClass as the default, or set agents.template.storageClassName"
            return failed("storage", "there is no default StorageClass: agents' disks would wait for ever", do)
        return ok("storage", f"agents' disks are of class {wanted or default[0]}")

    async def _audience(self) -> Finding:
        namespace = self._where() if self._deployments else "default"
        issued = await self._cluster.create_token("default", namespace, names.GATEWAY_AUDIENCE, 600)
        if await self._cluster.review_token(issued.token, names.GATEWAY_AUDIENCE) is None:
            said = f"a token for {names.GATEWAY_AUDIENCE} is not recognised as such"
            return failed("token audience", said, "the API server must support TokenRequest with audiences")
        return ok("token audience", "pods' tokens are bound to the gateway")

    # ---- from inside: what only the parts can see -------------------------------------------------------------------
    async def _inside(self, check: str, part: str) -> dict[str, Any] | Finding:
        """What `komputer serve probe` finds in a pod of the part, or the finding that it could not be asked."""
        if not self._deployments:
            return skipped(check, "no part was found")
        if shutil.which("kubectl") is None:
            return skipped(check, "kubectl is not installed, which is needed to ask in a pod")
        name = self._deployments[part]["metadata"]["name"]
        where = [f"--kubeconfig={self._kubeconfig}"] if self._kubeconfig else []
        command = ["kubectl", *where, "-n", self._where(), "exec", f"deployment/{name}", "--"]
        asking = await asyncio.create_subprocess_exec(
            *command,
            *("python", "-I", "-m", "komputer.serve", "probe"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(PROBE_S):
                said, errors = await asking.communicate()
        except TimeoutError:
            do = f"see whether this ends: {' '.join(command)} true; the API server must reach the kubelet of its node"
            return failed(check, f"a pod of deployment/{name} could not be asked within {PROBE_S:.0f} s", do)
        finally:
            if asking.returncode is None:
                # With what it has started: a plugin for credentials may be what hangs, and holds its pipes.
                os.killpg(asking.pid, signal.SIGKILL)
                await asking.wait()
        try:
            found: dict[str, Any] = json.loads(said)
        except ValueError:
            return skipped(check, (errors.decode(errors="replace").strip().splitlines() or ["it said nothing"])[-1])
        return found

    async def _redis(self) -> Finding:
        found = await self._inside("redis", "gateway")
        if isinstance(found, Finding):
            return found
        redis = found["redis"]
        if error := redis.get("error"):
            return failed("redis", error, "redis.url, its password, its NetworkPolicy")
        said = f"{redis['server']} {redis['version']}"
        if redis["policy"] not in ("noeviction", "unknown"):
            return failed("redis", f"{said} evicts events ({redis['policy']})", "maxmemory-policy noeviction")
        if redis["durability"] == "none":
            return warned("redis", f"{said} may lose its last second in a crash", "appendonly yes, Redis ≥ 7.2")
        return ok("redis", f"{said}, starts and ends of tasks reach the disk before they are answered")

    async def _model(self) -> Finding:
        found = await self._inside("model", "gateway")
        if isinstance(found, Finding):
            return found
        model = found["model"]
        if model["state"] == "refused":
            return failed("model", model["said"], "put a valid key into model.existingSecret")
        if model["state"] == "unreachable":
            return failed("model", model["said"], "model.baseURL, a proxy (gateway.extraEnv), egress of the gateway")
        return ok("model", model["said"])

    async def _policy(self) -> Finding:
        config = Config.model_validate(await self._cluster.get(CONFIGS, names.CONFIG_NAME))
        if config.spec.agent_network_policy is None:
            return warned("network policy", "agents may reach everything", "agents.networkPolicy.enabled=true")
        if not self._probes:
            return skipped("network policy", "asked for no probe pod (--no-probe)")
        where = await self._policed()
        if where is None:
            return skipped("network policy", "no namespace has agents yet")
        template = await self._cluster.get(CLUSTER_TEMPLATES, names.DEFAULT_TEMPLATE)
        said = await self._run(where, _probe(template["spec"]["podSpec"], config.spec.gateway_url))
        if said == "fenced":
            return ok("network policy", "an agent's pod reaches the gateway and not the Kubernetes API")
        if said == "open":
            do = "use a network plugin that enforces NetworkPolicies (Calico, Cilium, …)"
            return warned("network policy", "policies are not enforced: agents reach the Kubernetes API", do)
        return failed("network policy", f"an agent's pod does not reach the gateway ({said})", "the policy's rules")

    async def _policed(self) -> str | None:
        kind = Kind("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy")
        found = (await self._cluster.list(kind)).items
        ours = (each["metadata"]["namespace"] for each in found if each["metadata"]["name"] == names.SERVICE_ACCOUNT)
        return next(ours, None)

    async def _run(self, namespace: str, manifest: dict[str, Any]) -> str:
        """What the pod leaves as its last words; it is removed again."""
        name = manifest["metadata"]["name"]
        manifest["metadata"]["namespace"] = namespace
        await self._cluster.create(PODS, manifest)
        try:
            async with asyncio.timeout(PROBE_S):
                while True:
                    found = await self._cluster.get(PODS, name, namespace)
                    for status in found.get("status", {}).get("containerStatuses") or ():
                        if ended := status.get("state", {}).get("terminated"):
                            return str(ended.get("message") or ended.get("reason"))
                    await asyncio.sleep(0.5)
        except TimeoutError:
            return "the probe pod did not end in time"
        finally:
            await self._cluster.delete(PODS, name, namespace)


def _probe(template: dict[str, Any], gateway_url: str) -> dict[str, Any]:
    """A pod as an agent's, but that it only tries to connect."""
    (container, *_) = template["containers"]
    host, _, port = gateway_url.partition("://")[2].partition(":")
    program = (
        "import os, socket, sys\n"
        "def reaches(host, port):\n"
        "    try:\n"
        "        socket.create_connection((host, int(port)), 5).close()\n"
        "        return True\n"
        "    except OSError as error:\n"
        "        print(error)\n"
        "        return False\n"
        f"gateway = reaches({host!r}, {port or '80'!r})\n"
        "cluster = reaches(os.environ['KUBERNETES_SERVICE_HOST'], os.environ['KUBERNETES_SERVICE_PORT'])\n"
        "words = 'cut off' if not gateway else 'open' if cluster else 'fenced'\n"
        "open('/dev/termination-log', 'w').write(words)\n"
    )
    security = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"komputer-doctor-{uuid4().hex[:8]}", "labels": {names.AGENT_LABEL: "komputer-doctor"}},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 0,
            "securityContext": {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [
                {
                    "name": "probe",
                    "image": container["image"],
                    "imagePullPolicy": container.get("imagePullPolicy", "IfNotPresent"),
                    "command": ["/opt/komputer/bin/python", "-I", "-c", program],
                    "securityContext": security,
                }
            ],
        },
    }


def _fields(version: dict[str, Any]) -> set[str]:
    """The paths of a schema: what a server adds to the rest of it (defaults) is no difference."""

    def paths(schema: dict[str, Any], at: str) -> Iterator[str]:
        for name, part in (schema.get("properties") or {}).items():
            yield f"{at}.{name}"
            yield from paths(part, f"{at}.{name}")
        if isinstance(schema.get("items"), dict):
            yield from paths(schema["items"], f"{at}[]")

    return set(paths(version["schema"]["openAPIV3Schema"], ""))


def _annotation(manifest: dict[str, Any], name: str) -> str:
    return str((manifest["metadata"].get("annotations") or {}).get(name, ""))
