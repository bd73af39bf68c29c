#!/usr/bin/env bash
# Creates .venv with the pinned packages, or repairs it. Quick if it is up to date.
# PYTHON names the interpreter; by default the first suitable one is used.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=.venv/bin ready=.venv/.ready

suits() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; }
fail() { printf 'setup: %s\n' "$@" >&2; exit 1; }

is_current() { # the requirements have not changed since the last complete installation
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
  echo "setup: .venv is incomplete or its Python was removed; creating it again"
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
    fail "$chosen has no ensurepip, which is needed to create an environment." \
      "Install it (Debian, Ubuntu: apt install python$version-venv), then run make again."
  fi
  "$chosen" -m venv .venv || { rm -rf .venv; fail "$chosen could not create .venv; the reason is above."; }
fi

rm -f $ready
echo "setup: installing the pinned packages into .venv"
{
  $bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/setup.txt &&
    # A package with damaged files still looks installed: --reinstall replaces all of them.
    $bin/uv pip sync --quiet --compile-bytecode --require-hashes --python $bin/python ${1:-} requirements/dev.txt &&
    $bin/uv pip install --quiet --no-deps --no-build-isolation --python $bin/python -e .
} || fail "the packages could not be installed; the reason is above. Fix it and run make again, which resumes."
if ! works; then
  [ -z "${1:-}" ] || fail "the environment does not work; remove .venv and run make again."
  exec "$0" --reinstall
fi
touch $ready
