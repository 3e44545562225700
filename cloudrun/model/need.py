"""A need: what the user asked for."""

from __future__ import annotations

import shlex
from pathlib import PurePath
from typing import Literal, get_args

import msgspec

from cloudrun.errors import WrongUsage
from cloudrun.model.words import did_you_mean

Workload = Literal["smoke", "bench", "all"]
Profile = Literal["quick", "standard", "full"]
# What goes wrong in a rehearsal.
Rehearsal = Literal["plain", "stockout", "quota", "spot-interruption", "slow-boot", "lost-reply"]
WORKLOADS: tuple[str, ...] = get_args(Workload)
PROFILES: tuple[str, ...] = get_args(Profile)

LAUNCH_TTL_S = 30 * 60
RUN_TTL_S = 2 * 60 * 60
SSH = "ssh://"
# Services that lend a machine for nothing: they take a job and give its output back.
NOTEBOOKS = ("kaggle", "colab")
# What `free` stands for: the first of them that can be used.
FREE = (*NOTEBOOKS, "local")


class GpuRequest(msgspec.Struct, frozen=True):
    """A GPU model as people say it, and how many: `A100-80GB:8`."""

    name: str
    count: int = 1

    def __str__(self) -> str:
        return self.name if self.count == 1 else f"{self.name}:{self.count}"


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """The user's own command, which `cloudrun run` runs, and what goes with it.

    `folder` is the project's, an absolute path here; `results` a folder in it.
    `requirements` is the text of the packages that it needs, if it says so, and
    `requirements_named` whether the user named that list: then it is installed on
    this machine too. `torch` is whether it needs torch, `data` are folders here
    that are pushed once. With `store_results`, the log and the results are stored
    beside the report.
    """

    argv: tuple[str, ...]
    folder: str
    results: str = "results"
    requirements: str | None = None
    requirements_named: bool = False
    torch: bool = False
    data: tuple[str, ...] = ()
    store_results: bool = False

    def data_name(self, folder: str) -> str:
        """How the command finds a data folder: by its place in the project, or its own name."""
        path = PurePath(folder)
        if path.is_relative_to(self.folder):
            return path.relative_to(self.folder).as_posix()
        return path.name


class Need(msgspec.Struct, frozen=True, kw_only=True):
    """What the user asked for, before any look at what can be had.

    `targets` are tried in order. `ttl_s` is in seconds, `max_cost_usd` in US
    dollars for the whole run. `gpu` None means any device at all. With a
    `command`, the workloads are not run. `keep` leaves the machine as it is
    until its deadline, `keep_failed_s` for so long (seconds) when the run failed.

    Of machines that are rented: `spot` takes what others have left, cheaper and
    taken back at any time; `instance_type` and `image` are the cloud's own names,
    `disk_gb` in gigabytes; `private_ip` reaches the machine by its private
    address; `ssh_from` is who may reach it, as a range of addresses (CIDR).
    """

    targets: tuple[str, ...] = ("auto",)
    gpu: GpuRequest | None = None
    workload: Workload = "all"
    profile: Profile = "quick"
    ttl_s: int = LAUNCH_TTL_S
    max_price_usd: float | None = None
    max_cost_usd: float | None = None
    command: Command | None = None
    keep: bool = False
    keep_failed_s: int = 0
    spot: bool = False
    instance_type: str | None = None
    image: str | None = None
    disk_gb: int | None = None
    private_ip: bool = False
    ssh_from: str | None = None

    @property
    def workloads(self) -> tuple[str, ...]:
        """The workloads to run, in order."""
        if self.command is not None:
            return ()
        return ("smoke", "bench") if self.workload == "all" else (self.workload,)

    def in_words(self) -> str:
        """What is to be done: `smoke and bench, profile quick`, or the command itself."""
        if self.command is not None:
            return _shortened(shlex.join(self.command.argv))
        return f"{' and '.join(self.workloads)}, profile {self.profile}"


def _shortened(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:197]}..."


def parse_gpu(text: str) -> GpuRequest:
    """Read `NAME[:COUNT]`.

    Raises:
        WrongUsage: there is no name, or the count is not a whole number from 1 to 16.
    """
    name, colon, count = text.strip().partition(":")
    if name and (not colon or (count.isascii() and count.isdigit() and 1 <= int(count) <= 16)):
        return GpuRequest(name, int(count) if colon else 1)
    raise WrongUsage(
        f"'{text}' does not name a GPU.",
        "A GPU is a model name, and after a colon how many of it, from 1 to 16.",
        "Write it like T4 or A100-80GB:8.",
    )


def parse_targets(
    text: str, known: tuple[str, ...], clouds: tuple[str, ...] = ()
) -> tuple[str, ...]:
    """Read `TARGET[,TARGET...]` against the targets that this version knows, and `ssh://...`.

    A place may follow the name of one of the `clouds`: `aws/us-east-1`, `aws/us-east-1/us-east-1a`.
    `free` stands for several.

    Raises:
        WrongUsage: a target is unknown, or none is given.
    """
    targets = tuple(part.strip() for part in text.split(",") if part.strip())
    for target in targets:
        cloud, *place = target.split("/")
        has_place = cloud in clouds and len(place) <= 2 and all(place)
        if target not in known and not target.startswith(SSH) and not has_place:
            raise WrongUsage(
                f"There is no target '{target}' in this version of cloudrun.",
                "",
                did_you_mean(target, (*known, f"{SSH}[USER@]HOST[:PORT]"))
                + f" For a machine of that name: {SSH}{target}",
            )
    if not targets:
        raise WrongUsage("No target is given.", "", "Write one, such as local.")
    return tuple(each for target in targets for each in (FREE if target == "free" else (target,)))


def provider_of(target: str) -> str:
    """The provider that a target belongs to: `ssh://me@box` to `ssh`, `auto` to `local`."""
    if target.startswith(SSH):
        return "ssh"
    return "local" if target == "auto" else target.partition("/")[0]
