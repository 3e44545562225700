"""What every command shares: options, tables, JSON, errors. Results go to stdout, talk to stderr.

Text that comes from elsewhere goes through `clean`: a report from a stranger
must not move the reader's cursor or reverse his text.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import shutil
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import click

from cloudrun.errors import BadSettings, CloudrunError, WrongUsage
from cloudrun.model.columns import clip, pad, width_of, wrap
from cloudrun.model.words import clean, did_you_mean

# Lines of more are hard to read; in less, labels leave no room for what they label.
_MOST_COLUMNS, _LEAST_COLUMNS, _LEAST_ROOM = 80, 40, 16
_FOR_PIP, _UNBROKEN = re.compile(r"(\"[^\"]+\"|\S+) -m pip install .*"), "\0"


@dataclass
class Options:
    """The global options. `verbosity` is the number of -v less the number of -q.

    `run_started`: a run was begun, so that a sudden end may leave something of it.
    """

    verbosity: int = 0
    log_file: str | None = None
    json: bool = False
    run_started: bool = False

    @property
    def quiet(self) -> bool:
        """Whether to say nothing but results and errors."""
        return self.verbosity < 0


class GlobalOptions(click.Command):
    """Gives a command the global options, so that they work before and after its name."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += [
            _global("-v", "--verbose", count=True, help="Say more; twice: tracebacks too."),
            _global("-q", "--quiet", is_flag=True, help="Say nothing but results and errors."),
            _global(
                "--log-file",
                metavar="FILE",
                help="Write tracebacks of errors here.",
            ),
        ]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read NO_COLOR, the variable of `--json`, and the settings, before the options.

        Settings and options may be wrong, and that is to be told as JSON too.
        """
        if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
            ctx.color = False
        for option in self.params:
            if option.name == "json" and (value := option.resolve_envvar_value(ctx)):
                _take_json(ctx, option, click.BOOL.convert(value, option, ctx))
        if not (ctx.resilient_parsing or {"-h", "--help"} & set(args)):
            ctx.default_map = self.defaults()
        return super().parse_args(ctx, args)

    def defaults(self) -> dict[str, Any] | None:
        """The defaults of this command's options that settings files give; None: ask none."""
        return None


class Command(GlobalOptions):
    """A command."""


class SettingsCommand(GlobalOptions):
    """A command with defaults in the settings: `store`, and the table of its name."""

    def defaults(self) -> dict[str, Any]:
        """The table of the command's name, and the store, from the settings files."""
        from cloudrun.cli import defaults

        values: dict[str, Any] = {}
        for setting in defaults.read():
            table, _, key = setting.key.rpartition(".")
            if table in ("", self.name):
                values[key] = setting.value
        return values


class Group(GlobalOptions, click.Group):
    """A group of commands."""


def _global(*names: str, **settings: Any) -> click.Option:
    return click.Option(names, expose_value=False, callback=_take_global, **settings)


def _take_global(context: click.Context, option: click.Parameter, value: Any) -> None:
    options = context.find_root().obj
    if not isinstance(options, Options):
        return
    if option.name == "verbose":
        options.verbosity += int(value)
    elif option.name == "quiet":
        options.verbosity -= 1 if value else 0
    elif value:
        options.log_file = value
        try:
            with open(value, "a", encoding="utf-8"):
                pass
        except OSError as error:
            raise BadSettings(
                f"The log file {value} cannot be written.", f"{error.strerror}.", "Name another."
            ) from error


class OneOf(click.Choice[str]):
    """A choice that offers the nearest right word."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Give the value back, when it is one of the choices."""
        if value not in self.choices:
            name = param.name if param else "value"
            raise WrongUsage(
                f"There is no {name} '{value}'.", "", did_you_mean(str(value), self.choices)
            )
        return value


class _Amount(click.ParamType[float]):
    """A number of at least 0 that is one: `nan` and `inf` are not."""

    name = "amount"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Give the number, or fail."""
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not (math.isfinite(number) and number >= 0):
            self.fail(f"'{value}' is no number from 0 on, like 0.5 or 16.", param, ctx)
        return number


USD = _Amount()


def json_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--json`. It is read first, so that an error in another option is printed as JSON too."""
    return click.option(
        "--json",
        is_flag=True,
        is_eager=True,
        callback=_take_json,
        help="One JSON document on stdout.",
    )(function)


def _take_json(context: click.Context, _option: click.Parameter, value: bool) -> bool:
    options = context.find_root().obj
    if isinstance(options, Options):
        options.json = value
    return value


def store_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--store URL`."""
    return click.option(
        "--store",
        metavar="URL",
        help="Where reports are kept: a folder, or s3://BUCKET/PREFIX, gs://..., az://...",
    )(function)


def print_json(value: Any) -> None:
    """Print one JSON document on stdout."""
    import msgspec

    text = msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
    click.echo(harmless_json(text))


def harmless_json(text: str) -> str:
    """Write what would steer a terminal as JSON's own escapes: the same document, seen safely."""
    if text.isascii():
        return text
    return "".join(char if char.isprintable() or char == "\n" else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    units = char.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))


def width() -> int:
    """How wide a text may be: 80 columns, or what the terminal or COLUMNS has less."""
    return max(_LEAST_COLUMNS, min(_MOST_COLUMNS, shutil.get_terminal_size().columns))


def print_table(
    headers: Sequence[str],
    rows: Sequence[Sequence[str]],
    right: Collection[int] = (),
    elastic: Collection[int] = (),
) -> None:
    """Print a table on stdout.

    `right` are the columns that are flush right. The cells of the `elastic`
    ones are clipped where the table is wider than the terminal.
    """
    cells = [list(headers), *([clean(cell) for cell in row] for row in rows)]
    widths = [max(width_of(row[column]) for row in cells) for column in range(len(headers))]
    _tighten(widths, {column: width_of(headers[column]) for column in elastic})
    for number, row in enumerate(cells):
        line = "  ".join(
            pad(clip(cell, widths[column]), widths[column], column in right)
            for column, cell in enumerate(row)
        ).rstrip()
        click.echo(click.style(line, bold=True) if number == 0 else line)


def _tighten(widths: list[int], least: dict[int, int]) -> None:
    """Take from the widest of the elastic columns, as far as they go, until the table fits."""
    room = shutil.get_terminal_size().columns - 2 * (len(widths) - 1)
    while sum(widths) > room:
        slack = [column for column in least if widths[column] > least[column]]
        if not slack:
            return
        widths[max(slack, key=lambda column: widths[column])] -= 1


def paint(text: str, role: str) -> str:
    """Colour a text for a role of `cloudrun.reports.text`; Click drops it where it cannot be."""
    colours: dict[str, dict[str, Any]] = {
        "good": {"fg": "green", "bold": True},
        "bad": {"fg": "red", "bold": True},
        "strong": {"bold": True},
    }
    return click.style(text, **colours.get(role, {}))


def say(text: str, **style: Any) -> None:
    """Say something to the person, on stderr."""
    text = hanging("", text)
    # What nobody reads any more changes nothing of what is done, nor the exit status.
    with contextlib.suppress(BrokenPipeError):
        click.echo(click.style(text, **style) if style else text, err=True)


def hanging(label: str, text: str) -> str:
    """Write a text beside a label, its further lines below its first.

    A line for pip at its end is not broken: it is there to be copied.
    """
    indent = " " * width_of(label)
    text = _FOR_PIP.sub(lambda found: found[0].replace(" ", _UNBROKEN), clean(text))
    lines = wrap(text, max(_LEAST_ROOM, width() - len(indent)), whole_words=True)
    return label + f"\n{indent}".join(lines).replace(_UNBROKEN, " ")


def print_error(error: CloudrunError) -> None:
    """Say what went wrong, why, and what to try: one paragraph on stderr."""
    click.echo(hanging("", f"cloudrun: {error}"), err=True)


def traceback(error: BaseException, options: Options) -> None:
    """Print the traceback: to stderr with -vv, to the log file where there is one."""
    import traceback as tracebacks

    text = "".join(tracebacks.format_exception(error))
    if options.verbosity >= 2:
        sys.stderr.write(text)
    if options.log_file:
        with open(options.log_file, "a", encoding="utf-8") as log:
            log.write(text)
