"""What the tests make."""

from typing import Any

from komputer.kube import Manifest


def agent(namespace: str, name: str = "ada", **spec: Any) -> Manifest:
    return {"metadata": {"name": name, "namespace": namespace}, "spec": {"instructions": "first"} | spec}


def pod(namespace: str, name: str = "ada-pod", **metadata: Any) -> Manifest:
    container = {"name": "agent", "image": "komputer-agent"}
    return {"metadata": {"name": name, "namespace": namespace} | metadata, "spec": {"containers": [container]}}


def version(manifest: Manifest) -> int:
    return int(manifest["metadata"]["resourceVersion"])
