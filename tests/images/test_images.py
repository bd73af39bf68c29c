"""The images that `make images` has built on this machine: who they run as, what is in them, and that they start."""

import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

CONF = """[containers]
default_ulimits = ["nofile=16384:16384", "nproc=32768:32768"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""
ROOT = Path(__file__).parents[2]
IMAGES = ("localhost/komputer", "localhost/komputer-agent")
LIMIT_MB = {"localhost/komputer": 400, "localhost/komputer-agent": 1100}


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Any:
    program = shutil.which("podman")
    if program is None or os.getuid() != 0:
        pytest.skip("podman and root are needed: make images")
    conf: Path = tmp_path_factory.mktemp("podman") / "containers.conf"
    conf.write_text(CONF)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "CONTAINERS_CONF": str(conf)}
        return subprocess.run(
            [program, *arguments], capture_output=True, text=True, env=environment, timeout=100, check=False
        )

    revision = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    label = '{{index .Labels "org.opencontainers.image.revision"}}'
    if any(run("image", "inspect", "--format", label, image).stdout != revision.stdout for image in IMAGES):
        pytest.skip("the images of this commit are not built: make images")
    return run


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_is_nobodys_root_and_says_what_it_is(podman: Any, image: str) -> None:
    (found,) = json.loads(podman("image", "inspect", image).stdout)
    assert found["Config"]["User"] == "1000:1000"
    assert found["Config"]["Entrypoint"][:2] == ["/usr/bin/tini", "--"]
    labels = found["Config"]["Labels"]
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert labels["org.opencontainers.image.title"] == image.rpartition("/")[2]
    assert len(labels["org.opencontainers.image.revision"]) == 40
    assert found["Size"] < LIMIT_MB[image] * 10**6, "it grew: find out why, then raise this and docs/install.md"


def test_the_agents_image_has_what_agents_work_with(podman: Any) -> None:
    """On a read-only root file system, without network and capabilities."""
    commands = (
        "id -u; touch /etc/nothing 2>&1 | grep -o 'Read-only file system'; git --version; rg --version; jq --version;"
        "node --version; npm --version; python3 -c 'import venv';"
        "/opt/komputer/lib/python3*/site-packages/claude_agent_sdk/_bundled/claude --version"
    )
    locked = ("--rm", "--read-only", "--tmpfs", "/tmp", "--network", "none", "--cap-drop", "ALL")
    done = podman("run", *locked, "--entrypoint", "bash", "localhost/komputer-agent", "-euc", commands)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("1000\nRead-only file system\ngit version")
    assert "Claude Code" in done.stdout


def test_the_platforms_image_starts_each_process_and_ends_at_once(podman: Any) -> None:
    locked = ("--read-only", "--network", "none", "--cap-drop", "ALL")
    refused = podman("run", "--rm", *locked, "localhost/komputer", "operator")
    assert refused.returncode == 2
    assert "--redis-url is required" in refused.stderr
    name = f"komputer-test-{os.getpid()}"
    assert podman("run", "-d", "--name", name, *locked, "localhost/komputer", "offline-model").returncode == 0
    try:
        deadline = time.monotonic() + 30
        while '"event": "ready"' not in (said := podman("logs", name)).stdout + said.stderr:
            assert time.monotonic() < deadline, said
            time.sleep(0.1)
        assert podman("top", name, "args").stdout.splitlines()[1].startswith("/usr/bin/tini")
        began = time.monotonic()
        assert podman("stop", "-t", "20", name).returncode == 0
        assert time.monotonic() - began < 15, "SIGTERM is heard"
        (state,) = json.loads(podman("container", "inspect", name).stdout)
        assert state["State"]["ExitCode"] == 0
    finally:
        podman("rm", "-f", name)


def test_no_credential_and_no_test_is_in_an_image(podman: Any) -> None:
    for image in IMAGES:
        found = podman(
            "run", "--rm", "--entrypoint", "sh", image, "-c", "env; ls /opt/komputer/lib/python3*/site-packages"
        )
        assert "ANTHROPIC" not in found.stdout
        assert "pytest" not in found.stdout


def test_the_sbom_names_what_is_in_the_images(podman: Any, tmp_path: Path) -> None:
    build = ROOT / "hack" / "kubernetes" / "build.sh"
    if subprocess.run([build, "--check", "syft"], capture_output=True, check=False).returncode:
        pytest.skip("syft is not built: hack/kubernetes/build.sh syft")
    subprocess.run([ROOT / "hack" / "images" / "sbom.sh", tmp_path], check=True, timeout=300)
    pinned = dict(re.findall(r"^([a-z0-9-]+)==([^ ]+) .*", (ROOT / "requirements" / "server.txt").read_text(), re.M))
    of_platform = packages(tmp_path / "komputer.spdx.json")
    assert {(name, pinned[name]) for name in ("redis", "google-auth")} <= of_platform
    assert {"tini", "ca-certificates", "komputer-platform"} <= {name for name, _ in of_platform}
    of_agents = {name for name, _ in packages(tmp_path / "komputer-agent.spdx.json")}
    assert {"claude-agent-sdk", "git", "ripgrep", "node", "tini"} <= of_agents


def packages(sbom: Path) -> set[tuple[str, str]]:
    return {(each["name"], each.get("versionInfo", "")) for each in json.loads(sbom.read_text())["packages"]}
