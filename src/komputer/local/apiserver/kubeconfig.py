"""The kubeconfig file through which kubectl and the platform's own programs reach this server."""

import contextlib
import json
import os
from pathlib import Path
from urllib.parse import quote


def ensure_kubeconfig(path: Path, server: str, token: str) -> None:
    """Write the kubeconfig, unless the file exists and has this server and token."""
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
        found = json.loads(path.read_bytes())
        if (found["clusters"][0]["cluster"]["server"], found["users"][0]["user"]["token"]) == (server, token):
            return
    write_kubeconfig(path, server, token)


def write_kubeconfig(path: Path, server: str, token: str) -> None:
    """Write a kubeconfig (mode 0600) whose only context reaches `server`, an http:// address, as administrator.

    kubectl sends a user's token to TLS servers only, but sends the credentials of a proxy over plain HTTP too. So the
    kubeconfig also names the server as its own proxy, with the token as password. Other clients may use either."""
    scheme, _, address = server.partition("://")
    cluster = {"server": server, "proxy-url": f"{scheme}://token:{quote(token, safe='')}@{address}"}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "komputer",
        "clusters": [{"name": "komputer", "cluster": cluster}],
        "users": [{"name": "komputer", "user": {"token": token}}],
        "contexts": [
            {"name": "komputer", "context": {"cluster": "komputer", "user": "komputer", "namespace": "default"}}
        ],
    }
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(config, file, indent=2)
        file.write("\n")
    temporary.replace(path)
