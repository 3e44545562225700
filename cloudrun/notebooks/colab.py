"""Google Colab, through its official client `colab` (google-colab-cli).

One call of the client gets a machine, runs our text on it and gives the machine back: on
its end, on an error and on an interrupt, but not when it is terminated. So it runs under
`tied_client`, which interrupts it whatever happens to us, and Colab's own list says whether
the machine is gone. What a person may do with Colab is in its terms: see `terms`.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cloudrun import settings
from cloudrun.catalog.gpus import find as find_gpu
from cloudrun.errors import (
    CannotHave,
    CloudrunError,
    HostUnreachable,
    NoCredentials,
    NotInstalled,
    WrongUsage,
)
from cloudrun.hosts.base import Person
from cloudrun.hosts.local import LocalJob
from cloudrun.model.machine import Machine
from cloudrun.model.need import GpuRequest, Need
from cloudrun.model.offer import Offer
from cloudrun.model.resource import Resource
from cloudrun.model.run import now
from cloudrun.notebooks import client, payload, tied_client
from cloudrun.notebooks.colab_job import LOG_IN, ColabJob, is_logged_out
from cloudrun.notebooks.host import NotebookHost, refuse_secrets
from cloudrun.notebooks.project import LeftOut
from cloudrun.providers.base import (
    Finding,
    Found,
    Order,
    Tell,
    install_command,
    nobody,
    owner,
    unusable,
)

name = "colab"
_HOME = "/content"
# What Colab calls its GPUs, and what they are called in the catalogue.
_GPUS = {"T4": "T4", "L4": "L4", "G4": "RTX PRO 6000", "A100": "A100", "H100": "H100"}
_FREE = "T4"
# What a free machine is for is work that somebody watches.
_LONGEST_S = 3600
_ENVIRONMENT = {"COLAB_CLI_ASSIGN_RETRIES": "1", "NO_COLOR": "1"}
# The client's own time limit only makes it spin, so it comes after ours.
_NEVER_S = 300
# What interrupts the client waits for it, and then stops the machine once more.
_RELEASE_S = 90.0
_CLIENT = client.Kind(
    service="Colab",
    name="colab",
    ask_version=("version",),
    words="Version:",
    least=(0, 7, 5),
    install=(
        install_command("colab")
        if sys.version_info >= (3, 12)
        else "It needs Python 3.12 or newer: uv tool install 'google-colab-cli>=0.7.5'. Without "
        "it: cloudrun colab --open"
    ),
)


def check() -> Sequence[Finding]:
    """Look at the client, the login, and what Colab says of the account."""
    try:
        program = _usable_client()
        answer = client.ask(program, ("usage",))
        if answer.status != 0:
            raise _cannot_ask(answer)
    except CloudrunError as error:
        return [unusable(name, error)]
    said = "; ".join(line.strip() for line in answer.out.splitlines() if ":" in line)
    return [Finding(name, "pass", f"The client works. Colab says: {said[:300]}.")]


def offers(need: Need, tell: Tell = nobody) -> Sequence[Offer]:  # noqa: ARG001
    """The GPU that is asked for, or the T4, which is the free one; Colab says later if it has it.

    Raises:
        NotInstalled: the client is not here, or too old.
        NoCredentials: nobody is logged in.
    """
    _usable_client()
    wanted = _called(need.gpu) if need.gpu else _FREE
    if wanted is None:
        return []
    return [
        Offer(
            provider=name,
            device="cuda",
            instance_type=wanted,
            gpu=wanted,
            gpu_count=1,
            price_note="on Colab's free plan; else it takes compute units",
            longest_s=_LONGEST_S,
        )
    ]


def _called(wanted: GpuRequest) -> str | None:
    """What Colab calls a GPU; its client would take any other word for an A100."""
    found = {gpu.name for gpu in find_gpu(wanted.name)}
    for theirs, ours in _GPUS.items():
        if wanted.count == 1 and {gpu.name for gpu in find_gpu(ours)} <= found:
            return theirs
    return None


def _usable_client() -> str:
    if sys.platform == "win32":
        raise NotInstalled(
            "Colab's client does not run on Windows.",
            "Google makes it for Linux and macOS.",
            "What works here: cloudrun colab --open, and cloudrun launch --on kaggle. Or use WSL.",
        )
    program = client.find(_CLIENT)
    if not (Path.home() / ".config" / "colab-cli" / "token.json").exists():
        raise NoCredentials("You are not logged in to Colab.", "", LOG_IN)
    return program


class _Submitted(NamedTuple):
    job: ColabJob
    left_out: tuple[LeftOut, ...]


# The jobs of this process, by their runs.
_running: dict[str, _Submitted] = {}


def create(offer: Offer, order: Order) -> Machine:
    """Start the client with the whole job, and wait until Colab has given it a machine.

    Raises:
        CannotHave: Colab gives none.
        NoCredentials: the login has expired.
        WrongUsage: what is to be done cannot be done there.
    """
    _check_order(order)
    program, session = _usable_client(), _session(order.run_id)
    gpu = offer.instance_type or _FREE
    made = payload.build(order.need, offer.device, _HOME, order.longest_s)
    script = order.folder / "launcher.py"
    script.write_text(made.script, "utf-8")
    state = _state(order.run_id)
    state.parent.mkdir(parents=True, exist_ok=True)
    configured = (program, "--config", str(state))
    # Results are fetched from the machine, so it must outlive the client.
    keep = ["--keep"] if order.need.command else []
    run = (
        *(*configured, "run", "-s", session, "--gpu", gpu, *keep),
        *("--timeout", str(order.longest_s + _NEVER_S), str(script)),
    )
    last = json.dumps([*configured, "stop", "-s", session])
    tied = (sys.executable, tied_client.__file__, last, *run)
    job = ColabJob(LocalJob(tied, order.folder, _ENVIRONMENT, _RELEASE_S), gpu)
    _running[order.run_id] = _Submitted(job, made.left_out)
    job.wait_for_machine()
    try:
        # The client forgets a machine that it could not give back; this does not.
        shutil.copyfile(state, _kept(order.run_id))
    except FileNotFoundError as error:
        raise CannotHave("Colab's machine was given back at once.", scope="cloud") from error
    return Machine(id=session, offer=offer, deadline=order.deadline)


def _check_order(order: Order) -> None:
    refuse_secrets(order, "Colab")
    if order.detach:
        raise WrongUsage(
            "A job in Colab ends with its cloudrun, so it cannot be detached.",
            "Its client gives the machine back when it ends.",
            "Leave --detach out, or use Kaggle: --on kaggle",
        )


def connect(machine: Machine, person: Person, until: float) -> NotebookHost:  # noqa: ARG001
    """The host of the job that `create` has started."""
    run_id = machine.id.removeprefix("cloudrun-")
    submitted = _running.get(run_id)
    if submitted is None:
        raise HostUnreachable(
            "The job in Colab ended with the cloudrun that had started it.", "", "Run it again."
        )
    return NotebookHost(
        submitted.job, lambda folder: _fetch(run_id, folder), person.tell, submitted.left_out
    )


def _fetch(run_id: str, folder: Path) -> Path:
    """Download the packed results."""
    packed = folder / payload.RESULTS
    there = f"{_HOME}/{payload.RESULTS}"
    answer = _ask(_state(run_id), "download", "-s", _session(run_id), there, str(packed))
    if answer.status != 0 or not packed.exists():
        raise HostUnreachable(
            "The results could not be fetched from Colab.", f"Its client says: {answer.words}."
        )
    return packed


def gone(machine: Machine) -> str | None:  # noqa: ARG001
    """The client says so by itself."""
    return None


def find(regions: Sequence[str] | None = None) -> Found:  # noqa: ARG001
    """What Colab lists of ours: by what the runs that did not end in order have left here."""
    left = [path.stem for path in _folder().glob("*.json") if path.suffixes == [".json"]]
    found, unknown = [], []
    for run_id in left:
        try:
            is_there = _is_listed(run_id)
        except CloudrunError as error:
            # Where something was left, a client that is gone or logged out is no reason for calm.
            unknown.append(f"Whether Colab has still the machine of run {run_id}: {error}")
            continue
        if is_there:
            found.append(
                Resource(
                    provider=name, region="", kind="machine", id=_session(run_id), run=run_id,
                    owner=owner(), what="Colab",
                )
            )  # fmt: skip
        else:
            _forget(run_id)
    return Found(found, unknown)


def terminate(run_id: str, region: str | None, machine: Machine | None) -> str:  # noqa: ARG001
    """Give the machine back, and hear from Colab that it is gone.

    Raises:
        HostUnreachable: Colab cannot be asked, or lists it still.
    """
    submitted = _running.pop(run_id, None)
    if submitted is not None:
        submitted.job.stop()
    if not _state(run_id).exists():
        # The client never had a machine.
        return now()
    if _is_known(run_id):
        _ask(_state(run_id), "stop", "-s", _session(run_id))
    if _is_listed(run_id):
        _ask(_seen_last(run_id), "stop", "-s", _session(run_id))
        if _is_listed(run_id):
            raise HostUnreachable(
                f"Colab still lists the machine of run {run_id}.",
                "Its client could not give it back.",
                "End it in Colab: Runtime, Manage sessions.",
            )
    _forget(run_id)
    return now()


def _is_known(run_id: str) -> bool:
    """Whether the client remembers the machine."""
    with contextlib.suppress(OSError, ValueError):
        return _session(run_id) in json.loads(_state(run_id).read_text("utf-8"))
    return True


def _is_listed(run_id: str) -> bool:
    """Whether Colab itself lists the machine."""
    answer = _ask(_seen_last(run_id), "sessions")
    if answer.status != 0:
        raise _cannot_ask(answer)
    return f"[{_session(run_id)}] " in answer.out


def _ask(state: Path, *arguments: str) -> client.Answer:
    return client.ask(client.find(_CLIENT), ("--config", str(state), *arguments))


def _cannot_ask(answer: client.Answer) -> HostUnreachable | NoCredentials:
    if is_logged_out(answer.out + answer.err):
        return NoCredentials("Colab's login has expired.", "", LOG_IN)
    return HostUnreachable(
        "Colab does not answer.", f"Its client says: {answer.words}.", "Try again later."
    )


def _session(run_id: str) -> str:
    return f"cloudrun-{run_id}"


def _folder() -> Path:
    return settings.places().state / "colab"


def _state(run_id: str) -> Path:
    """The client's own file of the run's session."""
    return _folder() / f"{run_id}.json"


def _kept(run_id: str) -> Path:
    """The file as it was when the machine had been had."""
    return _folder() / f"{run_id}.kept.json"


def _seen_last(run_id: str) -> Path:
    """The file that knows the machine for sure, where there is one."""
    return _kept(run_id) if _kept(run_id).exists() else _state(run_id)


def _forget(run_id: str) -> None:
    for path in _folder().glob(f"{run_id}.*"):
        path.unlink(missing_ok=True)
