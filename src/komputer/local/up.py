"""`komputer up`: runs the whole platform on this machine, with one command."""

import json
import os
import platform as system
import shlex
import shutil
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

from komputer import __version__
from komputer.api.middleware import is_loopback
from komputer.domain.errors import Invalid, KomputerError
from komputer.local import credential, disk, parts
from komputer.local.apiserver import write_kubeconfig
from komputer.local.datadir import DataDir, Unusable, default_path, listen
from komputer.local.kubelet.processes import be_last_oom_victim
from komputer.local.kubelet.sandbox import Sandbox, why_no_sandbox
from komputer.local.platform import Options, Platform, Sockets
from komputer.local.supervisor import Part, Supervisor
from komputer.local.terminal import tell

DEFAULT_URL = "http://127.0.0.1:8080"
"""The address that the command line uses by default."""


class NeedsDecision(KomputerError):
    """The person who starts the platform must make a decision. The message says how."""

    code = "needs_decision"


def choose_sandbox(wanted: str, missing: str | None, has_credential: bool) -> Sandbox:
    """Return the sandbox to use. `missing` says why bubblewrap does not work here (None: it works). Raises
    `NeedsDecision` if there can be no sandbox, although the option `bubblewrap` requires one or there is a real
    credential; with the option `none` it is never raised."""
    if wanted == "none":
        return Sandbox.NONE
    if missing is None:
        return Sandbox.BUBBLEWRAP
    if wanted == "bubblewrap":
        raise NeedsDecision(f"there is no sandbox: {missing}; fix that, or accept it with --sandbox none")
    if has_credential:
        raise NeedsDecision(
            f"there is no sandbox: {missing}. Agents could then read what you can read, and you gave a real "
            "credential; fix that, or accept it with --sandbox none, or try the platform with --offline"
        )
    return Sandbox.NONE


def up(options: Options) -> int:
    """Run the platform until Ctrl-C or SIGTERM. Return the exit code. Raises `KomputerError` if it cannot start."""
    if not is_loopback(options.host):
        raise Invalid(
            f"--host {options.host}: there is no authentication, so the API listens on loopback only (127.0.0.1)"
        )
    be_last_oom_victim()
    problem, unused, address = (
        os.environ.pop(name, None) for name in (credential.PROBLEM, credential.UNUSED, credential.ADDRESS)
    )
    if problem and not options.offline:
        raise Invalid(f"{problem}; or use the offline model with --offline")
    has_credential = credential.handle() is not None and not options.offline
    sandbox_missing = None if options.sandbox == "none" else why_no_sandbox()
    sandbox = choose_sandbox(options.sandbox, sandbox_missing, has_credential)
    data = DataDir(options.data_dir or default_path(), tell)
    full = disk.open_reserve(data.path)
    api = listen(options.host, options.port)
    tell(f"komputer {__version__} on {system.system()} {system.machine()}, data in {data.path}")
    if sandbox is Sandbox.NONE:
        why = f" ({sandbox_missing})" if sandbox_missing else ""
        tell(f"note: no sandbox{why}: agents can read and change whatever you can; run only tasks that you trust")
    if shutil.which("kubectl") is None:
        tell("note: kubectl is not installed: everything works without it, but you cannot inspect the resources")

    sockets = Sockets(api, data.listen("kubernetes"), data.listen("gateway"), data.listen("model"))
    try:
        data.save()
        write_kubeconfig(data.kubeconfig, sockets.url(sockets.kubernetes), data.token)
    except OSError as wrong:
        raise Unusable(f"cannot write into the data directory {data.path}: {wrong.strerror}") from wrong
    if has_credential and address and (unreachable := credential.why_unreachable(address)):
        tell(f"warning: the model's address {address} cannot be reached now: {unreachable}. Tasks fail until it can be")
    if unused and not options.offline:
        tell(f"note: {unused} is ignored: there is neither ANTHROPIC_API_KEY nor ANTHROPIC_AUTH_TOKEN")
    supervisor: Supervisor
    shared = Platform(
        data, sockets, replace(options, offline=not has_credential), sandbox, lambda: supervisor.unready()
    )
    wanted = [
        Part("valkey", partial(parts.run_valkey, shared), stop_s=60),
        Part("kubernetes", partial(parts.run_kubernetes, shared)),
        *([] if has_credential else [Part("model", partial(parts.run_model, shared))]),
        Part("gateway", partial(parts.run_gateway, shared), after=("kubernetes",)),
        Part("api", partial(parts.run_api, shared)),
        Part("operator", partial(parts.run_operator, shared), after=("kubernetes", "valkey")),
        Part("kubelet", partial(parts.run_kubelet, shared), stop_s=60, after=("kubernetes",)),
    ]
    if full:
        tell(f"note: {full}")
    supervisor = Supervisor(
        wanted, tell, watch=shared.watch, problem=partial(disk.shortage, data.path), last_lines=shared.last_lines
    )
    code = supervisor.run(partial(_announce, shared))
    tell("stopped; tasks that ran are resumed at the next start")
    return code


def _command() -> str:
    """Return the shell command that runs this installation of `komputer` from the current directory."""
    program = Path(sys.executable).with_name("komputer")
    if not program.exists():
        return f"{shlex.quote(sys.executable)} -m komputer.cli"
    found = shutil.which("komputer")
    if found and Path(found).resolve() == program.resolve():
        return "komputer"
    return shlex.quote(str(program.relative_to(Path.cwd()) if program.is_relative_to(Path.cwd()) else program))


def _announce(platform: Platform) -> None:
    url = platform.sockets.url(platform.sockets.api)
    if platform.options.offline:
        tell("model: the built-in offline model answers (set ANTHROPIC_API_KEY or ANTHROPIC_AUTH_TOKEN for Claude)")
    else:
        tell("model: Claude, with the credential from your environment; only the gateway has it")
    tell(f"kubeconfig: {platform.data.kubeconfig}")
    tell(f"ready: {url}")
    body = json.dumps({"name": "ada", "instructions": "Say hello."})
    tell(f"try it: curl -s {url}/api/v1/agents -H 'Content-Type: application/json' -d '{body}'")
    tell(f"        curl -s {url}/api/v1/agents/ada/events")
    variable = "" if url == DEFAULT_URL else f"KOMPUTER_API={url} "
    tell(f"   or:  {variable}{_command()} run ada 'Say hello.'")
    tell(f"docs: {url}/docs")
