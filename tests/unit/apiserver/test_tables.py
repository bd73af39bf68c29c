"""Server-side printing."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from komputer.local.apiserver.kinds import POD, ResourceKind, TableColumn
from komputer.local.apiserver.table import age, rendered, values_at

NOW = datetime(2026, 1, 1, tzinfo=UTC)
BODY = {
    "metadata": {"name": "ada", "labels": {"a.b/c": "d"}, "creationTimestamp": "2025-12-31T23:59:00Z"},
    "spec": {"list": [{"n": 1}, {"n": 2}], "size": 3},
    "status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Idle", "status": "False"}]},
}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (".spec.size", [3]),
        (".spec.list[0].n", [1]),
        (".spec.list[-1].n", [2]),
        (".spec.list[*].n", [1, 2]),
        (".spec.list[7].n", []),
        (".spec.missing.deep", []),
        (".metadata.labels['a.b/c']", ["d"]),
        (r".metadata.labels.a\.b/c", ["d"]),
        ('.status.conditions[?(@.type=="Ready")].status', ["True"]),
        (".status.conditions[?(@.type=='Idle')].status", ["False"]),
        (".status.conditions[?(@.type!='Idle')].status", ["True"]),
    ],
)
def test_a_jsonpath_finds_the_values_of_its_column(path: str, found: list[Any]) -> None:
    assert values_at(BODY, path) == found


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (185, "3m5s"),
        (3600, "60m"),
        (3 * 3600, "3h"),
        (3 * 3600 + 60, "3h1m"),
        (30 * 3600, "30h"),
        (50 * 3600, "2d2h"),
        (10 * 86400, "10d"),
        (800 * 86400, "2y70d"),
        (-10, "<invalid>"),
    ],
)
def test_an_age_has_the_short_form(seconds: int, shown: str) -> None:
    moment = (NOW - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert age(moment, NOW) == shown


def test_a_row_has_one_cell_per_column_and_null_for_missing_values() -> None:
    columns = (TableColumn("Size", "integer", ".spec.size"), TableColumn("Phase", "string", ".status.phase"))
    kind = ResourceKind("x.io", "v1", "Widget", "widgets", custom=True, columns=columns)
    table = rendered(kind, [BODY], {"resourceVersion": "7"}, "Metadata")
    assert [column["name"] for column in table["columnDefinitions"]] == ["Name", "Size", "Phase"]
    assert table["rows"][0]["cells"] == ["ada", 3, None]
    assert table["rows"][0]["object"]["kind"] == "PartialObjectMetadata"


@pytest.mark.parametrize(
    ("status", "deleted", "shown"),
    [
        ({}, False, ["0/1", "Unknown", "0"]),
        ({"phase": "Pending"}, False, ["0/1", "Pending", "0"]),
        (
            {"phase": "Running", "containerStatuses": [{"ready": True, "restartCount": 2}]},
            False,
            ["1/1", "Running", "2"],
        ),
        (
            {"containerStatuses": [{"state": {"waiting": {"reason": "CrashLoopBackOff"}}}]},
            False,
            ["0/1", "CrashLoopBackOff", "0"],
        ),
        ({"containerStatuses": [{"state": {"terminated": {"exitCode": 3}}}]}, False, ["0/1", "ExitCode:3", "0"]),
        ({"phase": "Running"}, True, ["0/1", "Terminating", "0"]),
    ],
)
def test_the_status_column_of_a_pod_shows_its_problem(status: Any, deleted: bool, shown: list[str]) -> None:
    metadata = {"name": "p", "creationTimestamp": None} | (
        {"deletionTimestamp": "2026-01-01T00:00:00Z"} if deleted else {}
    )
    body = {"metadata": metadata, "spec": {"containers": [{}]}, "status": status}
    assert rendered(POD, [body], {}, "None")["rows"][0]["cells"][1:4] == shown
