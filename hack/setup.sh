#!/usr/bin/env bash
# Makes .venv with the pinned packages, or repairs it. Quick when nothing is to be done.
# PYTHON names the interpreter; without it the first suitable one is taken.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=.venv/bin ready=.venv/.ready

suits() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; }
fail() { printf 'setup: %s\n' "$@" >&2; exit 1; }

is_current() { # nothing that the packages come from is newer than the last complete installation
  local input
  [ -e $ready ] || return 1
  for input in requirements/dev.txt requirements/setup.txt pyproject.toml; do
    [ "$input" -nt $ready ] && return 1
  done
  return 0
}
works() { [ -x $bin/komputer ] && suits $bin/python && $bin/python -c 'import komputer.cli.app' 2>/dev/null; }

if is_current && works; then exit 0; fi

# An environment without a usable interpreter or pip (interrupted, or its Python was removed) cannot be repaired.
if [ -e .venv ] && ! { suits $bin/python && $bin/python -c 'import pip' 2>/dev/null; }; then
  echo "setup: .venv is incomplete or its Python is gone; it is made anew"
  rm -rf .venv
fi

if [ ! -e .venv ]; then
  chosen=
  for each in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
    if suits "$each"; then chosen=$each; break; fi
  done
  if [ -z "$chosen" ]; then
    found=$("${PYTHON:-python3}" --version 2>/dev/null || echo "no ${PYTHON:-python3}")
    fail "Komputer needs Python 3.11, 3.12 or 3.13; found: $found." \
      "Install one (Debian, Ubuntu: apt install python3.11 python3.11-venv), then: make up PYTHON=python3.11"
  fi
  if ! "$chosen" -c 'import ensurepip, venv' 2>/dev/null; then
    version=$("$chosen" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    fail "$chosen has no ensurepip, so no environment can be made with it." \
      "Install it (Debian, Ubuntu: apt install python$version-venv), then run make again."
  fi
  "$chosen" -m venv .venv || { rm -rf .venv; fail "$chosen could not make .venv; the reason is above."; }
fi

rm -f $ready
echo "setup: installing the pinned packages into .venv"
{
  $bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/setup.txt &&
    # A package whose files are damaged looks installed: where the last installation was complete, all are laid anew.
    $bin/uv pip sync --quiet --compile-bytecode --require-hashes --python $bin/python ${1:-} requirements/dev.txt &&
    $bin/uv pip install --quiet --no-deps --no-build-isolation --python $bin/python -e .
} || fail "the packages could not be installed; the reason is above. Run make again when it is gone, it goes on."
if ! works; then
  [ -z "${1:-}" ] || fail "the environment does not work; remove .venv and run make again."
  exec "$0" --reinstall
fi
touch $ready
