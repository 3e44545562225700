"""Settings: the project's `cloudrun.toml` over the user's `config.toml`; where files live.

    store = "~/reports"          # for every command

    [launch]                     # defaults of `cloudrun launch`, by the options' names
    profile = "standard"
    ttl = "45m"

The environment goes over both, and the command line over all; Click does that.
"""

from __future__ import annotations

import math
import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from cloudrun.errors import BadSettings, WrongUsage
from cloudrun.model.need import PROFILES, WORKLOADS, Profile, Workload, parse_gpu
from cloudrun.model.words import did_you_mean, parse_duration

PROJECT_FILE = "cloudrun.toml"
USER_FILE = "config.toml"


class LaunchSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Defaults of `cloudrun launch`; each is an option of that name."""

    on: str | None = None
    gpu: str | None = None
    workload: Workload | None = None
    profile: Profile | None = None
    ttl: str | None = None
    max_price: float | None = None
    max_cost: float | None = None


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that can be set in a settings file."""

    store: str | None = None
    launch: LaunchSettings = LaunchSettings()


@dataclass(frozen=True)
class Places:
    """Where cloudrun keeps things: settings, state (the journal), data (reports)."""

    settings: Path
    state: Path
    data: Path

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
        return Places(root, root / "state", root / "data")
    import platformdirs

    folders = platformdirs.PlatformDirs("cloudrun", appauthor=False, roaming=False)
    return Places(
        Path(folders.user_config_dir), Path(folders.user_state_dir), Path(folders.user_data_dir)
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
    launch = [f"launch.{field}" for field in LaunchSettings.__struct_fields__]
    return [field for field in Settings.__struct_fields__ if field != "launch"] + launch


def check(table: dict[str, Any], path: Path) -> None:
    """Check a settings table: its keys, the types of its values, and what they say.

    Raises:
        BadSettings: with the nearest right key or value.
    """
    flat = dict(_flat(table))
    for key in flat:
        if key not in known_keys():
            raise BadSettings(
                f"There is no setting '{key}' (in {path}).",
                "",
                did_you_mean(key, known_keys()),
            )
    try:
        settings = msgspec.convert(table, Settings)
        if settings.launch.ttl is not None:
            parse_duration(settings.launch.ttl)
        if settings.launch.gpu is not None:
            parse_gpu(settings.launch.gpu)
        for price in (settings.launch.max_price, settings.launch.max_cost):
            if price is not None and not 0 <= price < math.inf:
                raise WrongUsage(f"{price} is no amount of money.", "", "Write it like 0.75.")
        if settings.store is not None and not settings.store.strip():
            raise WrongUsage("The store has no name.", "", 'Write a folder: store = "~/reports"')
    except WrongUsage as error:
        raise BadSettings(f"{error.what} (in {path})", error.why, error.try_this) from error
    except msgspec.ValidationError as error:
        raise BadSettings(
            f"A value in {path} is wrong.", f"{error}.", _hint(str(error), flat)
        ) from error


def _hint(message: str, flat: dict[str, Any]) -> str:
    for key, known in (("launch.profile", PROFILES), ("launch.workload", WORKLOADS)):
        if f"$.{key}" in message and isinstance(flat.get(key), str):
            return did_you_mean(flat[key], known)
    return ""


def _flat(table: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for key, value in table.items():
        name = f"{prefix}{key}"
        # An unknown table counts as one wrong key; only our own are looked into.
        rows += (
            _flat(value, f"{name}.")
            if name == "launch" and isinstance(value, dict)
            else [(name, value)]
        )
    return rows
