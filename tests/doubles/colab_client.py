"""A program that behaves as Google's `colab` 0.7.5 does, its Colab being a folder.

    python colab_client.py FOLDER [ARGUMENTS OF colab]

Words, streams and exit statuses are the real client's, as the tests see with REAL_CLIENTS
(see clients.py). A machine is a process of this computer; it lives until it is given back,
whatever becomes of the client. FOLDER/fault names what goes wrong.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

_KERNEL = """
import sys, warnings
source = open(sys.argv[1]).read()
sys.argv = [sys.argv[2]]
exec(compile(source, "<cell>", "exec"), {"__name__": "__main__"})
"""
_PRELUDE = "import sys, warnings\nsys.argv = ['launcher.py']\n__name__ = '__main__'\n"
_REFUSED = (
    "[colab] Allocation refused (precondition failed). This can mean too many active sessions, "
    "or a temporary usage or capacity limit for the requested runtime. Run `colab stop` to free "
    "up a session, wait and retry, or try a different accelerator."
)
_REJECTED = (
    "[colab] Backend rejected accelerator '{gpu}'. You may not have quota or entitlement for "
    "this accelerator on your account. Try a different one (e.g. --gpu T4) or omit --gpu/--tpu "
    "for a CPU runtime."
)

FOLDER = Path(sys.argv[1])
FAULT = (FOLDER / "fault").read_text() if (FOLDER / "fault").exists() else ""


def main(arguments: list[str]) -> int:
    with (FOLDER / "calls").open("a") as calls:
        calls.write(json.dumps(arguments) + "\n")
    if arguments == ["version"]:
        print("Version: 0.7.5")
        return 0
    state = Path(arguments[1]) if arguments[0] == "--config" else FOLDER / "sessions.json"
    command, *rest = arguments[2:] if arguments[0] == "--config" else arguments
    if FAULT == "banner":
        print("\n[colab] A new version of Colab CLI is available: 0.8.0 (current: 0.7.5)")
    if FAULT == "logged out":
        print("\nTo authorize colab-cli, visit this URL in any browser:\n", file=sys.stderr)
        print("Enter the authorization code: ", end="", flush=True)
        print("Aborted.", file=sys.stderr)
        return 1
    return {"run": run, "sessions": sessions, "stop": stop, "download": download, "usage": usage}[
        command
    ](rest, state)


def run(arguments: list[str], state: Path) -> int:
    name, gpu = option(arguments, "-s"), option(arguments, "--gpu").upper()
    # A typo is an A100 for the real one.
    gpu = gpu if gpu in ("T4", "L4", "G4", "H100", "A100") else "A100"
    err(f"[colab] Creating session '{name}'...")
    if FAULT == "412":
        err(_REFUSED)
        return 1
    if FAULT == "400":
        err(_REJECTED.format(gpu=gpu))
        return 1
    if FAULT == "503":
        err("ColabRequestError: Failed to issue request POST /tun/m/assign: Service Unavailable")
        return 1
    if FAULT == "slow":
        (FOLDER / "asked").touch()
        time.sleep(600)
    endpoint = f"gpu-{gpu.lower()}-s-{uuid.uuid4().hex[:8]}"
    machine = FOLDER / endpoint
    (machine / "content").mkdir(parents=True)
    write(machine / "machine.json", {"accelerator": gpu})
    remember(state, name, {"name": name, "endpoint": endpoint, "accelerator": gpu})
    err(f"[colab] Session READY ({name}). Executing {arguments[-1]}...")
    status = 1
    try:
        if FAULT == "lost":
            err(f"[colab] Session '{name}' appears to be lost (404/401).")
            shutil.rmtree(machine)
            return 1
        status = execute(machine, Path(arguments[-1]))
    finally:
        if "--keep" not in arguments:
            err(f"[colab] Stopping session '{name}'...")
            if FAULT != "teardown fails":
                give_back(machine)
            forget(state, name)
            err("[colab] Session terminated.")
    return status


def execute(machine: Path, script: Path) -> int:
    """Run the script as a cell: a kernel of the machine's, which outlives this client."""
    cell = machine / "cell.py"
    cell.write_text(_PRELUDE + script.read_text())
    path = f"{FOLDER / 'gpu'}:{os.environ['PATH']}"
    kernel = subprocess.Popen(
        [sys.executable, "-u", "-c", _KERNEL, str(cell), script.name],
        cwd=machine / "content",
        env={**os.environ, "PATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    write(machine / "machine.json", {**read(machine / "machine.json"), "kernel": kernel.pid})
    assert kernel.stdout is not None
    for line in kernel.stdout:
        sys.stdout.write(line.decode())
        sys.stdout.flush()
    status = kernel.wait()
    return status if status >= 0 else 1


def sessions(arguments: list[str], state: Path) -> int:
    there = machines()
    known = read(state) if state.exists() else {}
    for name in [name for name, session in known.items() if session["endpoint"] not in there]:
        forget(state, name)
    if not there:
        print("[colab] No active sessions found on server.")
    names = {session["endpoint"]: name for name, session in known.items()}
    for endpoint, machine in there.items():
        gpu = machine["accelerator"]
        print(
            f"[{names.get(endpoint, '?')}] {endpoint} | Hardware: {gpu} | Shape: Standard"
            " | Variant: GPU"
        )
    return 0


def stop(arguments: list[str], state: Path) -> int:
    name = option(arguments, "-s")
    known = read(state) if state.exists() else {}
    if name not in known:
        print(f"[colab] Session '{name}' not found.")
        return 0
    print(f"[colab] Stopping session '{name}'...")
    if FAULT == "stays":
        err("ColabRequestError: Failed to issue request GET /tun/m/unassign: Server Error")
        return 1
    give_back(FOLDER / known[name]["endpoint"])
    forget(state, name)
    print("[colab] Session terminated.")
    return 0


def download(arguments: list[str], state: Path) -> int:
    session, there, here = read(state)[option(arguments, "-s")], arguments[-2], arguments[-1]
    try:
        content = FOLDER / session["endpoint"] / "content"
        shutil.copy(content / Path(there).relative_to("/content"), here)
    except OSError as error:
        print(f"[colab] Download failed: {error}")
        return 1
    print(f"[colab] Downloaded '{there}' to '{here}'")
    return 0


def usage(arguments: list[str], state: Path) -> int:
    print("Current balance: 0.00 compute units\nUsage rate: 0.00/hr\nActive assignments: 0")
    return 0


def machines() -> dict[str, Any]:
    return {path.parent.name: read(path) for path in FOLDER.glob("*/machine.json")}


def give_back(machine: Path) -> None:
    found = read(machine / "machine.json")
    if "kernel" in found:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(found["kernel"], signal.SIGKILL)
    (machine / "machine.json").unlink()
    if (FOLDER / "given back").exists():
        (FOLDER / "given back").write_text("it is\n")


def remember(state: Path, name: str, session: dict[str, Any]) -> None:
    write(state, {**(read(state) if state.exists() else {}), name: session})


def forget(state: Path, name: str) -> None:
    write(state, {key: value for key, value in read(state).items() if key != name})


def option(arguments: list[str], name: str) -> str:
    return arguments[arguments.index(name) + 1]


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text() or "{}")


def write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value))


def err(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[2:]))
    except KeyboardInterrupt:
        sys.exit(130)
