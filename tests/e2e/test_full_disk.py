"""A disk that is full stops new work and no deletion, and says so everywhere."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from komputer.local import disk
from tests.e2e.laptop import Laptop
from tests.fixtures.disks import fill_bytes, small_disk

WITHIN_S = 90.0
EVE = "/apis/komputer.komputer.ai/v1alpha1/namespaces/default/komputeragents/eve"


def eventually(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def has_completed(laptop: Laptop, name: str) -> bool:
    return bool(laptop.http.get(f"/agents/{name}").json().get("taskStatus") == "Complete")


def says_full(laptop: Laptop) -> bool:
    status = (laptop.kubernetes("GET", EVE) or {}).get("status") or {}
    return any(condition["reason"] == "DiskFull" for condition in status.get("conditions", ()))


def is_set_aside(data: Path) -> bool:
    files = disk.growing_files(data).items()
    return (data / "reserve").exists() and all(
        path.stat().st_blocks * 512 >= path.stat().st_size + ahead // 2 for path, ahead in files
    )


def test_on_a_full_disk_agents_are_deleted_and_work_goes_on_when_there_is_space(
    new_laptop: Callable[..., Laptop], tmp_path: Path
) -> None:
    task = {"instructions": "Say hello."}
    with small_disk(tmp_path / "disk", size_mib=160, inodes=20_000) as folder:
        laptop = new_laptop("--offline", data_dir=folder / "data")
        ready = str(laptop.http.base_url).removesuffix("/api/v1/") + "/readyz"
        for name in ("ada", "eve"):
            assert laptop.http.post("/agents", json={"name": name, **task}).status_code == 201
            eventually(partial(has_completed, laptop, name))
        eventually(lambda: is_set_aside(folder / "data"))
        workspace = laptop.workspace("ada")
        assert workspace
        fill_bytes(workspace)
        answer = laptop.http.get(ready)
        assert (answer.status_code, answer.json()["code"]) == (503, "disk_full")
        refused = laptop.http.post("/agents", json={"name": "bob", **task})
        assert refused.status_code == 503
        assert "is full" in refused.json()["error"]
        eventually(lambda: says_full(laptop))
        assert laptop.http.delete("/agents/ada").status_code in (200, 204)
        eventually(lambda: laptop.http.get("/agents/ada").status_code == 404)
        eventually(lambda: laptop.http.get(ready).status_code == 200)
        assert laptop.http.post("/agents", json={"name": "bob", **task}).status_code == 201
        eventually(partial(has_completed, laptop, "bob"))
        eventually(lambda: not says_full(laptop))
        assert laptop.stop() == 0
