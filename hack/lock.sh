#!/usr/bin/env bash
# Pins all requirements with hashes and without registry addresses, for Python 3.11 to 3.13 on every platform.
set -euo pipefail
cd "$(dirname "$0")/.."
pin() { # FILE ARGUMENTS...
  local file=$1; shift
  .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header "$@" -o "requirements/$file.txt"
}
for each in setup build; do pin $each requirements/$each.in; done
pin local pyproject.toml --extra local
pin runtime pyproject.toml --extra runtime -c requirements/local.txt
pin server pyproject.toml --extra server --extra vertex -c requirements/local.txt
pin dev pyproject.toml --extra local --group dev -c requirements/local.txt
.venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header images/agent/tools.in -o images/agent/tools.txt
