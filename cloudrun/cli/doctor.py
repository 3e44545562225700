"""`cloudrun doctor`: what this machine has, what is missing, and the remedy."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import click

from cloudrun import settings
from cloudrun.cli import defaults, output
from cloudrun.errors import CloudrunError
from cloudrun.hosts.local import torch_line
from cloudrun.model.need import SSH, provider_of
from cloudrun.providers import base as providers
from cloudrun.providers.base import Finding
from cloudrun.workloads.driver import nvidia, torch_version

_COLOURS = {"pass": ("ok", "green"), "skip": ("-", "yellow"), "fail": ("FAIL", "red")}
# Loading torch takes seconds; a broken driver can make it hang.
_TORCH_LIMIT_S = 120
_TRY_TORCH = """
import torch
usable = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
kind = next((name for name in usable if usable[name]), "cpu")
total = (torch.ones(1000, device=kind) * 2).sum().item()
assert total == 2000, total
print(kind)
"""


@click.command("doctor", cls=output.Command)
@click.option("--on", metavar="TARGET",
              help="Only this: aws, ssh://[USER@]HOST[:PORT], a name of the settings.")  # fmt: skip
@output.json_option
def command(on: str | None, json: bool) -> int:
    """Look at this machine, your accounts, and the machines that your settings name.

    This machine: Python, driver, torch, settings, room for reports. A machine
    over SSH: whether it can be reached, its key is known and yours opens it,
    and what Python and GPU it has; nothing is asked.
    The exit status is 1 when something does not work.
    """
    findings = list(_all() if on is None else _on(on))
    if json:
        output.print_json([_as_row(finding) for finding in findings])
    else:
        for finding in findings:
            _show(finding)
    return int(any(finding.status == "fail" for finding in findings))


def _all() -> Iterator[Finding]:
    yield _python()
    for name in providers.names():
        yield from providers.load(name).check()
    yield _device()
    yield _settings()
    yield _store()


def _on(text: str) -> Iterator[Finding]:
    """Look at the targets alone."""
    names = {target: name for name, target in settings.hosts().items()}
    targets = defaults.targets(text)
    over_ssh = {names.get(each, each.removeprefix(SSH)): each for each in targets if SSH in each}
    if over_ssh:
        from cloudrun.providers.ssh import look_at

        yield from look_at(over_ssh)
    for name in dict.fromkeys(provider_of(each) for each in targets if SSH not in each):
        yield from providers.load(name).check()


def _python() -> Finding:
    version = platform.python_version()
    return Finding(
        "python", "pass", f"Python {version} at {sys.executable}, {platform.platform()}."
    )


def _device() -> Finding:
    """Compute something with torch, in a process of its own: a driver may crash or hang."""
    if not _has_torch():
        return Finding("device", "skip", "Without torch there is nothing to try.")
    try:
        answer = subprocess.run(  # noqa: S603 - our own program
            [sys.executable, "-c", _TRY_TORCH],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_TORCH_LIMIT_S,
        )
    except subprocess.TimeoutExpired:
        return Finding(
            "device",
            "fail",
            f"torch did not compute 1000 numbers within {_TORCH_LIMIT_S} s.",
            "Restart the machine; if that does not help, install the GPU's driver again.",
        )
    if answer.returncode != 0:
        from cloudrun.workloads.symptoms import DOCTOR, explain

        meaning, remedy = explain((answer.stderr.strip().splitlines() or ["no message"])[-1])
        remedy = "" if remedy == DOCTOR else remedy
        return Finding("device", "fail", meaning, remedy or "Use the install line above.")
    device = answer.stdout.strip()
    seen = nvidia()
    if device == "cpu" and seen and seen.gpus:
        return Finding(
            "device",
            "fail",
            f"torch computes on the CPU, although there is a {seen.gpus[0].name}.",
            torch_line(seen, again=True),
        )
    return Finding("device", "pass", f"torch computes on {device.upper()}.")


def _has_torch() -> bool:
    return torch_version() is not None


def _settings() -> Finding:
    try:
        found = defaults.read()
    except CloudrunError as error:
        return Finding("settings", "fail", f"{error.what} {error.why}".strip(), error.try_this)
    return Finding("settings", "pass", f"{len(found)} set. See: cloudrun config")


def _store() -> Finding:
    from cloudrun.reports.store import open_store

    where = next((s.value for s in _read_settings() if s.key == "store"), None)
    try:
        store = open_store(where or str(settings.places().store))
        store.check_writable()
    except CloudrunError as error:
        return Finding("store", "fail", f"{error.what} {error.why}".strip(), error.try_this)
    return Finding("store", "pass", f"Reports are kept in {store.url}.")


def _read_settings() -> list[settings.Setting]:
    try:
        return defaults.read()
    except CloudrunError:
        # It is a finding of its own already.
        return []


def _as_row(finding: Finding) -> dict[str, Any]:
    return {
        "name": finding.name,
        "status": finding.status,
        "detail": finding.detail,
        "remedy": finding.remedy,
    }


def _show(finding: Finding) -> None:
    word, colour = _COLOURS[finding.status]
    text = output.hanging(f"{word:<4}  {finding.name:<9} ", finding.detail)
    click.echo(click.style(word, fg=colour) + text[len(word) :])
    if finding.remedy:
        click.echo(output.hanging(f"{'':<16}Try: ", finding.remedy))
