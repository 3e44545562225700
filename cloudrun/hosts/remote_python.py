"""A Python on an SSH machine whose torch really uses the device: found there, or made.

One look at the machine; then the torch of each of its Pythons is tried on a
small matrix product, as `torch.cuda.is_available()` says yes to GPUs that no
kernel runs on. What worked is remembered there, so the next run starts at
once. Else an environment is made below ~/.cloudrun/environments, named after
its recipe; the machine's own Pythons are never changed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from importlib import resources
from typing import Any, TypeVar

from msgspec import structs

from cloudrun.catalog.wheels import WheelChoice, install_line, torch_index
from cloudrun.errors import CloudrunError, Refused, Unavailable, WorkloadFailed
from cloudrun.hosts import install_faults, scripts
from cloudrun.hosts.base import Ready
from cloudrun.hosts.connection import Connection
from cloudrun.hosts.dialogue import (
    Beat,
    Built,
    Downloading,
    Failed,
    Gpu,
    Message,
    NoPython,
    Probed,
    Probing,
    Python,
    Refusal,
    Removed,
    Seen,
    Step,
    order,
)
from cloudrun.hosts.local import is_too_old
from cloudrun.model.words import clean
from cloudrun.workloads.symptoms import DOCTOR, explain

_T = TypeVar("_T")
# What an installed torch takes on the disk, with what is unpacked on the way.
CUDA_BYTES = 8 * 10**9
CPU_BYTES = 1_500_000_000
# pip can install into an environment from outside since then.
_PIP_FROM_OUTSIDE = (22, 3)
# Python versions that most packages have wheels for.
_WELL_SERVED = ((3, 10), (3, 14))
# What no other torch cures: the GPU itself is not to be used now.
_BEYOND_TORCH = (
    r"out of memory|ALLOC_FAILED|uncorrectable ECC|Error 802|system not yet initialized|"
    r"CUDA unknown error|GPU is lost|No CUDA GPUs are available|Found no NVIDIA driver"
)
_SIBLING_LINE = re.compile(r"torch(?:vision|audio|text|data|ao|codec|rec|tune)\b", re.IGNORECASE)
_TORCH_LINE = re.compile(
    r"torch\s*(?:\[[^\]]*\]\s*)?(?P<which>[^\w\s.\-\[#;][^;#]*)?(?:[;#].*)?$", re.IGNORECASE
)


@dataclass(frozen=True)
class _Task:
    """What is to be got ready, where, and whom to tell."""

    connection: Connection
    needs_torch: bool
    requirements: str | None
    tell: Callable[[str], None]
    until: float

    @property
    def machine(self) -> str:
        return str(self.connection.hop)


def prepare(
    connection: Connection,
    *,
    need_torch: bool,
    requirements: str | None,
    tell: Callable[[str], None],
    until: float,
) -> Ready:
    """Find a Python on the machine whose torch uses its device, or make one.

    Args:
        connection: To the machine.
        need_torch: The workload needs torch.
        requirements: The text of a requirements.txt, to be installed; may be None.
        tell: Told in a sentence what takes its time.
        until: The moment (`time.monotonic()`) at which it must be over.

    Returns:
        The Python and its torch's version; both empty where nothing is needed
        and nothing was looked for. The version is empty without a torch.

    Raises:
        WorkloadFailed: something is missing on the machine; the error says what to install.
        Unavailable: its GPU cannot be used, or no build of torch fits it.
        BadData: the requirements contradict each other, or name what there is not.
        DeadlineReached: the moment came first; what was going on there was stopped.
        HostUnreachable: the connection was lost.
        Refused: the machine does not answer as our program does.
    """
    requirements = requirements if _lines(requirements) else None
    needs_torch = need_torch or _named_torch(requirements) is not None
    if not needs_torch and requirements is None:
        return Ready("", "")
    task = _Task(connection, needs_torch, requirements, tell, until)
    seen = _look(task)
    if needs_torch:
        _check_gpu(task, seen)
    return _ready(task, seen)


def _look(task: _Task) -> Seen:
    programs = {
        "about_program": scripts.text("about_python.py"),
        "driver_program": _driver_program(),
    }
    answer = _order(task, "", {"action": "look", **programs})
    if isinstance(answer, NoPython):
        raise _no_python(task, answer)
    return _expect(task, answer, Seen)


def _driver_program() -> str:
    """How the workloads look for an NVIDIA driver: the same text does it over there."""
    return resources.files("cloudrun.workloads").joinpath("driver.py").read_text("utf-8")


def _no_python(task: _Task, answer: NoPython) -> WorkloadFailed:
    remedy = "Install one: sudo apt install python3 python3-venv, or: uv python install 3.12"
    if answer.too_old:
        versions = ", ".join(dict.fromkeys(answer.too_old))
        what = f"The Python on {task.machine} is too old: {versions}."
        return WorkloadFailed(what, "The workloads need Python 3.9 or newer.", remedy)
    what = f"There is no Python on {task.machine}."
    return WorkloadFailed(what, "The workloads need Python 3.9 or newer.", remedy)


def _check_gpu(task: _Task, seen: Seen) -> None:
    """Refuse a machine whose GPU is there and dead: it would run for hours on its CPU."""
    if seen.nvidia is not None and not seen.nvidia.gpus:
        meaning, remedy = explain(seen.nvidia.problem or "")
        what = f"{task.machine} has an NVIDIA GPU, and its driver does not work."
        raise Unavailable(what, clean(meaning), clean(remedy))


def _ready(task: _Task, seen: Seen) -> Ready:
    """Take what is proven, else what is found to work, else make it."""
    own = [python for python in seen.pythons if _has_usable_torch(python, seen)]
    works = next((python for python in own if python.proven), None) or _plain(task, seen)
    if works is None:
        # Made before next to a torch that does not work: that need not be tried again.
        remembered = _remembered(task, seen)
        if remembered is not None:
            return remembered
    failed: tuple[Refusal, ...] = ()
    if works is None and own:
        works, failed = _first_that_works(task, seen, own)
    if works is not None and task.requirements is None:
        return Ready(works.path, works.torch or "")
    if works is None and _is_layered(task, seen):
        works = _make_plain(task, seen, failed)
    recipe = _on_top(task, seen, works) if works else _from_nothing(task, seen, failed)
    return _known(recipe, seen, task) or _build(task, seen, recipe)


def _is_layered(task: _Task, seen: Seen) -> bool:
    """Whether torch gets an environment of its own, with the user's requirements on top.

    Then a changed list costs seconds, not gigabytes. uv needs no such help: it
    links what it has downloaded before.
    """
    pinned = _is_pinned(_named_torch(task.requirements))
    return task.needs_torch and task.requirements is not None and not pinned and not seen.uv


def _plain(task: _Task, seen: Seen) -> Python | None:
    """The environment with torch alone that was made before, where it is of use."""
    if not _is_layered(task, seen):
        return None
    ready = _remembered(replace(task, requirements=None), seen)
    found = (python for python in seen.environments if ready and python.path == ready.python)
    return next(found, None)


def _make_plain(task: _Task, seen: Seen, failed: tuple[Refusal, ...]) -> Python:
    alone = replace(task, requirements=None)
    recipe = _from_nothing(alone, seen, failed)
    ready = _build(alone, seen, recipe)
    return structs.replace(recipe.base, path=ready.python, torch=ready.torch, is_venv=True)


def _has_usable_torch(python: Python, seen: Seen) -> bool:
    """Whether it is worth a try. A build without CUDA says so in its version."""
    if python.torch is None or is_too_old(python.torch):
        return False
    return not (_gpu(seen) and python.torch.endswith("+cpu"))


def _first_that_works(
    task: _Task, seen: Seen, pythons: list[Python]
) -> tuple[Python | None, tuple[Refusal, ...]]:
    listed = [{"path": python.path, "torch": python.torch} for python in pythons]
    what = {"action": "probe", "pythons": listed, **_probe_order(seen)}
    answer = _expect(task, _order(task, seen.python, what), Probed)
    works = next((python for python in pythons if python.path == answer.works), None)
    hopeless = [each for each in answer.failed if re.search(_BEYOND_TORCH, each.why)]
    if works is None and hopeless and task.needs_torch and _gpu(seen):
        raise _gpu_unusable(task, hopeless[0].path, hopeless[0].why)
    return works, answer.failed


def _probe_order(seen: Seen) -> dict[str, Any]:
    gpu = _gpu(seen)
    return {
        "probe_program": scripts.text("probe_torch.py"),
        "device": "cuda" if gpu else "auto",
        "driver": gpu.driver if gpu else "",
    }


def _gpu(seen: Seen) -> Gpu | None:
    """The oldest GPU: what runs on it runs on all."""
    gpus = seen.nvidia.gpus if seen.nvidia else ()
    return min(gpus, key=lambda gpu: _numbers(gpu.compute_capability), default=None)


def _gpu_unusable(task: _Task, path: str, why: str) -> Unavailable:
    meaning, remedy = explain(why)
    what = f"torch ({path}) does not compute on the device of {task.machine}."
    said = next((line for line in why.splitlines() if line.strip()), "")[:300]
    if remedy == DOCTOR:
        # The doctor looks at this computer, not at that machine.
        remedy = "Ask for another version of torch in your requirements, or take a newer image."
    why = meaning if meaning == said else f"{meaning} It says: {said}"
    return Unavailable(what, clean(why), remedy or "Take a machine with another driver or GPU.")


# ---- recipes


@dataclass(frozen=True)
class _Recipe:
    """How to make an environment. `base`: the Python it is made with.

    Attributes:
        torch: The installer's arguments for torch; empty: none is installed by itself.
        saying: What installing torch is, for the user.
        indexes: More arguments for the user's requirements.
        on_top: The base's packages, and its torch, are seen through.
        keep_torch: The user's requirements must not change torch.
        needed_bytes: What it takes on the disk, as far as it is known.
    """

    base: Python
    name: str
    torch: tuple[str, ...]
    saying: str
    indexes: tuple[str, ...]
    on_top: bool
    keep_torch: bool
    needed_bytes: int


def _on_top(task: _Task, seen: Seen, base: Python) -> _Recipe:
    """An environment that sees the base's packages, so that its torch is not downloaded again."""
    if not _makes_venvs(base, seen):
        raise _no_venv(task, base)
    keep = not _is_pinned(_named_torch(task.requirements))
    name = _name(seen, base, task.requirements, on_top=f"{base.path} {base.torch}", keep=keep)
    build = re.search(r"\+(cpu|cu\d+|rocm[\d.]+)$", base.torch or "")
    indexes = _for_siblings(task, torch_index(build.group(1)) if build else None)
    return _Recipe(base, name, (), "", indexes, on_top=True, keep_torch=keep, needed_bytes=0)


def _from_nothing(task: _Task, seen: Seen, failed: tuple[Refusal, ...] = ()) -> _Recipe:
    """An environment of its own, with the torch that fits the driver and the GPU."""
    base = _base(task, seen)
    if not task.needs_torch:
        name = _name(seen, base, task.requirements)
        return _Recipe(base, name, (), "", (), on_top=False, keep_torch=False, needed_bytes=0)
    choice = _choice(seen, base)
    named = _named_torch(task.requirements)
    if choice.torch is None:
        reasons = "".join(f" {each.path}: {explain(each.why)[0]}" for each in failed[:3])
        what = f"No build of torch fits {task.machine}."
        raise Unavailable(what, clean(choice.why + reasons), "Take a machine that it fits.")
    index = ("--index-url", choice.index_url) if choice.index_url else ()
    torch: tuple[str, ...] = (choice.torch, *index)
    if _is_pinned(named):
        # The user's own version counts. Which index has it is known of PyPI and of the CPU's.
        torch = (f"torch{named}", *index) if choice.torch == "torch" else (f"torch{named}",)
    needed = CPU_BYTES if (choice.index_url or "").endswith("/cpu") else CUDA_BYTES
    extra = _for_siblings(task, choice.index_url if len(torch) > 1 else None)
    name = _name(seen, base, task.requirements, torch=torch)
    saying = f"{_saying(torch)} ... {choice.why}"
    return _Recipe(base, name, torch, saying, extra, False, True, needed)


def _for_siblings(task: _Task, index: str | None) -> tuple[str, ...]:
    """torchvision and its likes must come from the same index as torch; all else need not."""
    named = any(_SIBLING_LINE.match(line) for line in _lines(task.requirements))
    return ("--extra-index-url", index) if index and named else ()


def _choice(seen: Seen, base: Python) -> WheelChoice:
    gpu = _gpu(seen)
    return install_line(
        seen.system,
        seen.machine,
        base.version[:2],
        gpu.driver if gpu else None,
        (gpu.compute_capability or None) if gpu else None,
    )


def _base(task: _Task, seen: Seen) -> Python:
    """The Python to make an environment with: one that can, and that packages are made for."""
    able = [python for python in seen.pythons if seen.uv or _makes_venvs(python, seen)]
    oldest, newest = _WELL_SERVED
    served = [python for python in able if oldest <= python.version[:2] <= newest]
    if not able:
        raise _no_venv(task, seen.pythons[0] if seen.pythons else None)
    return (served or able)[0]


def _makes_venvs(python: Python, seen: Seen) -> bool:
    return python.venv and (python.ensurepip or _pip_from_outside(python, seen) is not None)


def _pip_from_outside(python: Python, seen: Seen) -> str | None:
    """The Python whose pip installs into environments that get none of their own.

    None where they get one: it is the better fit.
    """
    if python.ensurepip:
        return None
    able = (each for each in seen.pythons if _numbers(each.pip or "")[:2] >= _PIP_FROM_OUTSIDE)
    return next((each.path for each in able), None)


def _no_venv(task: _Task, python: Python | None) -> WorkloadFailed:
    which = f"{python.path} (Python {_dotted(python)})" if python else "No Python"
    return WorkloadFailed(
        f"No virtual environment can be made on {task.machine}.",
        f"{which} has no 'venv' that works: Debian and Ubuntu keep it in a package of its own.",
        "Install it on the machine: sudo apt install python3-venv",
    )


def _name(seen: Seen, base: Python, requirements: str | None, **more: object) -> str:
    """The recipe's name: equal recipes make equal environments."""
    ingredients = {
        "system": seen.system,
        "machine": seen.machine,
        "python": base.version,
        "base": base.path,
        "requirements": requirements,
        **more,
    }
    return hashlib.sha256(json.dumps(ingredients, sort_keys=True).encode()).hexdigest()[:16]


def _saying(torch: Iterable[str]) -> str:
    """What installing torch is: "torch 2.14 with CUDA 12.6 (a download of about 3 GB)"."""
    which, *rest = torch
    index = rest[-1].rpartition("/")[2] if rest else ""
    version = " ".join(["torch", re.sub(r"^torch(==)?|\.\*$", "", which)]).strip()
    if index == "cpu":
        return f"{version} without CUDA (a download of about 200 MB)"
    cuda = f" {index[2:-1]}.{index[-1]}" if index else ""
    return f"{version} with CUDA{cuda} (a download of about 3 GB, which takes some minutes, once)"


# ---- environments


def _remembered(task: _Task, seen: Seen) -> Ready | None:
    """An environment made before from nothing; None when there is none, or none can be made."""
    try:
        recipe = _from_nothing(task, seen)
    except CloudrunError:
        return None
    return _known(recipe, seen, task)


def _known(recipe: _Recipe, seen: Seen, task: _Task) -> Ready | None:
    """The recipe's environment, when it is there and its torch is proven."""
    path = _environment(recipe, seen)
    for python in seen.environments:
        has_what_it_needs = python.proven if python.torch else not task.needs_torch
        if python.path == path and has_what_it_needs:
            return Ready(python.path, python.torch or "")
    return None


def _environment(recipe: _Recipe, seen: Seen) -> str:
    return f"{seen.folder}/{recipe.name}/bin/python"


def _build(task: _Task, seen: Seen, recipe: _Recipe) -> Ready:
    """Make the environment on the machine."""
    if seen.free_bytes < recipe.needed_bytes:
        raise WorkloadFailed(
            f"The disk of {task.machine} is too full to install torch.",
            f"It needs about {recipe.needed_bytes / 1e9:.1f} GB below {seen.folder}, and "
            f"{seen.free_bytes / 1e9:.1f} GB are free.",
            "Free some space there ('pip cache purge' may help), or take a larger disk.",
        )
    what = {
        "action": "build",
        "recipe": recipe.name,
        "python": recipe.base.path,
        "about_program": scripts.text("about_python.py"),
        # uv does not see the packages below an environment, and would download them again.
        "uv": None if recipe.on_top else seen.uv,
        "pip_from_outside": _pip_from_outside(recipe.base, seen),
        "system_site": recipe.on_top and not recipe.base.is_venv,
        "see_through": recipe.on_top and recipe.base.is_venv,
        "torch": recipe.torch,
        "requirements": task.requirements,
        "keep_torch": recipe.keep_torch,
        "indexes": _indexes(recipe, seen),
        "needs_torch": task.needs_torch,
        **_probe_order(seen),
    }
    answer = _order(task, seen.python, what, recipe)
    if isinstance(answer, Failed):
        raise _failure(task, recipe, answer)
    built = _expect(task, answer, Built)
    return Ready(built.path, built.torch or "")


def _indexes(recipe: _Recipe, seen: Seen) -> tuple[str, ...]:
    """uv by itself takes a package from the first index that has any of its versions."""
    uses_uv = seen.uv and not recipe.on_top
    uv = ("--index-strategy", "unsafe-best-match") if uses_uv and recipe.indexes else ()
    return (*recipe.indexes, *uv)


def _failure(task: _Task, recipe: _Recipe, failed: Failed) -> CloudrunError:
    """Say why the environment could not be made."""
    python = f"Python {_dotted(recipe.base)}"
    place = install_faults.Place(task.machine, python, failed.log)
    if failed.step == "check":
        return _installed_in_vain(task, failed)
    if failed.step == "venv" and re.search("ensurepip is not available", failed.tail):
        return _no_venv(task, recipe.base)
    output = failed.tail if failed.step in ("torch", "requirements", "venv") else failed.why
    return install_faults.explain(output, place, of_user=failed.step == "requirements")


def _installed_in_vain(task: _Task, failed: Failed) -> Unavailable:
    error = _gpu_unusable(task, "the one just installed", failed.why)
    if not task.needs_torch:
        remedy = "Name torch in your requirements: then the build that fits the GPU is installed."
        return Unavailable(error.what, error.why, remedy)
    return Unavailable(error.what, f"{error.why} The log is there: {failed.log}", error.try_this)


# ---- the dialogue


def _order(
    task: _Task, python: str, what: dict[str, Any], recipe: _Recipe | None = None
) -> Message | None:
    """Give an order, tell what is told, and return the answer: the last message."""
    answer: Message | None = None
    for message in order(task.connection, python, what, task.until):
        sentence = _sentence(message, recipe)
        if sentence:
            task.tell(clean(sentence))
        # A sign of life may come after the last word.
        answer = answer if isinstance(message, Beat) else message
    return answer


def _sentence(message: Message, recipe: _Recipe | None) -> str:
    if isinstance(message, Probing):
        return (
            f"Trying torch {message.torch} of {message.path} on the device; "
            "its first load can take a minute ..."
        )
    if isinstance(message, Removed):
        old = "1 environment" if message.count == 1 else f"{message.count} environments"
        return f"Removed {old} that cloudrun had made there and nothing had used for 30 days."
    if isinstance(message, Downloading):
        return f"Downloading {message.file} ({message.size}) ..."
    if isinstance(message, Step) and recipe is not None:
        on = f"on top of {recipe.base.path}, whose torch is used" if recipe.on_top else ""
        made = on or f"with {recipe.base.path}"
        return {
            "wait": "Another run is making the same environment; waiting for it ...",
            "venv": f"Making a Python environment {made} ...",
            "torch": f"Installing {recipe.saying}",
            "requirements": "Installing your requirements ...",
            "unpack": "Unpacking what was downloaded ...",
        }.get(message.step, "")
    return ""


def _expect(task: _Task, answer: Message | None, kind: type[_T]) -> _T:
    if isinstance(answer, kind):
        return answer
    raise Refused(
        f"{task.machine} does not answer as cloudrun's own program does.",
        f"It said {type(answer).__name__} where {kind.__name__} was due."
        if answer
        else "It said nothing that could be understood.",
        f"Look at what it says by itself: ssh {task.connection.hop.user}@"
        f"{task.connection.hop.host} true",
    )


# ---- requirements


def _lines(requirements: str | None) -> list[str]:
    """The lines that ask for something."""
    lines = (line.strip() for line in (requirements or "").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _named_torch(requirements: str | None) -> str | None:
    """Which torch the requirements name: "==2.9.0", or "" for any; None when they name none."""
    for line in _lines(requirements):
        found = _TORCH_LINE.match(line)
        if found:
            return (found.group("which") or "").replace(" ", "")
    return None


def _is_pinned(which: str | None) -> bool:
    """Whether a version is named that another would not do for; `>=` is none."""
    return bool(which) and bool(re.search(r"==|<|~=|@", which or ""))


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))


def _dotted(python: Python) -> str:
    return ".".join(str(number) for number in python.version)
