"""What reports can be told apart by: the fields of `report compare --by`."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from cloudrun.reports.schema import Environment, Gpu, Report


class Field(NamedTuple):
    """How to read a field, as a text; `across`: groups by it are to be of other devices.

    By a field that says nothing of the device (torch, provider), only reports of the
    same device are compared: else the one would be taken for the other.
    """

    tell: Callable[[Report], str]
    across: bool = False


def device_of(report: Report) -> str:
    """The GPU's name; on a machine without one the processor's."""
    environment = report.environment
    if environment is None:
        return "unknown"
    return (environment.gpus[0].name if environment.gpus else environment.cpu) or "unknown"


def _environment(read: Callable[[Environment], object]) -> Callable[[Report], str]:
    return lambda report: _text(read(report.environment) if report.environment else None)


def _gpu(read: Callable[[Gpu], object]) -> Callable[[Report], str]:
    return _environment(lambda found: read(found.gpus[0]) if found.gpus else None)


def _text(value: object) -> str:
    return "none" if value is None or value == "" else str(value)


FIELDS: dict[str, Field] = {
    "report": Field(lambda report: report.id, across=True),
    "gpu": Field(device_of, across=True),
    "instance_type": Field(lambda report: _text(report.machine.instance_type), across=True),
    "cpu": Field(_environment(lambda found: found.cpu), across=True),
    "provider": Field(lambda report: report.machine.provider),
    "region": Field(lambda report: _text(report.machine.region)),
    "zone": Field(lambda report: _text(report.machine.zone)),
    "market": Field(lambda report: "spot" if report.machine.spot else "on demand"),
    "profile": Field(lambda report: _text(report.run.profile)),
    "torch": Field(_environment(lambda found: found.torch)),
    "cuda": Field(_environment(lambda found: found.cuda)),
    "cudnn": Field(_environment(lambda found: found.cudnn)),
    "driver": Field(_environment(lambda found: found.driver)),
    "vbios": Field(_gpu(lambda gpu: gpu.vbios)),
    "python": Field(_environment(lambda found: found.python)),
    "os": Field(_environment(lambda found: found.os)),
    "threads": Field(_environment(lambda found: found.threads)),
    "cloudrun": Field(lambda report: report.provenance.cloudrun),
}
