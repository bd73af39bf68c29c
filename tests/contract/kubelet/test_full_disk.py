"""A disk without space or inodes delays pods and ends none."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from komputer.kube import PODS, PVCS
from tests.contract.kubelet.conftest import Machine, is_running, run, waits
from tests.fixtures.disks import fill_bytes, fill_inodes, small_disk
from tests.waiting import eventually


@pytest.fixture
async def machine(tmp_path: Path) -> AsyncIterator[Machine]:
    with small_disk(tmp_path / "data") as data:
        async for each in run(Machine(tmp_path, data)):
            yield each


async def test_a_pod_created_without_free_inodes_reports_it_and_starts_later(machine: Machine) -> None:
    await machine.make_claim()
    filling = fill_inodes(machine.data)
    await machine.make_pod("while :; do sleep 1; done")
    waiting = await machine.until(waits)
    assert "inodes" in waits(waiting) or "No space left" in waits(waiting)
    shutil.rmtree(filling)
    await machine.until(is_running)


async def test_a_container_keeps_running_while_its_log_cannot_be_written(machine: Machine) -> None:
    await machine.make_claim()
    await machine.make_pod(
        """
        echo first
        while [ ! -e "$DISK/more" ]; do sleep 0.05; done
        i=0; while [ $i -lt 20000 ]; do i=$((i+1)); echo a line of output that nobody can keep $i; done
        : > "$DISK/printed"
        while [ ! -e "$DISK/done" ]; do sleep 0.05; done
        echo last
        """
    )
    await eventually(lambda: "first" in machine.text())
    volume = machine.volume()
    assert volume
    filling = fill_bytes(machine.data)
    (volume / "more").touch()
    await eventually((volume / "printed").exists)
    filling.unlink()
    (volume / "done").touch()
    await eventually(lambda: "last" in machine.text())
    assert "bytes were lost" in machine.text()
    await machine.until(lambda container: container.get("restartCount", 0) >= 1)


async def test_a_container_that_ends_on_a_full_disk_restarts_when_there_is_space(machine: Machine) -> None:
    await machine.make_claim()
    await machine.make_pod('while [ ! -e "$DISK/end" ]; do sleep 0.05; done; rm "$DISK/end"')
    await machine.until(is_running)
    volume = machine.volume()
    assert volume
    filling = fill_bytes(machine.data)

    async def is_told() -> bool:
        return bool(await pressure(machine))

    await eventually(is_told)
    (volume / "end").touch()
    waiting = await machine.until(waits)
    assert waits(waiting).startswith("DiskPressure: the disk of")
    assert await pressure(machine) == ["DiskFull"]
    filling.unlink()
    await machine.until(is_running)
    assert await pressure(machine) == []


async def pressure(machine: Machine) -> list[str]:
    """Return the reason of the pod's condition DiskPressure, or an empty string."""
    conditions = (await machine.cluster.get(PODS, "pod", "default"))["status"]["conditions"]
    return [condition["reason"] for condition in conditions if condition["type"] == "DiskPressure"]


async def test_a_claim_is_deleted_on_a_full_disk(machine: Machine) -> None:
    await machine.make_claim()
    await machine.make_pod("while :; do sleep 1; done")
    await machine.until(is_running)
    volume = machine.volume()
    assert volume
    fill_bytes(volume)
    await machine.cluster.delete(PODS, "pod", "default")
    await machine.cluster.delete(PVCS, "disk", "default")
    await machine.until_gone(PVCS, "disk")
    await machine.until_gone(PODS, "pod")
    await eventually(lambda: not list((machine.data / "volumes" / ".deleted").iterdir()))
