"""`cloudrun`: the commands by name, and what happens to an error.

This module and Click are all that `cloudrun --help` loads. A command lives in
a module of its own, as `command`.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import click

import cloudrun
from cloudrun.cli import output
from cloudrun.errors import (
    BadSettings,
    Bug,
    CloudrunError,
    HungUp,
    Interrupted,
    Terminated,
    WrongUsage,
)
from cloudrun.model.words import did_you_mean


class _Entry(NamedTuple):
    module: str
    help: str


SECTIONS: dict[str, dict[str, _Entry]] = {
    "Run": {
        "launch": _Entry("launch", "Smoke test and benchmark a machine; report; leave nothing."),
        "run": _Entry("run", "Your own command there: push, stream, results home."),
        "colab": _Entry("colab", "A notebook for a free GPU, and the link that opens it."),
        "ps": _Entry("ps", "Runs that are going on now."),
        "logs": _Entry("logs", "What a run's job has said."),
        "attach": _Entry("attach", "Follow a run again, and bring it home."),
        "ssh": _Entry("ssh", "A shell on a run's machine."),
        "jupyter": _Entry("jupyter", "Notebooks on a run's machine, through a tunnel."),
        "down": _Entry("down", "End a run."),
        "leaks": _Entry("leaks", "What the clouds say is still there and costs money."),
    },
    "Reports": {
        "collect": _Entry("collect", "Bring reports home: out of notebooks, logs, zip files."),
        "report": _Entry("report", "The reports that were made: list, show, sync, compare."),
    },
    "Look first": {
        "gpus": _Entry("gpus", "Which GPU: facts, prices, what fits."),
        "offers": _Entry("offers", "What can be had now, cheapest first."),
        "doctor": _Entry("doctor", "This machine, your accounts, your hosts: what works there."),
    },
    "cloudrun itself": {
        "config": _Entry("config", "Settings: show them and where they come from, set, path."),
        "completion": _Entry("completion", "Completion of commands and options for your shell."),
    },
}
COMMANDS = {name: entry for section in SECTIONS.values() for name, entry in section.items()}


class _ReaderGone(Exception):
    """The reader of our output has gone, as `head` does."""


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

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            # Click would make an exit with status 1 of it.
            raise _ReaderGone from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, entries in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name, entry.help) for name, entry in entries.items()], 14)


@click.group(
    cls=_Root,
    context_settings={"auto_envvar_prefix": "CLOUDRUN", "help_option_names": ["-h", "--help"]},
)
@click.version_option(
    cloudrun.__version__, message="cloudrun %(version)s", allow_from_autoenv=False
)
def command() -> None:
    """A real GPU with one command: get it, prove it, measure it, leave nothing running.

    The first thing to type: cloudrun launch
    """


def main() -> None:
    """The console script: the command line, and what the system may do to it meanwhile."""
    _open_streams()
    _listen_to_signals()
    try:
        status = run(sys.argv[1:])
    except KeyboardInterrupt:
        # A second Ctrl-C, which came into the last words.
        status = Interrupted.exit_status
    _ignore_signals()
    sys.exit(status)


def run(arguments: list[str]) -> int:
    """Run the command line; returns the exit status. No error leaves here."""
    options = output.Options()
    try:
        status = command.main(arguments, "cloudrun", standalone_mode=False, obj=options)
        sys.stdout.flush()
    except (_ReaderGone, BrokenPipeError):
        # Python would complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except BaseException as error:  # noqa: BLE001 - the last place for it
        return _report(error, options, options.json or "--json" in arguments)
    return status if isinstance(status, int) else 0


def _open_streams() -> None:
    """See to it that there is an input, an output and an error output, wherever they lead.

    A program that is started without them would give their numbers to the
    first files that it opens, and write its messages into those.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        # A console that cannot show a character shows a question mark instead of failing.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


_KINDS = {"SIGTERM": Terminated, "SIGHUP": HungUp, "SIGBREAK": Terminated}
_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")


def _listen_to_signals() -> None:
    """Let every wish to stop be a KeyboardInterrupt, but for those that nohup and the like hide."""
    for name in _SIGNALS:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _stop_by(_KINDS.get(name, KeyboardInterrupt)))


def _stop_by(kind: type[BaseException]) -> Callable[[int, object], None]:
    def handler(_number: int, _frame: object) -> None:
        raise kind

    return handler


def _ignore_signals() -> None:
    """All is over; a late Ctrl-C must not spoil the exit status."""
    for number in (getattr(signal, name) for name in _SIGNALS if hasattr(signal, name)):
        signal.signal(number, signal.SIG_IGN)


def _report(error: BaseException, options: output.Options, json: bool) -> int:
    """Say what went wrong, in one paragraph; returns the exit status."""
    if isinstance(error, SystemExit) and isinstance(error.code, int | None):
        return error.code or 0
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
        return error.exit_code
    ours = _as_ours(error, options)
    # A screen or a disk that takes no more words is no reason for another status.
    with contextlib.suppress(OSError, ValueError):
        output.print_error(ours)
        output.traceback(error, options)
    with contextlib.suppress(OSError, ValueError):
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


def _as_ours(error: BaseException, options: output.Options) -> CloudrunError:
    """Any exception as an error of ours."""
    if isinstance(error, CloudrunError):
        return error
    if isinstance(error, click.Abort | KeyboardInterrupt):
        if not options.run_started:
            return Interrupted("Stopped.")
        return Interrupted(
            "Stopped at once.",
            "What had been started ends by itself.",
            "See what is left: cloudrun ps",
        )
    if isinstance(error, OSError):
        named = f" ({error.filename})" if error.filename else ""
        return BadSettings(
            f"A file or a folder cannot be used{named}.",
            f"{error.strerror or error}.",
            "Look at its permissions and at the disk.",
        )
    if isinstance(error, click.ClickException):
        context = getattr(error, "ctx", None)
        path = context.command_path if context else "cloudrun"
        return WrongUsage(_sentence(error.format_message()), "", f"Try: {path} --help")
    if isinstance(error, UnicodeEncodeError) and "surrogates" in error.reason:
        given = error.object.encode(errors="surrogateescape").decode(errors="backslashreplace")
        return WrongUsage(
            f"Something that was given is no text in UTF-8: '{given[:200]}'.",
            "cloudrun writes down what it is to do, in UTF-8, before it does it.",
            "Use a name of other characters; in a shell that is not in UTF-8, set PYTHONUTF8=1.",
        )
    return Bug(
        f"This is a bug in cloudrun: {type(error).__name__}: {error}.",
        "",
        "Please report it, with what 'cloudrun -vv ...' prints.",
    )


def _sentence(text: str) -> str:
    """Click's messages end with a full stop, or do not."""
    text = " ".join(text.split())
    return text if text.endswith((".", "?", "!")) else f"{text}."
