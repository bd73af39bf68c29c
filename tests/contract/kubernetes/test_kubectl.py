"""Every kubectl of this machine as an independent client: the usual commands work and print what users expect."""

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.contract.kubernetes.cluster import JSON, answered, eventually
from tests.contract.kubernetes.kubectl import Kubectl, extremes, versions
from tests.contract.kubernetes.room import Room

pytestmark = pytest.mark.skipif(not versions(), reason="no kubectl is installed here")


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Versions do not share a home: each one does its own discovery."""
    return tmp_path_factory.mktemp("home")


def of(program: Path, kubeconfig: Path, home: Path, room: Room) -> Kubectl:
    """Versions do not share a home: each one discovers the server by itself."""
    own = home / program.name
    own.mkdir(exist_ok=True)
    return Kubectl(program=program, kubeconfig=kubeconfig, home=own, namespace=room.namespace)


@pytest.fixture(params=extremes(), ids=lambda program: program.name)
def kubectl(request: pytest.FixtureRequest, kubeconfig: Path, home: Path, room: Room) -> Kubectl:
    """The oldest and the newest version; what works with both works with those between."""
    return of(request.param, kubeconfig, home, room)


@pytest.fixture(params=versions(), ids=lambda program: program.name)
def any_kubectl(request: pytest.FixtureRequest, kubeconfig: Path, home: Path, room: Room) -> Kubectl:
    """Every version, for the most common commands."""
    return of(request.param, kubeconfig, home, room)


def columns(line: str) -> list[str]:
    return line.split()


def test_get_shows_our_columns(any_kubectl: Kubectl, room: Room) -> None:
    """By plural, short name, kind and category; -o wide adds columns of lower priority; -A adds the namespace."""
    room.create("widgets", room.widget("ada", size=5, note="hi there", labels={"team": "red"}))
    room.create("widgets", room.widget("bob"))
    room.merge("widgets", "ada", {"status": {"phase": "Ready"}}, "status")
    plural, word = f"widgets.{room.group}", room.group.split(".")[0]
    head, ada, bob = any_kubectl("get", plural).splitlines()
    assert columns(head) == ["NAME", "COLOR", "SIZE", "PHASE", "AGE"]
    assert columns(ada)[:4] == ["ada", "red", "5", "Ready"]
    assert columns(bob)[:3] == ["bob", "red", "3"]
    head, ada, bob = any_kubectl("get", f"{word}w", "-o", "wide").splitlines()
    assert columns(head) == ["NAME", "COLOR", "SIZE", "PHASE", "NOTE", "AGE"]
    assert columns(ada)[4:6] == ["hi", "there"]
    head, _, _ = any_kubectl("get", word).splitlines()
    assert columns(head)[:2] == ["NAME", "COLOR"]
    everywhere = any_kubectl("get", f"{word}w", "-A", "-l", "team=red").splitlines()
    assert columns(everywhere[0])[:2] == ["NAMESPACE", "NAME"]
    assert [room.namespace, "ada"] in [columns(line)[:2] for line in everywhere[1:]]


def test_get_prints_the_object(kubectl: Kubectl, room: Room) -> None:
    """As YAML, JSON, name or path; a missing object is an error in words."""
    created = room.create("widgets", room.widget("ada", size=5))
    plural = f"widgets.{room.group}"
    assert yaml.safe_load(kubectl("get", plural, "ada", "-o", "yaml"))["spec"] == created["spec"]
    assert json.loads(kubectl("get", plural, "-o", "json"))["items"][0]["metadata"]["uid"] == created["metadata"]["uid"]
    assert kubectl("get", plural, "-o", "name").strip() == f"widget.{room.group}/ada"
    assert kubectl("get", plural, "ada", "-o", "jsonpath={.spec.size}") == "5"
    assert f'widgets.{room.group} "nobody" not found' in kubectl.fails("get", plural, "nobody")
    assert "No resources found" in kubectl.run("get", "pods").stderr


def test_apply_creates_then_changes_nothing_then_edits(any_kubectl: Kubectl, room: Room) -> None:
    """Applying the same manifest again changes nothing. An edited one changes edited fields and removes omitted ones;
    the fields of other writers stay."""
    manifest = room.widget("ada", size=5, note="hi", labels={"by": "me"})
    assert any_kubectl("apply", "-f", "-", stdin=manifest).strip().endswith("/ada created")
    created = room.merge("widgets", "ada", {"spec": {"tags": ["theirs"]}})
    assert any_kubectl("apply", "-f", "-", stdin=manifest).strip().endswith("/ada unchanged")
    assert room.read("widgets", "ada") == created
    edited = room.widget("ada", size=6, labels={"by": "me"})
    assert any_kubectl("apply", "-f", "-", stdin=edited).strip().endswith("/ada configured")
    assert room.read("widgets", "ada")["spec"] == {"color": "red", "size": 6, "tags": ["theirs"]}


def test_apply_edits_built_in_kinds(kubectl: Kubectl, room: Room) -> None:
    """By strategic merge: a container is found by its name, an omitted label is removed."""
    containers = [{"name": "a", "image": "one"}, {"name": "b", "image": "two"}]
    pod = room.pod("web", containers=containers, schedulerName="nobody", metadata={"labels": {"x": "1", "y": "2"}})
    pod["metadata"]["namespace"] = room.namespace
    assert kubectl("apply", "-f", "-", stdin=pod) == "pod/web created\n"
    assert kubectl("apply", "-f", "-", stdin=pod) == "pod/web unchanged\n"
    del pod["metadata"]["labels"]["y"]
    containers[1]["image"] = "three"
    assert kubectl("apply", "-f", "-", stdin=pod) == "pod/web configured\n"
    read = room.read("pods", "web")
    assert read["metadata"]["labels"] == {"x": "1"}
    assert [(c["name"], c["image"]) for c in read["spec"]["containers"]] == [("a", "one"), ("b", "three")]
    config = room.config_map("ada", {"a": "1", "b": "2"})
    assert kubectl("apply", "-f", "-", stdin=config) == "configmap/ada created\n"
    assert kubectl("apply", "-f", "-", stdin=config | {"data": {"a": "9"}}) == "configmap/ada configured\n"
    assert room.read("configmaps", "ada")["data"] == {"a": "9"}


def test_apply_refuses_an_invalid_manifest_and_names_the_field(kubectl: Kubectl, room: Room) -> None:
    """A misspelt field, a wrong value, an invalid name, an unknown kind."""
    assert "colour" in kubectl.fails("apply", "-f", "-", stdin=room.widget("ada", colour="blue"))
    output = kubectl.fails("apply", "-f", "-", stdin=room.widget("ada", size=1000))
    assert "spec.size" in output
    assert "less than or equal to 100" in output
    assert "metadata.name" in kubectl.fails("apply", "-f", "-", stdin=room.widget("Ada Lovelace"))
    unknown = {**room.widget("ada"), "kind": "Gizmo"}
    assert "no matches for kind" in kubectl.fails("apply", "-f", "-", stdin=unknown)
    assert room.names("widgets") == []


def test_diff_and_dry_run_change_nothing(kubectl: Kubectl, room: Room) -> None:
    """`kubectl diff` exits with 1 if something would change."""
    created = room.create("widgets", room.widget("ada", size=5))
    assert (
        kubectl("apply", "--dry-run=server", "-f", "-", stdin=room.widget("bob")).strip().endswith("(server dry run)")
    )
    done = kubectl.run("diff", "-f", "-", stdin=room.widget("ada", size=6))
    assert done.returncode == 1, done.stderr
    assert "+  size: 6" in done.stdout
    assert room.listing("widgets")["items"] == [created]


def test_explain_describes_a_field(any_kubectl: Kubectl, room: Room) -> None:
    """From the descriptions in our schema, down to a field."""
    plural = f"widgets.{room.group}"

    def explained() -> "subprocess.CompletedProcess[str]":
        return any_kubectl.run("explain", f"{plural}.spec")

    output = eventually(explained, lambda done: done.returncode == 0).stdout
    assert "What the widget is to be." in output
    assert "size" in output
    assert "<integer>" in output
    assert "Its only color." in any_kubectl("explain", f"{plural}.spec.color")
    assert "<[]Container>" in any_kubectl("explain", "pods.spec")
    assert "does not exist" in any_kubectl.fails("explain", f"{plural}.spec.nothing")


def test_delete_waits_until_the_object_is_gone(kubectl: Kubectl, room: Room) -> None:
    """By name, by selector, by manifest; a missing object is an error unless it is ignored."""
    plural = f"widgets.{room.group}"
    for name, team in (("ada", "red"), ("bob", "red"), ("eve", "blue")):
        room.create("widgets", room.widget(name, labels={"team": team}))
    assert "widget." in kubectl("delete", plural, "ada")
    assert not room.exists("widgets", "ada")
    kubectl("delete", plural, "-l", "team=red")
    assert room.names("widgets") == ["eve"]
    kubectl("delete", "-f", "-", stdin=room.widget("eve"))
    assert room.names("widgets") == []
    assert "not found" in kubectl.fails("delete", plural, "ada")
    kubectl("delete", plural, "ada", "--ignore-not-found")


def test_wait_ends_when_its_condition_is_true(kubectl: Kubectl, room: Room) -> None:
    """Scripts wait for an agent's phase; a wait in vain times out."""
    room.create("widgets", room.widget("ada"))
    plural = f"widgets.{room.group}/ada"
    arguments = [str(kubectl.program), "-n", room.namespace, "--kubeconfig", str(kubectl.kubeconfig), "wait", plural]
    with subprocess.Popen(
        [*arguments, "--for=jsonpath={.status.phase}=Ready", "--timeout=40s"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={"HOME": str(kubectl.home)},
        text=True,
    ) as waiting:
        room.merge("widgets", "ada", {"status": {"phase": "Pending"}}, "status")
        room.merge("widgets", "ada", {"status": {"phase": "Ready"}}, "status")
        output, _ = waiting.communicate(timeout=50)
    assert waiting.returncode == 0, output
    assert "condition met" in output
    assert "timed out" in kubectl.fails("wait", plural, "--for=jsonpath={.status.phase}=Gone", "--timeout=1s")


def test_label_annotate_patch_and_replace_write(kubectl: Kubectl, room: Room) -> None:
    """The smaller write commands."""
    plural = f"widgets.{room.group}"
    created = room.create("widgets", room.widget("ada"))
    kubectl("label", plural, "ada", "team=red")
    kubectl("annotate", plural, "ada", "note=x")
    kubectl("patch", plural, "ada", "--type=merge", "-p", '{"spec":{"size":7}}')
    kubectl("patch", plural, "ada", "--type=merge", "--subresource=status", "-p", '{"status":{"phase":"Ready"}}')
    read = room.read("widgets", "ada")
    assert (read["metadata"]["labels"], read["metadata"]["annotations"]) == ({"team": "red"}, {"note": "x"})
    assert (read["spec"]["size"], read["status"]["phase"]) == (7, "Ready")
    kubectl("replace", "-f", "-", stdin={**read, "spec": {"color": "blue", "size": 8}})
    assert room.read("widgets", "ada")["spec"] == {"color": "blue", "size": 8}
    assert "modified" in kubectl.fails("replace", "-f", "-", stdin={**created, "spec": {"color": "green"}})


def test_describe_shows_the_object_and_its_events(kubectl: Kubectl, room: Room) -> None:
    """The first command of a user whose agent does not run."""
    widget = room.create("widgets", room.widget("ada", note="hi there"))
    about = {"apiVersion": widget["apiVersion"], "kind": "Widget", "name": "ada", "uid": widget["metadata"]["uid"]}
    moment = widget["metadata"]["creationTimestamp"]
    event: JSON = {
        "metadata": {"name": "ada.1"},
        "involvedObject": {**about, "namespace": room.namespace},
        "type": "Warning",
    }
    event |= {"reason": "Broken", "message": "It broke.", "firstTimestamp": moment, "lastTimestamp": moment, "count": 1}
    room.create("events", event)
    output = kubectl("describe", f"widgets.{room.group}", "ada")
    assert "hi there" in output
    assert "It broke." in output
    assert "It broke." in kubectl("get", "events")
    assert "It broke." in kubectl("events")


def test_pods_are_shown_described_and_have_no_logs_yet(kubectl: Kubectl, room: Room) -> None:
    """Logs of a missing pod or container are an error in words."""
    room.create("pods", room.pod("web", schedulerName="nobody"))
    head, row = kubectl("get", "pods").splitlines()
    assert columns(head) == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    assert columns(row)[:4] == ["web", "0/1", "Pending", "0"]
    assert "web" in kubectl("describe", "pod", "web")
    assert kubectl("logs", "web") == ""
    assert 'pods "nobody" not found' in kubectl.fails("logs", "nobody")
    assert "other" in kubectl.fails("logs", "web", "-c", "other")


def test_tokens_are_created(kubectl: Kubectl, room: Room) -> None:
    """For an audience and a duration."""
    kubectl("create", "serviceaccount", "agent")
    token = kubectl("create", "token", "agent", "--audience", "gateway", "--duration", "20m").strip()
    body = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": {"token": token, "audiences": ["gateway"]},
    }
    status = answered(room.api.post("/apis/authentication.k8s.io/v1/tokenreviews", body), 201)["status"]
    assert status["user"]["username"] == f"system:serviceaccount:{room.namespace}:agent"
    assert "not found" in kubectl.fails("create", "token", "nobody")


def test_rights_are_reviewed(kubectl: Kubectl, room: Room) -> None:
    """Our own, and those of others."""
    plural = f"widgets.{room.group}"
    assert kubectl("auth", "can-i", "create", plural).strip() == "yes"
    account = f"system:serviceaccount:{room.namespace}:default"
    assert kubectl.run("auth", "can-i", "get", "secrets", "--as", account).stdout.strip() == "no"


def test_a_namespace_is_created_and_deleted(kubectl: Kubectl, room: Room) -> None:
    """The deletion waits until its contents are gone."""
    name = f"{room.namespace}-more"
    kubectl("create", "namespace", name)
    kubectl("--namespace", name, "create", "configmap", "ada", "--from-literal=a=1")
    kubectl("create", "secret", "generic", "key", "--from-literal=token=x")
    assert room.read("secrets", "key")["data"] == {"token": "eA=="}
    kubectl("delete", "namespace", name)
    assert "not found" in kubectl.fails("get", "namespace", name)


def test_resources_and_version_are_listed(kubectl: Kubectl, room: Room) -> None:
    """`kubectl api-resources` and `kubectl version`."""
    rows = [columns(line) for line in kubectl("api-resources", f"--api-group={room.group}").splitlines()]
    assert [row[0] for row in rows[1:]] == ["gadgets", "widgets"]
    assert rows[2][1:] == [f"{room.group.split('.')[0]}w", f"{room.group}/v1", "true", "Widget"]
    assert "serverVersion" in json.loads(kubectl("version", "-o", "json"))
    assert f"{room.group}/v1" in kubectl("api-versions").split()


@pytest.mark.parametrize(
    "command",
    [("exec", "p", "--", "ls"), ("attach", "p"), ("port-forward", "p", ":80"), ("cp", "p:/x", "/tmp/komputer-none")],
    ids=lambda command: command[0],
)
def test_unsupported_commands_explain_themselves(
    command: tuple[str, ...], request: pytest.FixtureRequest, kubectl: Kubectl, room: Room
) -> None:
    if request.config.getoption("kubeconfig", default=None):
        pytest.skip("a cluster offers it")
    room.api.post(
        f"/api/v1/namespaces/{room.namespace}/pods",
        {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
    )
    room.api.patch(
        f"/api/v1/namespaces/{room.namespace}/pods/p/status",
        {"status": {"phase": "Running", "containerStatuses": []}},
        "application/merge-patch+json",
    )
    output = kubectl.fails(*command)
    assert "is not offered on one machine" in output
    assert "volumes/" in output
