"""`python -m komputer.offline --port N`: serve, and print the address as one line."""

from __future__ import annotations

import argparse
import os
import sys

from komputer.offline import serve


def main() -> int:
    parser = argparse.ArgumentParser(prog="komputer.offline", description="A scripted stand-in for the Messages API.")
    parser.add_argument("--port", type=int, default=0, help="on 127.0.0.1; 0, the default, picks a free one")
    port: int = parser.parse_args().port
    if not 0 <= port <= 65_535:
        parser.error(f"{port} is not a port: 0 to 65535")
    try:
        serve(port, lambda chosen: print(f"http://127.0.0.1:{chosen}", flush=True))
    except OSError as error:
        print(f"The offline model cannot listen on 127.0.0.1:{port}: {os.strerror(error.errno or 0)}.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
