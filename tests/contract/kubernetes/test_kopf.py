"""kopf as an independent client: an ordinary operator observes events, writes status, uses finalizers and posts
Events."""

import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.kubernetes.cluster import DEADLINE_SECONDS, answered, eventually
from tests.contract.kubernetes.room import Room

OPERATOR = Path(__file__).with_name("operator_of_widgets.py")


class Operator:
    """The running operator and the lines that it printed."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.printed: queue.Queue[str] = queue.Queue()
        self.log: list[str] = []
        self._reader = threading.Thread(target=self._read, args=(process.stdout,))
        self._reader.start()

    def _read(self, output: Iterator[str]) -> None:
        for line in output:
            self.log.append(line)
            if line.startswith("saw "):
                self.printed.put(line.removeprefix("saw ").strip())

    def await_line(self, wanted: str) -> None:
        """Wait until this line was printed; earlier lines are discarded."""
        end = time.monotonic() + DEADLINE_SECONDS
        while True:
            try:
                if self.printed.get(timeout=max(0.0, end - time.monotonic())) == wanted:
                    return
            except queue.Empty:
                raise AssertionError(f"the operator did not print {wanted!r}:\n{''.join(self.log)}") from None

    def close(self) -> None:
        self._reader.join()


@pytest.fixture
def operator(room: Room, kubeconfig: Path, tmp_path: Path) -> Iterator[Operator]:
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "KUBECONFIG": str(kubeconfig)}
    command = [sys.executable, "-m", "kopf", "run", "--standalone", "--namespace", room.namespace, str(OPERATOR)]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment | {"WIDGET_GROUP": room.group},
    ) as process:
        operator = Operator(process)
        try:
            yield operator
            assert process.poll() is None, "".join(operator.log)
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
            operator.close()
    assert "Traceback" not in "".join(operator.log), "".join(operator.log)


def test_an_operator_handles_create_update_and_delete(operator: Operator, room: Room) -> None:
    """Create, update and delete in order; its status, its finalizer and its Event arrive."""
    room.create("widgets", room.widget("ada"))
    operator.await_line("create ada")
    eventually(lambda: room.read("widgets", "ada"), lambda widget: widget.get("status", {}).get("phase") == "Ready")
    room.merge("widgets", "ada", {"spec": {"size": 7}})
    operator.await_line("size ada 7")

    def messages() -> list[str]:
        return [event["message"] for event in room.listing("events")["items"]]

    eventually(messages, lambda found: "Hello ada." in found)
    assert room.read("widgets", "ada")["metadata"]["finalizers"]
    answered(room.api.delete(room.path("widgets", "ada")))
    operator.await_line("delete ada")
    operator.await_line("event DELETED ada")
    room.await_gone("widgets", "ada")


def test_an_operator_handles_objects_that_existed_before(room: Room, request: pytest.FixtureRequest) -> None:
    """It lists before it watches."""
    room.create("widgets", room.widget("old"))
    operator: Operator = request.getfixturevalue("operator")
    operator.await_line("create old")
