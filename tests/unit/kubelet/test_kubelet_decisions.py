"""The kubelet's decisions, on plain values."""

import shutil
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from komputer.local.kubelet.container import Command, Run
from komputer.local.kubelet.logs import ContainerLogFile
from komputer.local.kubelet.sandbox import Mount, Sandbox, bubblewrap_command, rewritten
from komputer.local.kubelet.status import RESTART_BACKOFF, ContainerState, Exit, pod_status, starts_again
from komputer.local.kubelet.volumes import NotMounted, inside
from komputer.local.up import NeedsDecision, choose_sandbox

NOW = datetime(2026, 1, 1, tzinfo=UTC)
POD = {"metadata": {"name": "p"}, "spec": {"restartPolicy": "Never"}}


def test_a_crashed_container_restarts_at_once_then_with_growing_pauses() -> None:
    seconds = [RESTART_BACKOFF.delay_s(crashes - 1) for crashes in (1, 2, 3, 4, 50)]
    assert seconds == [0, 10, 20, 40, 300]
    assert starts_again("Always", 0)
    assert not starts_again("OnFailure", 0)
    assert not starts_again("Never", 1)


def test_a_pod_has_ended_when_all_of_its_containers_have() -> None:
    def ended(code: int) -> ContainerState:
        return ContainerState("c", "i", state="terminated", exit=Exit(code, None, NOW, NOW + timedelta(seconds=1)))

    assert pod_status(POD, [ended(0)], NOW)["phase"] == "Succeeded"
    assert pod_status(POD, [ended(0), ended(3)], NOW)["phase"] == "Failed"
    assert (
        pod_status(POD, [ended(0), ContainerState("d", "i", state="running", started=NOW)], NOW)["phase"] == "Running"
    )
    assert pod_status(POD, [ContainerState("c", "i")], NOW)["phase"] == "Pending"


def test_a_container_path_becomes_a_host_path_without_mounts() -> None:
    mounts = [Mount(Path("/data/v"), "/workspace"), Mount(Path("/data/t"), "/workspace/tmp")]
    assert rewritten("/workspace/a", mounts) == "/data/v/a"
    assert rewritten("/workspace/tmp/a", mounts) == "/data/t/a"
    assert rewritten("/workspaces", mounts) == "/workspaces"
    assert rewritten("http://x/workspace", mounts) == "http://x/workspace"


async def test_the_image_program_is_found_even_if_a_mount_covers_its_path(tmp_path: Path) -> None:
    """The installation is below /tmp, where every agent's pod has a volume."""
    (tmp_path / "f").write_text("of the volume")
    python = Path(sys.executable)
    command = Command(
        entrypoint=[str(python), "-c", "import sys; print(open(sys.argv[1]).read())"],
        argv=[f"{python.parent}/f"],
        environment={},
        working_dir=None,
        mounts=[Mount(tmp_path, str(python.parent))],
        pod_uid="u",
        own_folder=tmp_path / "own",
        etc=tmp_path / "etc",
    )
    log = ContainerLogFile(tmp_path / "log")
    run = await Run.start(command, Sandbox.NONE, log)
    done = await run.exit()
    log.close()
    assert done.code == 0
    assert "of the volume" in (tmp_path / "log").read_text()


def test_a_path_cannot_leave_its_volume(tmp_path: Path) -> None:
    with pytest.raises(NotMounted):
        inside(tmp_path, "../elsewhere")


def test_the_sandbox_hides_the_home_folder_and_ends_with_the_kubelet() -> None:
    line = bubblewrap_command(["run"], [], working_dir="/workspace", info_fd=9, program="bwrap", etc=Path("/data/etc"))
    assert "--die-with-parent" in line
    assert "--unshare-pid" in line
    shown = {line[i + 2] for i, word in enumerate(line) if word in ("--bind", "--ro-bind")}
    assert not shown & {"/", "/home", "/root"}
    assert not {line[i + 1] for i, word in enumerate(line) if word in ("--bind", "--ro-bind")} & {"/etc", "/", "/home"}


def test_the_sandbox_is_never_skipped_silently_if_there_is_a_credential() -> None:
    assert choose_sandbox("auto", None, True) is Sandbox.BUBBLEWRAP
    assert choose_sandbox("auto", "no user namespaces", False) is Sandbox.NONE
    assert choose_sandbox("none", None, True) is Sandbox.NONE
    with pytest.raises(NeedsDecision, match="--sandbox none"):
        choose_sandbox("auto", "no user namespaces", True)
    with pytest.raises(NeedsDecision):
        choose_sandbox("bubblewrap", "no user namespaces", False)


async def test_an_agent_is_the_first_to_be_killed_when_memory_runs_out(tmp_path: Path) -> None:
    if not Path("/proc/self/oom_score_adj").exists():
        pytest.skip("only Linux has oom_score_adj")
    command = Command(
        entrypoint=["/bin/sh", "-c", "sh -c 'cat /proc/self/oom_score_adj'"],
        argv=[],
        environment={},
        working_dir=None,
        mounts=[],
        pod_uid="u",
        own_folder=tmp_path / "own",
        etc=tmp_path / "etc",
    )
    run = await Run.start(command, Sandbox.NONE, ContainerLogFile(tmp_path / "log"))
    await run.exit()
    assert int((tmp_path / "log").read_text()) >= 800


def test_a_deleted_log_is_created_again(tmp_path: Path) -> None:
    log = ContainerLogFile(tmp_path / "logs" / "main.log")
    log.write(b"first")
    shutil.rmtree(tmp_path / "logs")
    log.write(b"second")
    log.close()
    assert (tmp_path / "logs" / "main.log").read_bytes() == b"second"
