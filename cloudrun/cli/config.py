"""`cloudrun config`: the settings, where each comes from, and setting one."""

from __future__ import annotations

import contextlib
import os
from importlib import resources
from pathlib import Path
from typing import Any

import click

from cloudrun import settings
from cloudrun.cli import defaults, output
from cloudrun.errors import BadSettings, WrongUsage
from cloudrun.model.words import did_you_mean


@click.group("config", cls=output.Group, invoke_without_command=True)
@click.pass_context
def command(ctx: click.Context) -> None:
    """Settings: show them and where they come from, set one, tell the file's path."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(show, json=False)


@command.command("show", cls=output.Command)
@output.json_option
def show(json: bool) -> None:
    """Show every setting, its value, and where that comes from."""
    rows = _rows()
    if json:
        output.print_json(rows)
        return
    output.print_table(
        ("SETTING", "VALUE", "FROM"),
        [
            (row["key"], "" if row["value"] is None else str(row["value"]), row["source"])
            for row in rows
        ],
    )


@command.command("set", cls=output.Command)
@click.argument("key")
@click.argument("value")
def set_value(key: str, value: str) -> None:
    """Set KEY to VALUE in the user's settings file; comments in it stay."""
    if settings.rule_of(key) is None:
        raise WrongUsage(
            f"There is no setting '{key}'.", "", did_you_mean(key, settings.known_keys())
        )
    # The file itself, where a link leads to it: it may lie in a repository.
    path = settings.places().user_file.resolve()
    _write(path, key, value)
    output.say(f"{key} is set in {path}.")


@command.command("path", cls=output.Command)
def show_path() -> None:
    """Print the path of the user's settings file."""
    click.echo(settings.places().user_file)


def _rows() -> list[dict[str, Any]]:
    found = {setting.key: setting for setting in defaults.read()}
    rows = []
    hosts = [key for key in found if key.startswith("hosts.")]
    for key in (*settings.known_keys(), *hosts):
        names = _variables(key)
        variable = next((name for name in names if os.environ.get(name)), None)
        if variable:
            row: dict[str, Any] = {
                "value": os.environ[variable],
                "source": f"environment ({variable})",
            }
        elif key in found:
            row = {"value": found[key].value, "source": str(found[key].source)}
        else:
            row = {"value": _default(key), "source": "default"}
        rows.append({"key": key, **row})
    return rows


def _variables(key: str) -> list[str]:
    """The environment variables that go over a setting."""
    if key == "store":
        return ["CLOUDRUN_LAUNCH_STORE", "CLOUDRUN_REPORT_LIST_STORE", "CLOUDRUN_REPORT_SHOW_STORE"]
    return [f"CLOUDRUN_{key.replace('.', '_').upper()}"]


def _default(key: str) -> str | None:
    defaults = {
        "store": str(settings.places().store),
        "launch.on": "auto",
        "launch.workload": "all",
        "launch.profile": "quick",
        "launch.ttl": "30m",
        "run.on": "auto",
        "run.ttl": "2h",
        "run.results": "results",
    }
    return defaults.get(key)


def _write(path: Path, key: str, value: str) -> None:
    """Change one key of a settings file; the file is replaced whole, or not at all."""
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    try:
        text = path.read_text(encoding="utf-8-sig") if path.exists() else _fresh_file()
        document = tomlkit.parse(text)
    except (OSError, UnicodeDecodeError, TOMLKitError) as error:
        raise BadSettings(f"The settings file {path} cannot be read.", f"{error}.") from error
    table, _, name = key.rpartition(".")
    target: Any = document.setdefault(table, tomlkit.table()) if table else document
    if not isinstance(target, dict):
        # A number or the like stands where the table should; that is the error.
        settings.check(document.unwrap(), path)
    target[name] = _typed(value) if name in ("max_price", "max_cost") else value
    settings.check(document.unwrap(), path)
    defaults.check(settings.Setting(key, value, path))
    fresh = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_text(tomlkit.dumps(document), encoding="utf-8")
        fresh.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            fresh.unlink()
        raise BadSettings(
            f"The settings file {path} cannot be written.",
            f"{error.strerror}.",
            "Make its folder writable, or set CLOUDRUN_HOME to another folder.",
        ) from error


def _typed(value: str) -> float | str:
    try:
        return float(value)
    except ValueError:
        return value


def _fresh_file() -> str:
    return resources.files("cloudrun.templates").joinpath("config.toml").read_text("utf-8")
