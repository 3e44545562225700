"""The settings as defaults of options, each checked as the option itself would be.

`cloudrun.settings` knows what a duration and a price are. What a target, a GPU
or a store can be is known further up, so it is checked here.
"""

from __future__ import annotations

from cloudrun import settings
from cloudrun.model.need import SSH, GpuRequest, parse_gpu, parse_targets

# Providers that have another way to be named: ssh://..., --rehearse.
_NO_TARGETS = ("ssh", "rehearsal")


def read() -> list[settings.Setting]:
    """Read the settings files that are there.

    Raises:
        BadSettings: a file cannot be read, or has a key or a value that is wrong.
    """
    found = settings.read()
    for setting in found:
        check(setting)
    return found


def check(setting: settings.Setting) -> None:
    """Check what `cloudrun.settings` cannot.

    Raises:
        BadSettings: with the file, and the nearest right value.
    """
    rules = {"store": store, "on": targets, "gpu": gpu}
    table, _, name = setting.key.rpartition(".")
    if table != "hosts" and name in rules:
        settings.check_value(setting, rules[name])


def targets(text: str) -> tuple[str, ...]:
    """Read `TARGET[,TARGET...]`, each one that this version or the settings have."""
    from cloudrun.providers.base import OURS, clouds, names

    hosts = settings.hosts()
    ours = ("auto", "free", *(name for name in OURS if name not in _NO_TARGETS), *hosts)
    if all(target.strip() in ours for target in text.split(",") if SSH not in target):
        known, rent = ours, tuple[str, ...]()
    else:
        known, rent = ("auto", "free", *names(), *hosts), clouds()
    known = tuple(name for name in known if name not in _NO_TARGETS)
    targets = parse_targets(text, known, rent)
    return tuple(_checked(hosts.get(target, target)) for target in targets)


def _checked(target: str) -> str:
    if target.startswith(SSH):
        from cloudrun.hosts.route import split_target

        split_target(target)
    return target


def gpu(text: str) -> GpuRequest | None:
    """Read `NAME[:COUNT]`, the name being one of the catalogue's; None is any device."""
    from cloudrun.catalog.gpus import find

    if text.strip().lower() == "any":
        return None

    request = parse_gpu(text)
    find(request.name)
    return request


def address_range(text: str) -> str:
    """Read a range of addresses that may reach a machine."""
    from cloudrun.model.addresses import checked_range

    return checked_range(text)


def store(text: str) -> None:
    """Refuse what cannot be a store."""
    from cloudrun.reports.store import open_store

    open_store(text)
