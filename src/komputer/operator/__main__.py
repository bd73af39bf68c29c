"""`python -m komputer.operator`: the operator of the cluster of $KUBECONFIG, or of the one that this pod is in."""

import os
import sys
from pathlib import Path

import uvloop

from komputer.events.log import Log
from komputer.kube import Cluster
from komputer.operator import Settings, run


def main() -> int:
    redis = os.environ.get("KOMPUTER_REDIS_URL")
    if not redis:
        print("KOMPUTER_REDIS_URL is not set: redis://host:port/db or unix:///path of the event log", file=sys.stderr)
        return 2
    uvloop.run(_main(redis, os.environ.get("KUBECONFIG")))
    return 0


async def _main(redis: str, kubeconfig: str | None) -> None:
    cluster = Cluster.connect(Path(kubeconfig) if kubeconfig else None)
    log = Log.connect(redis, prefix=os.environ.get("KOMPUTER_STREAM_PREFIX", "komputer-events"))
    try:
        await run(Settings(), cluster, log, ready=lambda: print("ready", flush=True))
    finally:
        await cluster.close()
        await log.close()


if __name__ == "__main__":
    sys.exit(main())
