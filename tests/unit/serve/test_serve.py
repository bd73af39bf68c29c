"""Flags and variables of the processes of a cluster, and what is refused before a socket is opened."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from komputer.domain.errors import Invalid
from komputer.gateway import Credentials
from komputer.serve.credential import CredentialFile
from komputer.serve.main import main
from komputer.serve.processes import Api, GatewayCommand

REDIS = ("--redis-url", "redis://127.0.0.1:1")
PORTS = ("--port", "0", "--metrics-port", "0")


@pytest.fixture(autouse=True)
def _nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("KOMPUTER_") or name == "KUBECONFIG"]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "usage: komputer serve api|gateway|operator|offline-model"),
        (("everything",), "usage: komputer serve"),
        (("api",), "--redis-url is required, or KOMPUTER_REDIS_URL"),
        (("api", *REDIS, "--port", "70000"), "--port (or KOMPUTER_PORT) must be 65535 or less, not '70000'\n"),
        (("api", *REDIS, "--port", "eighty"), "--port (or KOMPUTER_PORT) must be a whole number, not 'eighty'\n"),
        (("api", *REDIS, "--nonsense", "1"), "unrecognized arguments: --nonsense"),
        (("api", "--redis-url", "http://redis"), "The address of the event log cannot be used"),
        (("api", *REDIS, "--auth", "none", "--host", "0.0.0.0"), "would let everybody who reaches it do everything"),
        (("api", *REDIS, "--auth", "oidc"), "--auth (or KOMPUTER_AUTH) must be one of kubernetes, none, not 'oidc'\n"),
        (("api", *REDIS, "--namespaces", "team,Not One"), "'Not One' is not the name of a namespace"),
        (("api", *REDIS, "--connector-networks", "10.0.0.0/99"), "must be a network, such as 10.0.0.0/8"),
        (("gateway", *REDIS), "the model has no credential"),
        (("gateway", *REDIS, "--api-key-file", "a", "--auth-token-file", "b"), "not both"),
        (("gateway", *REDIS, "--bedrock-region", "eu-west-1"), "the model has no credential"),
        (("gateway", *REDIS, "--bedrock-region", "eu/west"), "must be the name of a cloud region"),
        (("gateway", *REDIS, "--bedrock-region", "a1", "--vertex-project", "acme-ai"), "not both"),
        (("gateway", *REDIS, "--vertex-project", "acme-ai", "--api-key-file", "a"), "no other credential"),
        (("gateway", *REDIS, "--google-key-file", "a"), "give --vertex-project too"),
        (("operator", *REDIS, "--lease", "nowhere"), "must be namespace/name of a Lease, not 'nowhere'"),
    ],
)
def test_wrong_flags_are_explained_in_a_sentence(
    arguments: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert says in said
    assert "Traceback" not in said
    assert "Input" not in said, "Pydantic's own words"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("operator", *REDIS, *PORTS, "--kubeconfig", "/nowhere"), "Cannot find a Kubernetes API"),
        (("gateway", *REDIS, "--api-key-file", "/nowhere"), "cannot be read from /nowhere"),
    ],
)
def test_a_failed_start_is_explained_in_a_sentence(arguments: tuple[str, ...], says: str) -> None:
    # In a process of its own: a process that starts takes over the logging of the one it runs in.
    done = subprocess.run((sys.executable, "-m", "komputer.serve", *arguments), capture_output=True, text=True)
    assert done.returncode == 1
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_each_flag_is_a_variable_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KOMPUTER_REDIS_URL", "redis://redis:6379/2")
    monkeypatch.setenv("KOMPUTER_NAMESPACES", "team-a, team-b")
    monkeypatch.setenv("KOMPUTER_ALLOWED_ORIGINS", "https://one.example,https://two.example")
    monkeypatch.setenv("KOMPUTER_CONNECTOR_NETWORKS", "")
    api = Api()
    assert api.redis.url == "redis://redis:6379/2"
    assert api.scope == ("team-a", "team-b")
    assert api.allowed_origins == ("https://one.example", "https://two.example")
    assert api.connector_networks == ()
    assert api.auth == "kubernetes", "access control unless one says otherwise"


def test_a_custom_model_address_needs_no_credential() -> None:
    told = GatewayCommand(redis_url="redis://redis", model_base_url="http://llm.internal")
    assert told.scope is None


async def header(given: Credentials) -> tuple[str, str]:
    credential = await given()
    assert credential
    return credential.header


async def test_each_cloud_has_its_address(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("bedrock-api-key")
    common: dict[str, Any] = {"redis_url": "redis://redis"}
    bedrock = GatewayCommand(**common, bedrock_region="eu-west-1", api_key_file=tmp_path / "key")
    assert bedrock.address == "https://bedrock-mantle.eu-west-1.api.aws/anthropic"
    assert await header(bedrock.credential()) == ("authorization", "Bearer bedrock-api-key")
    vertex = GatewayCommand(**common, vertex_project="acme-ai", vertex_region="europe-west1")
    assert vertex.address == "https://europe-west1-aiplatform.googleapis.com/v1"
    private = GatewayCommand(**common, vertex_project="acme-ai", model_base_url="https://vertex.internal/v1")
    assert private.address == "https://vertex.internal/v1"
    assert private.vertex


async def test_a_rotated_credential_counts_at_once_and_a_broken_one_does_not(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("first\n")
    credential = CredentialFile(path, "api_key")
    assert await header(credential) == ("x-api-key", "first")
    assert "first" not in repr(credential)
    path.with_suffix(".new").write_text("second")
    path.with_suffix(".new").replace(path)
    assert await header(credential) == ("x-api-key", "second")
    path.write_text("")
    assert await header(credential) == ("x-api-key", "second"), "an empty file is no rotation"
    path.unlink()
    assert await header(credential) == ("x-api-key", "second")


@pytest.mark.parametrize("content", ["", "two\nlines", "ünicode"])
def test_an_invalid_credential_is_refused_at_the_start(tmp_path: Path, content: str) -> None:
    path = tmp_path / "key"
    path.write_text(content)
    with pytest.raises(Invalid) as refused:
        CredentialFile(path, "bearer")
    assert refused.value.code == "model_credential"
    assert "two" not in refused.value.message


@pytest.mark.parametrize("part", ["api", "gateway", "operator", "offline-model"])
def test_each_program_has_a_help_text(part: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main((part, "--help"))
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert said.startswith(f"usage: komputer serve {part} ")
    assert "--log-level" in said
