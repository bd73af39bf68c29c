"""What the reference pages tell their readers to type."""

import re
import subprocess
from pathlib import Path

PAGES = Path(__file__).parents[2] / "docs" / "reference"
CURL = "curl -sS --fail-with-body --noproxy '*'"


def blocks(page: str, url: str) -> list[str]:
    """The page's commands and programs for a platform at `url`; a request that is refused makes them fail."""
    found = re.findall(r"^```(?:python|sh)\n(.*?)^```", (PAGES / page).read_text(), re.MULTILINE | re.DOTALL)
    address = r"(http://)?(localhost|127\.0\.0\.1):8080"
    return [
        re.sub(address, url, block).replace("$KOMPUTER_API", f"{url}/api/v1").replace("curl -s", CURL)
        for block in found
    ]


def shell(commands: str) -> str:
    done = subprocess.run(["bash", "-euc", commands], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
