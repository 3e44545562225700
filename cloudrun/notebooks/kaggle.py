"""Kaggle, through its official client `kaggle`.

A run is a private notebook of the user's account, of kind script, that Kaggle runs by
itself: it goes on without us, and ends itself at its time limit. Each run has a notebook
of its own, named after it, which is deleted when all is home; so nothing of an earlier one
is ever read, and what is left over is seen by its name.

The client's exit status is 0 even where Kaggle refuses: what it says is what counts.
"""

from __future__ import annotations

import functools
import json
import re
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cloudrun.catalog.gpus import find as find_gpu
from cloudrun.errors import (
    CannotHave,
    CloudrunError,
    HostUnreachable,
    NoCredentials,
    Unavailable,
)
from cloudrun.hosts.base import Person
from cloudrun.model.machine import Machine
from cloudrun.model.need import GpuRequest, Need
from cloudrun.model.offer import Offer
from cloudrun.model.resource import Resource
from cloudrun.model.run import now
from cloudrun.model.words import clean
from cloudrun.notebooks import client, payload
from cloudrun.notebooks.host import NotebookHost, refuse_secrets
from cloudrun.notebooks.kaggle_job import FINAL, KaggleJob, cannot_ask, state_of
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
from cloudrun.providers.patience import patiently

name = "kaggle"
_HOME = "/kaggle/working"
# There is no single one.
_GPU, _GPUS, _SHAPE, _CALLED = "T4", 2, "NvidiaTeslaT4", "T4 x2"
_LONGEST_S = 12 * 3600
# Kaggle's own limit comes after the launcher's, which packs the results first.
_LATER_S = 300
_OURS = re.compile(r"[\w-]{1,100}/cloudrun-([a-z][a-z0-9]{11})", re.ASCII)
_PUSHED = "successfully pushed"
_REFUSED = re.compile(r"^Kernel push error: (.*)$", re.MULTILINE)
_NOT_THERE = ("was not found", "have access to this resource")
_MOST_LEFT = 50
_CLIENT = client.Kind(
    service="Kaggle",
    name="kaggle",
    ask_version=("--version",),
    words="Kaggle CLI",
    least=(2, 2, 4),
    install=install_command("kaggle"),
)


def check() -> Sequence[Finding]:
    """Look at the client and the login, and at what is left of the week's hours."""
    try:
        hours = _gpu_hours()
    except CloudrunError as error:
        return [unusable(name, error)]
    return [Finding(name, "pass", f"The client works and knows you. {_in_words(hours)}")]


def offers(need: Need, tell: Tell = nobody) -> Sequence[Offer]:  # noqa: ARG001
    """Two T4, when hours are left.

    Raises:
        NotInstalled: the client is not here, or too old.
        NoCredentials: nobody is logged in.
        Unavailable: no hours are left, or the GPU is there no more.
    """
    if need.gpu is not None and not _has(need.gpu):
        return []
    try:
        hours = _gpu_hours()
    except HostUnreachable as error:
        raise Unavailable(error.what, error.why, error.try_this) from error
    if hours and hours["remaining"] in ("0h", "0.00h"):
        raise Unavailable(
            "Your GPU hours at Kaggle are used up.",
            _in_words(hours),
            "Another free GPU: cloudrun launch --on colab",
        )
    return [
        Offer(
            provider=name,
            device="cuda",
            instance_type=_CALLED,
            gpu=_GPU,
            gpu_count=_GPUS,
            price_note=f"{hours['remaining']} of {hours['total']} left this week" if hours else "",
            longest_s=_LONGEST_S,
        )
    ]


def _has(wanted: GpuRequest) -> bool:
    found = {gpu.name for gpu in find_gpu(wanted.name)}
    if found & {gpu.name for gpu in find_gpu("P100")}:
        raise Unavailable(
            "Kaggle has no P100 any more.",
            "Who asks for one is given two T4.",
            "Write --gpu T4",
        )
    return _GPU in found and wanted.count <= _GPUS


def _gpu_hours() -> dict[str, str]:
    """The row of Kaggle's quota for GPUs; empty where it tells none."""
    answer = _ask("quota", "--format", "json")
    if answer.status != 0:
        raise cannot_ask(answer)
    for row in _rows(answer.out):
        if row.get("resource") == "GPU" and {"remaining", "total"} <= set(row):
            return {key: clean(str(value))[:40] for key, value in row.items()}
    return {}


def _rows(said: str) -> list[dict[str, Any]]:
    """A table that the client printed as JSON, whatever else it printed before."""
    at = said.find("[\n") if not said.startswith("[") else 0
    try:
        rows = json.loads(said[at:]) if at >= 0 else []
    except (ValueError, RecursionError):
        return []
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _in_words(hours: dict[str, str]) -> str:
    if not hours:
        return "It tells no quota."
    again = hours.get("refreshAt", "")[:16].replace("T", " ")
    renewed = f", renewed {again} UTC" if again else ""
    return f"GPU hours left this week: {hours['remaining']} of {hours['total']}{renewed}."


def create(offer: Offer, order: Order) -> Machine:
    """Give Kaggle the whole job, which it queues and runs.

    Raises:
        CannotHave: Kaggle does not take it, or cannot be asked.
        NoCredentials: nobody is logged in.
        WrongUsage: what is to be done cannot be done there.
    """
    refuse_secrets(order, "Kaggle")
    try:
        return _submit(offer, order)
    except HostUnreachable as error:
        raise CannotHave(error.what, error.why, error.try_this, scope="cloud") from error


def _submit(offer: Offer, order: Order) -> Machine:
    made = payload.build(order.need, offer.device, _HOME, order.longest_s)
    ref = f"{_user()}/{_slug(order.run_id)}"
    folder = order.folder / "kaggle"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "script.py").write_text(made.script, "utf-8")
    about = json.dumps(_about(ref, order), indent=1)
    (folder / "kernel-metadata.json").write_text(about, "utf-8")
    limit = str(min(_LONGEST_S, order.longest_s + _LATER_S))
    answer = _ask("kernels", "push", "-p", str(folder), "-t", limit, "--accelerator", _SHAPE)
    if _PUSHED not in answer.out:
        raise _refusal(answer)
    _left_out[order.run_id] = made.left_out
    return Machine(id=ref, offer=offer, deadline=order.deadline)


# What stays at home of a run that this process has begun.
_left_out: dict[str, tuple[LeftOut, ...]] = {}


def _about(ref: str, order: Order) -> dict[str, object]:
    """What kernel-metadata.json says; the title must give the name."""
    return {
        "id": ref,
        "title": f"cloudrun {order.run_id}",
        "code_file": "script.py",
        "language": "python",
        "kernel_type": "script",
        "is_private": True,
        "enable_gpu": True,
        "enable_tpu": False,
        # Our own workloads need none.
        "enable_internet": order.need.command is not None,
        "machine_shape": _SHAPE,
        "dataset_sources": [],
        "competition_sources": [],
        "kernel_sources": [],
        "model_sources": [],
    }


def _refusal(answer: client.Answer) -> CloudrunError:
    found = _REFUSED.search(answer.out)
    if found is None:
        return cannot_ask(answer)
    said = clean(found[1])[:300]
    what, remedy = "Kaggle did not take the job.", "Look at https://www.kaggle.com/settings"
    if "session count" in said:
        what = "Kaggle is running as many of your notebooks with a GPU as it does at once."
        remedy = "Wait for their end, or stop one: https://www.kaggle.com/work/code"
    elif "phone" in said.lower() or "verif" in said.lower():
        what = "Kaggle gives GPUs to people whose phone number it knows."
        remedy = "Give it once: https://www.kaggle.com/settings"
    elif "quota" in said.lower():
        what = "Your GPU hours at Kaggle are used up."
        remedy = "Another free GPU: cloudrun launch --on colab"
    return CannotHave(what, f"It says: {said}", remedy, scope="cloud")


def connect(machine: Machine, person: Person, until: float) -> NotebookHost:  # noqa: ARG001
    """The host of the notebook's session."""
    run_id = machine.id.rpartition("/cloudrun-")[2]
    job = KaggleJob(_program(), machine.id, person.tell)
    left_out = _left_out.pop(run_id, ())
    return NotebookHost(
        job, lambda folder: _fetch(machine.id, folder), person.tell, left_out, keeps_jobs=True
    )


def _fetch(ref: str, folder: Path) -> Path:
    """Download the packed results, which are there when the session is over."""
    _wait_for_end(ref)
    pattern = f"^{re.escape(payload.RESULTS)}$"
    answer = _ask("kernels", "output", ref, "-p", str(folder), "-o", "--file-pattern", pattern)
    packed = folder / payload.RESULTS
    if answer.status != 0 or not packed.exists():
        raise HostUnreachable(
            "The results could not be fetched from Kaggle.",
            f"Its client says: {answer.words}.",
            "Look at the notebook's output: https://www.kaggle.com/work/code",
        )
    return packed


_SAVED_WITHIN_S = 300.0
_LOOK_EVERY_S = 3.0


def _wait_for_end(ref: str) -> None:
    """Wait until the session, whose job is over, has saved its files."""
    until = time.monotonic() + _SAVED_WITHIN_S
    while state_of(_program(), ref).name not in FINAL:
        if time.monotonic() > until:
            raise HostUnreachable(
                "Kaggle has not saved the results yet.",
                f"The job ended {_SAVED_WITHIN_S / 60:.0f} minutes ago.",
            )
        time.sleep(_LOOK_EVERY_S)


def gone(machine: Machine) -> str | None:  # noqa: ARG001
    """The session's state says so by itself."""
    return None


def find(regions: Sequence[str] | None = None) -> Found:  # noqa: ARG001
    """The notebooks of your account that have our runs' names."""
    arguments = ("--mine", "--search", "cloudrun-", "--page-size", str(_MOST_LEFT))
    answer = _ask("kernels", "list", *arguments, "--format", "json")
    if answer.status != 0:
        raise cannot_ask(answer)
    refs = [str(row.get("ref", "")) for row in _rows(answer.out)]
    return Found([_resource(ref, found[1]) for ref in refs if (found := _OURS.fullmatch(ref))])


def _resource(ref: str, run_id: str) -> Resource:
    return Resource(
        provider=name, region="", kind="notebook", id=ref, run=run_id, owner=owner(),
        what="script", state=state_of(_program(), ref).name,
    )  # fmt: skip


def terminate(run_id: str, region: str | None, machine: Machine | None) -> str:  # noqa: ARG001
    """Delete the run's notebook; its session goes with it, at its time limit at the latest.

    Raises:
        HostUnreachable: Kaggle does not say that it is deleted.
    """
    ref = machine.id if machine is not None else f"{_user()}/{_slug(run_id)}"
    patiently(lambda: _delete(ref))
    return now()


def _delete(ref: str) -> None:
    answer = _ask("kernels", "delete", ref, "-y")
    is_deleted = answer.status == 0 and "deleted successfully" in answer.out
    # There was none, or is no more: Kaggle calls that one or the other.
    is_none = any(words in answer.err for words in _NOT_THERE)
    if not (is_deleted or is_none):
        raise cannot_ask(answer)


@functools.cache
def _user() -> str:
    """The name of the account, which the client knows and only tells this way."""
    with tempfile.TemporaryDirectory(prefix="cloudrun-") as folder:
        answer = _ask("kernels", "init", "-p", folder)
        try:
            about = json.loads((Path(folder) / "kernel-metadata.json").read_text("utf-8"))
            user = str(about["id"]).partition("/")[0]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise cannot_ask(answer) from error
    if not re.fullmatch(r"[\w-]{1,100}", user, re.ASCII):
        raise NoCredentials("Kaggle does not tell who you are.", "", "Log in: kaggle auth login")
    return user


def _slug(run_id: str) -> str:
    return f"cloudrun-{run_id}"


def _program() -> str:
    return client.find(_CLIENT)


def _ask(*arguments: str) -> client.Answer:
    # Without its own words about newer versions.
    return client.ask(_program(), ("-W", *arguments))
