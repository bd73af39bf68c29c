"""The /etc of a sandbox."""

import os
from pathlib import Path

from komputer.local.kubelet.etc import follow_network, make_etc


def files(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): os.readlink(path) if path.is_symlink() else path.read_text(errors="replace")
        for path in folder.rglob("*")
        if path.is_symlink() or path.is_file()
    }


def test_the_etc_of_a_sandbox_has_a_fixed_set_of_world_readable_files(tmp_path: Path) -> None:
    host, etc = tmp_path / "host", tmp_path / "etc"
    (host / "ssl" / "certs").mkdir(parents=True)
    (host / "ssl" / "private").mkdir()
    (host / "ssl" / "private" / "key.pem").write_text("secret")
    (host / "ssl" / "certs" / "ca.pem").write_text("a certificate")
    (host / "ssl" / "certs" / "hash.0").symlink_to("ca.pem")
    (host / "ssl" / "certs" / "own.key").write_text("secret")
    (host / "ssl" / "certs" / "own.key").chmod(0o600)
    (host / "ssl" / "certs" / "pipe").symlink_to("/dev/zero")
    (host / "alternatives").mkdir()
    (host / "alternatives" / "editor").symlink_to("/usr/bin/vim")
    (host / "resolv.conf").write_text("nameserver 192.0.2.1")
    for name in ("passwd", "shadow", "krb5.keytab", "pip.conf", "my.cnf"):
        (host / name).write_text("of the machine")
    make_etc(etc, host)
    assert {path for path in files(etc)} == {
        *("passwd", "group", "hostname", "mtab", "resolv.conf", "ssl/certs/ca.pem", "ssl/certs/hash.0"),
        "alternatives/editor",
    }
    assert "agent:x:1000:1000" in (etc / "passwd").read_text()
    assert (etc / "ssl/certs/hash.0").read_text() == "a certificate"
    (host / "services").write_text("added later")
    (host / "resolv.conf").write_text("nameserver 192.0.2.2")
    before = etc.stat().st_ino
    follow_network(etc, host)
    assert (etc / "resolv.conf").read_text() == "nameserver 192.0.2.2"
    assert not (etc / "services").exists()
    assert etc.stat().st_ino == before
    make_etc(etc, host)
    assert (etc / "services").read_text() == "added later"
    assert (etc / "passwd").stat().st_mode & 0o777 == 0o600


def test_programs_of_this_machine_work_with_the_etc_of_a_sandbox(tmp_path: Path) -> None:
    make_etc(tmp_path / "etc")
    found = files(tmp_path / "etc")
    assert {"passwd", "group", "resolv.conf"} <= set(found)
    assert sum(len(text) for text in found.values()) < 8 * 1024 * 1024
