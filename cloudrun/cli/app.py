"""`cloudrun`: the commands by name, and what happens to an error.

This module and Click are all that `cloudrun --help` loads. A command lives in
a module of its own, as `command`.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from typing import Any, NamedTuple

import click

import cloudrun
from cloudrun.cli import output
from cloudrun.errors import Bug, CloudrunError, Interrupted, WrongUsage
from cloudrun.model.words import did_you_mean


class _Entry(NamedTuple):
    module: str
    help: str


SECTIONS: dict[str, dict[str, _Entry]] = {
    "Run": {
        "launch": _Entry("launch", "Smoke test and benchmark a machine; report; leave nothing."),
        "ps": _Entry("ps", "Runs that are going on now."),
    },
    "Reports": {
        "report": _Entry("report", "The reports that were made: list, show, schema."),
    },
    "Look first": {
        "gpus": _Entry("gpus", "Which GPU: facts, prices, what fits."),
        "doctor": _Entry("doctor", "This machine: driver, torch, the install line that fits."),
    },
    "cloudrun itself": {
        "config": _Entry("config", "Settings: show them and where they come from, set, path."),
        "completion": _Entry("completion", "Completion of commands and options for your shell."),
    },
}
COMMANDS = {name: entry for section in SECTIONS.values() for name, entry in section.items()}


class _Root(output.GlobalOptions, click.Group):
    """The top command: knows the others by name and loads one when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"cloudrun.cli.{COMMANDS[cmd_name].module}")
        command = module.command
        assert isinstance(command, click.Command)  # noqa: S101 - for the type checker
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            raise WrongUsage(
                f"There is no command '{args[0]}'.", "", did_you_mean(args[0], COMMANDS)
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, entries in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name, entry.help) for name, entry in entries.items()], 14)


@click.group(
    cls=_Root,
    context_settings={"auto_envvar_prefix": "CLOUDRUN", "help_option_names": ["-h", "--help"]},
)
@click.version_option(cloudrun.__version__, message="cloudrun %(version)s")
def command() -> None:
    """A real GPU with one command: get it, prove it, measure it, leave nothing running.

    The first thing to type: cloudrun launch
    """


def main() -> None:
    """The console script."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run the command line; returns the exit status. No exception leaves here."""
    for stream in (sys.stdout, sys.stderr):
        # A console that cannot show a character shows a question mark instead of failing.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    for name in ("SIGTERM", "SIGHUP", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.default_int_handler)
    options = output.Options()
    try:
        status = command.main(arguments, "cloudrun", standalone_mode=False, obj=options)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader of our output has gone, as `head` does. Python would complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except BaseException as error:  # noqa: BLE001 - the last place for it
        return _report(error, options, options.json or "--json" in arguments)
    return status if isinstance(status, int) else 0


def _report(error: BaseException, options: output.Options, json: bool) -> int:
    """Say what went wrong, in one paragraph; returns the exit status."""
    if isinstance(error, SystemExit):
        return int(error.code or 0)
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
        return error.exit_code
    ours = _as_ours(error)
    if options.verbosity >= 2 or options.log_file:
        output.traceback(error, options)
    output.print_error(ours)
    if json:
        output.print_json({"error": error_as_json(ours)})
    return ours.exit_status


def error_as_json(error: CloudrunError) -> dict[str, Any]:
    """An error as `--json` prints it: see the contract of the command line."""
    return {
        "kind": error.kind,
        "what": error.what,
        "why": error.why,
        "try": error.try_this,
        "exit_status": error.exit_status,
    }


def _as_ours(error: BaseException) -> CloudrunError:
    """Any exception as an error of ours."""
    if isinstance(error, CloudrunError):
        return error
    if isinstance(error, click.Abort | KeyboardInterrupt):
        return Interrupted(
            "Stopped at once.",
            "What had been started ends by itself.",
            "See what is left: cloudrun ps",
        )
    if isinstance(error, click.ClickException):
        context = getattr(error, "ctx", None)
        path = context.command_path if context else "cloudrun"
        return WrongUsage(_sentence(error.format_message()), "", f"Try: {path} --help")
    return Bug(
        f"This is a bug in cloudrun: {type(error).__name__}: {error}.",
        "",
        "Please report it, with what 'cloudrun -vv ...' prints.",
    )


def _sentence(text: str) -> str:
    """Click's messages end with a full stop, or do not."""
    text = " ".join(text.split())
    return text if text.endswith((".", "?", "!")) else f"{text}."
