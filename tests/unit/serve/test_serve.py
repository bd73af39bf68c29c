"""What the processes of a cluster are told: flags and variables, and what is refused before anything is opened."""

import os
from pathlib import Path

import pytest

from komputer.resources.errors import Invalid
from komputer.serve.credential import CredentialFile
from komputer.serve.main import main
from komputer.serve.processes import Api, Gateway

REDIS = ("--redis-url", "redis://127.0.0.1:1")


@pytest.fixture(autouse=True)
def _nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("KOMPUTER_") or name == "KUBECONFIG"]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ((), 2, "usage: komputer serve api|gateway|operator|offline-model"),
        (("everything",), 2, "usage: komputer serve"),
        (("api",), 2, "--redis-url: Field required"),
        (("api", *REDIS, "--port", "70000"), 2, "--port"),
        (("api", *REDIS, "--nonsense", "1"), 2, "unrecognized arguments: --nonsense"),
        (("api", "--redis-url", "http://redis"), 2, "The address of the event log cannot be used"),
        (("api", *REDIS, "--auth", "none", "--host", "0.0.0.0"), 2, "would let everybody who reaches it do everything"),
        (("api", *REDIS, "--auth", "oidc"), 2, "--auth"),
        (("api", *REDIS, "--namespaces", "team,Not One"), 2, "'Not One' is not the name of a namespace"),
        (("api", *REDIS, "--connector-networks", "10.0.0.0/99"), 2, "--connector-networks"),
        (("gateway", *REDIS), 2, "the model has no credential"),
        (("gateway", *REDIS, "--api-key-file", "a", "--auth-token-file", "b"), 2, "not both"),
        (("operator", *REDIS, "--lease", "nowhere"), 2, "--lease"),
        (("operator", *REDIS, "--kubeconfig", "/nowhere"), 1, "Cannot find a Kubernetes API"),
        (("gateway", *REDIS, "--api-key-file", "/nowhere"), 1, "cannot be read from /nowhere"),
    ],
)
def test_what_cannot_work_is_said_in_a_sentence(
    arguments: tuple[str, ...], code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == code
    said = capsys.readouterr().err
    assert says in said
    assert "Traceback" not in said


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


def test_a_gateway_of_ones_own_needs_no_credential() -> None:
    told = Gateway(redis_url="redis://redis", model_base_url="http://llm.internal")
    assert told.scope is None


def test_a_rotated_credential_counts_at_once_and_a_broken_one_does_not(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("first\n")
    credential = CredentialFile(path, "api_key")
    assert credential().value == "first"  # type: ignore[union-attr]
    assert "first" not in repr(credential)
    path.with_suffix(".new").write_text("second")
    path.with_suffix(".new").replace(path)
    assert credential().value == "second"  # type: ignore[union-attr]
    path.write_text("")
    assert credential().value == "second", "an empty file is no rotation"  # type: ignore[union-attr]
    path.unlink()
    assert credential().value == "second"  # type: ignore[union-attr]


@pytest.mark.parametrize("content", ["", "two\nlines", "ünicode"])
def test_what_is_no_credential_is_refused_at_the_start(tmp_path: Path, content: str) -> None:
    path = tmp_path / "key"
    path.write_text(content)
    with pytest.raises(Invalid) as refused:
        CredentialFile(path, "bearer")
    assert refused.value.code == "model-credential"
    assert "two" not in refused.value.message
