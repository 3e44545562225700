"""Settings: the project's `cloudrun.toml` over the user's `config.toml`; where files live.

    store = "~/reports"          # for every command

    [launch]                     # defaults of `cloudrun launch`, by the options' names
    profile = "standard"
    ttl = "45m"

    [run]                        # the same for `cloudrun run`
    on = "lab"

    [report]
    names = true                 # keep names, addresses and paths in reports

    [hosts]                      # names for machines of your own, for --on
    lab = "ssh://me@lab.example.org"

The environment goes over both, and the command line over all; Click does that.
"""

from __future__ import annotations

import math
import os
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloudrun.errors import BadSettings, WrongUsage
from cloudrun.model.need import PROFILES, SSH, WORKLOADS, parse_gpu
from cloudrun.model.words import did_you_mean, parse_duration

PROJECT_FILE = "cloudrun.toml"
USER_FILE = "config.toml"
_MOST_SHOWN = 60


@dataclass(frozen=True)
class Places:
    """Where cloudrun keeps things: settings, state (the journal), data (reports), a cache."""

    settings: Path
    state: Path
    data: Path
    cache: Path

    @property
    def store(self) -> Path:
        """The store where no other is named."""
        return self.data / "reports"

    @property
    def user_file(self) -> Path:
        """The user's settings file."""
        return self.settings / USER_FILE


@dataclass(frozen=True)
class Setting:
    """One setting: its dotted key, its value, and the file that it comes from."""

    key: str
    value: Any
    source: Path


def places() -> Places:
    """The folders, as the platform has them, or all below `CLOUDRUN_HOME`."""
    home = os.environ.get("CLOUDRUN_HOME")
    if home:
        root = Path(home).expanduser().absolute()
        return Places(root, root / "state", root / "data", root / "cache")
    import platformdirs

    folders = platformdirs.PlatformDirs("cloudrun", appauthor=False, roaming=False)
    return Places(
        Path(folders.user_config_dir),
        Path(folders.user_state_dir),
        Path(folders.user_data_dir),
        Path(folders.user_cache_dir),
    )


def read() -> list[Setting]:
    """Read the settings files that are there; a project's key hides the user's.

    Raises:
        BadSettings: a file cannot be read, or has a key or a value that is wrong.
    """
    merged: dict[str, Setting] = {}
    for path in (places().user_file, project_file()):
        if path is not None and path.exists():
            merged.update({setting.key: setting for setting in read_file(path)})
    return list(merged.values())


def hosts() -> dict[str, str]:
    """The machines that the settings name: `ssh://...` by name."""
    return {
        setting.key.removeprefix("hosts."): setting.value
        for setting in read()
        if setting.key.startswith("hosts.")
    }


def project_file() -> Path | None:
    """The `cloudrun.toml` of this folder, or of the nearest folder above that has one."""
    try:
        here = Path.cwd()
    except FileNotFoundError:
        return None
    return next(
        (folder / PROJECT_FILE for folder in (here, *here.parents) if _is_project(folder)), None
    )


def _is_project(folder: Path) -> bool:
    return (folder / PROJECT_FILE).is_file()


def read_file(path: Path) -> list[Setting]:
    """Read and check one settings file.

    Raises:
        BadSettings: as `read` does.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise BadSettings(f"The settings file {path} cannot be read.", f"{error}.") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise BadSettings(
            f"The settings file {path} is not valid TOML.",
            f"{error}.",
            'A line looks like: profile = "standard"',
        ) from error
    check(table, path)
    return [Setting(key, value, path) for key, value in _flat(table)]


def known_keys() -> list[str]:
    """All keys that can be set, dotted."""
    return list(_RULES)


def check(table: dict[str, Any], path: Path) -> None:
    """Check a settings table: its keys, the types of its values, and what they say.

    Raises:
        BadSettings: with the nearest right key or value.
    """
    for name, example in _TABLES.items():
        if not isinstance(table.get(name, {}), dict):
            raise BadSettings(
                f"The setting '{name}' in {path} is not a table.",
                "A table is written with one pair of brackets, and its settings stand below it.",
                f"Write [{name}] on a line of its own, and below it, for example: {example}",
            )
    for key, value in _flat(table):
        rule = rule_of(key)
        if rule is None:
            raise BadSettings(
                f"There is no setting '{key}' (in {path}).", "", did_you_mean(key, known_keys())
            )
        check_value(Setting(key, value, path), rule)


def _reserved(name: str) -> bool:
    return name in ("auto", "local", "free", "ssh", "aws", "gcp", "azure", "colab", "kaggle")


def rule_of(key: str) -> Callable[[Any], object] | None:
    """What a key's value must be, a function that raises WrongUsage; None for an unknown key."""
    table, _, name = key.partition(".")
    if table == "hosts" and name:
        return _no_host if _reserved(name) else _host
    return _RULES.get(key)


def check_value(setting: Setting, rule: Callable[[Any], object]) -> None:
    """Check one value by a rule, a function that raises WrongUsage.

    Raises:
        BadSettings: the rule's own words, and in which file the value stands.
    """
    try:
        rule(setting.value)
    except WrongUsage as error:
        import json  # after a mistake only

        shown = json.dumps(setting.value, ensure_ascii=False, default=str)
        shown = shown if len(shown) <= _MOST_SHOWN else f"{shown[:_MOST_SHOWN]}..."
        raise BadSettings(
            f"The setting {setting.key} = {shown} in {setting.source} cannot be used.",
            f"{error.what} {error.why}".strip(),
            error.try_this,
        ) from error


def _text(example: str) -> Callable[[Any], None]:
    def rule(value: Any) -> None:
        if not isinstance(value, str) or not value.strip():
            raise WrongUsage("It must be a text in quotes.", "", f"Write it like {example}")

    return rule


def _one_of(known: Sequence[str]) -> Callable[[Any], None]:
    def rule(value: Any) -> None:
        if value not in known:
            raise WrongUsage("There is no such choice.", "", did_you_mean(str(value), known))

    return rule


def _gpu(value: Any) -> None:
    _text('gpu = "T4"')(value)
    parse_gpu(value)


def _no_host(_value: Any) -> None:
    raise WrongUsage("This name means something else to --on.", "", "Choose another name.")


def _host(value: Any) -> None:
    if not isinstance(value, str) or not value.startswith(SSH) or value == SSH:
        raise WrongUsage(
            "It must be the address of a machine.", "", 'Write it like "ssh://me@lab.example.org"'
        )


def _duration(value: Any) -> None:
    # A bare number is read too, so that the error can guess what was meant.
    if isinstance(value, bool) or not isinstance(value, str | int):
        _text('ttl = "45m"')(value)
    parse_duration(str(value))


def _money(value: Any) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 <= value < math.inf:
        raise WrongUsage(
            "It must be an amount of money in US dollars: a number, without quotes.",
            "",
            "Write it like 0.75",
        )


def _yes_or_no(value: Any) -> None:
    if not isinstance(value, bool):
        raise WrongUsage("It must be true or false, without quotes.", "", "Write: true")


def _whole_number(value: Any) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise WrongUsage("It must be a whole number, without quotes.", "", "Write it like 100")


# What a value must be, as far as that can be told here; what a target, a GPU or a
# store can be is known further up (cloudrun.cli.defaults).
_RULES: dict[str, Callable[[Any], object]] = {
    "store": _text('store = "~/reports"'),
    "report.names": _yes_or_no,
    "launch.on": _text('on = "local"'),
    "launch.gpu": _gpu,
    "launch.workload": _one_of(WORKLOADS),
    "launch.profile": _one_of(PROFILES),
    "launch.ttl": _duration,
    "launch.max_price": _money,
    "launch.max_cost": _money,
    "launch.spot": _yes_or_no,
    "launch.disk": _whole_number,
    "launch.private_ip": _yes_or_no,
    "launch.ssh_from": _text('ssh_from = "203.0.113.7/32"'),
    "run.on": _text('on = "lab"'),
    "run.gpu": _gpu,
    "run.ttl": _duration,
    "run.max_price": _money,
    "run.max_cost": _money,
    "run.spot": _yes_or_no,
    "run.disk": _whole_number,
    "run.private_ip": _yes_or_no,
    "run.ssh_from": _text('ssh_from = "203.0.113.7/32"'),
    "run.results": _text('results = "results"'),
}
_TABLES = {
    "report": "names = true",
    "launch": 'profile = "standard"',
    "run": 'ttl = "4h"',
    "hosts": 'lab = "ssh://me@lab.example.org"',
}


def _flat(table: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for key, value in table.items():
        name = f"{prefix}{key}"
        # An unknown table counts as one wrong key; only our own are looked into.
        rows += (
            _flat(value, f"{name}.")
            if name in _TABLES and isinstance(value, dict)
            else [(name, value)]
        )
    return rows
