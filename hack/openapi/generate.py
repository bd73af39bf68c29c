"""Generates `docs/openapi.json` from the routes of the API; `--check` compares it."""

import json
import sys
from pathlib import Path

import httpx2

from komputer import api
from komputer.api.openapi import document
from komputer.events.log import Log
from komputer.kube import Cluster

FILE = Path(__file__).parents[2] / "docs" / "openapi.json"


def main() -> int:
    app = api.app(api.ApiSettings(), Cluster(httpx2.AsyncClient()), Log.connect("redis://127.0.0.1"))
    wanted = json.dumps(document(app), indent=2, ensure_ascii=False) + "\n"
    if "--check" not in sys.argv[1:]:
        FILE.write_text(wanted, "utf-8")
    elif not FILE.exists() or FILE.read_text("utf-8") != wanted:
        print(f"{FILE} does not match the routes: run make generated", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
