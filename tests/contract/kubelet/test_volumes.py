"""A workspace is deleted together with its claim, and never because its claim is unknown."""

import shutil
from pathlib import Path

import pytest

from komputer.domain.errors import NotFound
from komputer.kube import PODS, PVCS
from komputer.local.lost import adopt, lost_volumes
from tests.contract.kubelet.conftest import Machine, is_running, waits
from tests.waiting import eventually

IDLE = "while :; do sleep 1; done"


async def volume_with_work(machine: Machine) -> Path:
    await machine.make_claim()
    await machine.make_pod(IDLE)
    await machine.until(is_running)
    volume = machine.volume()
    assert volume
    (volume / "work").write_text("of a week")
    return volume


async def test_a_workspace_is_removed_with_its_claim_whatever_its_modes(machine: Machine) -> None:
    volume = await volume_with_work(machine)
    (volume / "go" / "pkg").mkdir(parents=True)
    (volume / "go" / "pkg").chmod(0)
    (volume / "go").chmod(0)
    await machine.cluster.delete(PODS, "pod", "default")
    await machine.cluster.delete(PVCS, "disk", "default")
    await machine.until_gone(PVCS, "disk")
    await eventually(lambda: not list((machine.data / "volumes" / ".deleted").iterdir()))
    assert machine.volume() is None
    await machine.until_gone(PODS, "pod")
    await eventually(lambda: [path.name for path in (machine.data / "pods").iterdir()] == [".deleted"])
    assert not (machine.data / "lost+found").exists()


async def test_the_workspace_of_a_claim_deleted_while_no_kubelet_ran_is_removed(machine: Machine) -> None:
    await volume_with_work(machine)
    await machine.stop_kubelet()
    await machine.cluster.delete(PODS, "pod", "default", grace_s=0)
    await machine.cluster.delete(PVCS, "disk", "default")
    assert machine.volume()
    await machine.start_kubelet()
    await machine.until_gone(PVCS, "disk")
    assert machine.volume() is None
    assert not (machine.data / "lost+found" / "volumes").exists()


async def test_an_interrupted_removal_is_finished(machine: Machine) -> None:
    await machine.stop_kubelet()
    (machine.data / "volumes" / ".deleted" / "default_disk_u" / "x").mkdir(parents=True)
    await machine.start_kubelet()
    await eventually(lambda: not list((machine.data / "volumes" / ".deleted").iterdir()))


async def test_folders_without_an_object_are_set_aside_and_not_deleted(machine: Machine) -> None:
    volume = await volume_with_work(machine)
    uid = (await machine.cluster.get(PODS, "pod", "default"))["metadata"]["uid"]
    await machine.stop_kubelet()
    machine.lose_objects()
    await machine.start_kubelet()
    lost = machine.data / "lost+found"
    assert (lost / "volumes" / volume.name / "work").read_text() == "of a week"
    assert (lost / "pods" / uid).is_dir()
    assert [path.name for path in (lost / "logs").iterdir()] == [f"default_pod_{uid}"]
    assert machine.volume() is None


async def test_a_lost_workspace_is_adopted_and_the_replaced_one_is_kept(machine: Machine) -> None:
    volume = await volume_with_work(machine)
    await machine.stop_kubelet()
    machine.lose_objects()
    await machine.start_kubelet()
    await machine.make_claim("ada-pvc")
    spec = {
        "containers": [
            {
                "name": "main",
                "image": "shell",
                "args": ['cat "$DISK/work"; ' + IDLE],
                "env": [{"name": "DISK", "value": "/disk"}],
                "volumeMounts": [{"name": "disk", "mountPath": "/disk"}],
            }
        ],
        "volumes": [{"name": "disk", "persistentVolumeClaim": {"claimName": "ada-pvc"}}],
    }
    await machine.cluster.create(PODS, {"metadata": {"name": "ada", "namespace": "default"}, "spec": spec})
    await machine.until(is_running, "ada")
    [lost] = lost_volumes(machine.data)
    assert (lost.name, lost.claim) == (volume.name, "default/disk")
    with pytest.raises(NotFound, match="komputer volumes list"):
        await adopt(machine.data, machine.cluster, "none", "ada", "default")
    with pytest.raises(NotFound, match="create the agent first"):
        await adopt(machine.data, machine.cluster, lost.name, "eve", "default")
    path = await adopt(machine.data, machine.cluster, lost.name, "ada", "default")
    assert (path / "work").read_text() == "of a week"
    await eventually(lambda: "of a week" in machine.text("ada"))
    [replaced] = lost_volumes(machine.data)
    assert replaced.name.endswith(".before-adoption")


async def test_nothing_is_deleted_when_the_objects_are_lost_while_pods_run(machine: Machine) -> None:
    volume = await volume_with_work(machine)
    machine.lose_objects()
    pods = machine.data / "lost+found" / "pods"
    await eventually(lambda: pods.exists() and list(pods.iterdir()))
    assert (volume / "work").read_text() == "of a week"
    assert not list((machine.data / "volumes" / ".deleted").iterdir())


async def test_a_container_whose_folder_was_deleted_restarts_with_a_new_one(machine: Machine) -> None:
    volume = await volume_with_work(machine)
    before = await machine.container()
    shutil.rmtree(volume)
    after = await machine.until(lambda c: is_running(c) and c["restartCount"] > before["restartCount"])
    assert after["restartCount"] == before["restartCount"] + 1
    assert machine.volume() == volume
    assert not waits(after)


async def test_a_claim_that_cannot_be_bound_now_is_bound_later(machine: Machine) -> None:
    """The claim is created right after a restart of the server, while the kubelet reconnects."""
    machine.stop_server()
    machine.start_server()
    claim = await machine.make_claim()

    async def bound() -> bool:
        found = await machine.cluster.get(PVCS, claim["metadata"]["name"], "default")
        return (found.get("status") or {}).get("phase") == "Bound"

    await eventually(bound)
