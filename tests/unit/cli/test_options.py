"""Wrong options are refused with a sentence before anything is done."""

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from komputer.cli.app import app
from komputer.domain.errors import Invalid
from komputer.kube import Cluster
from komputer.local.datadir import NoDataDirectory


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output


@pytest.mark.parametrize(
    "arguments", [("up",), ("repair",), ("doctor",), ("volumes", "list"), ("volumes", "delete", "name")]
)
def test_an_empty_data_directory_is_not_the_current_one(
    arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, output = run(*arguments, "--data-dir", "")
    assert code == 2
    assert "the path is empty" in output
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("arguments", [("up",), ("offline-model",), ("serve", "offline-model")])
def test_a_port_that_does_not_exist_is_wrong_usage(arguments: tuple[str, ...]) -> None:
    code, output = run(*arguments, "--port", "99999")
    assert code == 2
    assert "--port" in output
    assert "65535" in output


@pytest.mark.parametrize(
    "arguments", [("volumes", "list"), ("volumes", "delete", "name"), ("volumes", "adopt", "name", "ada"), ("repair",)]
)
def test_a_missing_data_directory_is_an_error(arguments: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    for path in (tmp_path / "missing", tmp_path / "other"):
        with pytest.raises(NoDataDirectory, match=f"there is no data directory at {path}"):
            run(*arguments, "--data-dir", str(path))
    assert os.listdir(tmp_path) == ["other"]
    assert os.listdir(tmp_path / "other") == []


def test_no_lost_volumes_are_reported_as_such(tmp_path: Path) -> None:
    (tmp_path / "komputer.json").touch()
    assert run("volumes", "list", "--data-dir", str(tmp_path)) == (0, f"no lost volumes in {tmp_path}\n")


def test_the_help_of_list_says_that_it_shows_all_namespaces() -> None:
    code, output = run("list", "-h")
    assert code == 0
    assert "[default: all namespaces]" in output
    assert "[default: all namespaces]" not in run("get", "-h")[1]


def test_a_directory_is_no_kubeconfig(tmp_path: Path) -> None:
    with pytest.raises(Invalid) as refused:
        Cluster.connect(tmp_path)
    assert refused.value.message == f"The kubeconfig {tmp_path} is a directory; name a file."
