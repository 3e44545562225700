"""The command line as a process: what is imported, what an error looks like, which status."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import click
import pytest

import cloudrun as package
from cloudrun import errors
from cloudrun.cli import app
from tests.conftest import Cloudrun
from tests.doubles.reports import report

HEAVY = ("boto3", "google.cloud", "paramiko", "torch", "rich", "matplotlib", "numpy")

_LIST_IMPORTS = """
import sys
from cloudrun.cli.app import run
status = run(sys.argv[2:])
heavy = [name for name in sys.argv[1].split(",") if name in sys.modules]
print("HEAVY", status, heavy, file=sys.stderr)
"""


@pytest.mark.parametrize(
    "command",
    [
        "--help",
        "--version",
        "ps",
        "gpus",
        "gpus T4",
        "config",
        "report list",
        "report html",
        "report schema",
        "report compare",
        "report export",
        "launch --help",
        "launch --dry-run",
        "colab",
        "colab --github me/x",
        "completion bash",
    ],
)
def test_no_heavy_library_is_imported(command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _LIST_IMPORTS, ",".join(HEAVY), *command.split()],
        capture_output=True,
        encoding="utf-8",
    )
    assert "HEAVY 0 []" in done.stderr


def test_help_imports_no_more_of_ours_than_it_shows() -> None:
    code = "import sys; from cloudrun.cli.app import run; run(['--help']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8")
    loaded = {name for name in done.stdout.split() if name.startswith("cloudrun")}
    assert "cloudrun.cli.app" in loaded
    assert not loaded & {"cloudrun.settings", "cloudrun.launcher", "cloudrun.reports", "msgspec"}
    assert not {"msgspec", "sqlite3", "obstore", "asyncio"} & set(done.stdout.split())


def test_help_names_every_command_in_its_section(cloudrun: Cloudrun) -> None:
    text = cloudrun("--help").stdout
    for title, entries in app.SECTIONS.items():
        section = text.partition(f"{title}:\n")[2].partition("\n\n")[0]
        for name, entry in entries.items():
            assert any(
                line.split()[:1] == [name] and entry.help in line for line in section.splitlines()
            )
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("name", app.COMMANDS)
def test_every_command_loads_and_has_help(cloudrun: Cloudrun, name: str) -> None:
    done = cloudrun(name, "--help")
    assert done.returncode == 0
    assert f"cloudrun {name}" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_version(cloudrun: Cloudrun) -> None:
    assert cloudrun("--version").stdout == f"cloudrun {package.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        ("lanch", 2, "Did you mean 'launch'"),
        ("report lst", 2, "Did you mean 'list'"),
        ("launch --bogus", 2, "cloudrun launch --help"),
        ("launch --gpu T44", 2, "Did you mean T4"),
        ("launch --gpu T4:0", 2, "from 1 to 16"),
        ("launch --ttl 10", 2, "Did you mean '10m'"),
        ("launch --on lokal", 2, "Did you mean 'local'"),
        ("launch --profile quik", 2, "Did you mean 'quick'"),
        ("launch --workload smok", 2, "Did you mean 'smoke'"),
        ("launch --store fil:///x", 2, "Did you mean 'file:///x'"),
        ("launch --max-cost -1", 2, "'-1' is no number from 0 on"),
        ("launch --gpu T5", 2, "Did you mean T4?"),
        ("launch --gpu B200", 69, "does not have a B200"),
        ("report show nope", 2, "cloudrun launch"),
        ("report show ./missing.json", 65, "no such file"),
        ("config set launch.profil x", 2, "Did you mean 'launch.profile'"),
        ("config set launch.profile quik", 78, "Did you mean 'quick'"),
        ("completion fisch", 2, "Did you mean 'fish'"),
    ],
)
def test_a_mistake_is_one_paragraph_with_the_nearest_right_word(
    cloudrun: Cloudrun, arguments: str, status: int, says: str
) -> None:
    done = cloudrun(*arguments.split())
    assert done.returncode == status
    assert done.stdout == ""
    assert done.stderr.startswith("cloudrun: ")
    assert says in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert "\n\n" not in done.stderr.strip()


def test_json_gets_the_error_too(cloudrun: Cloudrun) -> None:
    done = cloudrun("launch", "--gpu", "B200", "--json")
    error = json.loads(done.stdout)["error"]
    assert error["kind"] == "unavailable"
    assert error["exit_status"] == done.returncode == 69
    assert set(error) == {"kind", "what", "why", "try", "exit_status"}
    assert done.stderr.startswith("cloudrun: ")


def test_every_error_has_the_contracts_status() -> None:
    statuses = {
        errors.WorkloadFailed: 1,
        errors.WrongUsage: 2,
        errors.BadData: 65,
        errors.HostUnreachable: 68,
        errors.Unavailable: 69,
        errors.Bug: 70,
        errors.DeadlineReached: 75,
        errors.Refused: 76,
        errors.AccessDenied: 77,
        errors.BadSettings: 78,
        errors.Interrupted: 130,
    }
    assert set(statuses) == set(errors.CloudrunError.__subclasses__())
    assert all(kind.exit_status == status for kind, status in statuses.items())
    assert len({kind.kind for kind in statuses}) == len(statuses)


def test_a_bug_is_called_one_and_shows_its_traceback_on_request(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from cloudrun import settings

    def broken() -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(settings, "places", broken)
    assert app.run(["config", "path"]) == 70
    said = capsys.readouterr().err
    assert "bug in cloudrun: ZeroDivisionError: oops" in " ".join(said.split())
    assert "Traceback" not in said
    assert app.run(["config", "path", "-vv"]) == 70
    assert "Traceback" in capsys.readouterr().err
    assert app.run(["-vv", "config", "path"]) == 70
    assert "Traceback" in capsys.readouterr().err


def test_the_log_file_gets_the_traceback(cloudrun: Cloudrun, tmp_path: Path) -> None:
    log = tmp_path / "log"
    done = cloudrun("report", "show", "nope", "--log-file", str(log))
    assert done.returncode == 2
    assert "Traceback" in log.read_text()
    assert "Traceback" not in done.stderr


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    ("line", "printed"),
    [
        ("{} report schema | head -c 1; echo ${{PIPESTATUS[0]}}", "{0\n"),
        ("{} gpus | true; echo ${{PIPESTATUS[0]}}", "0\n"),
        # Of a command of the user's, its own status.
        ("{} run -- sh -c 'exit 5' 2> >(true); echo $?", "5\n"),
    ],
)
def test_a_reader_that_leaves_early_is_no_error(line: str, printed: str) -> None:
    done = subprocess.run(
        line.format(f"{sys.executable} -m cloudrun"),
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        encoding="utf-8",
    )
    assert done.stderr == ""
    assert done.stdout == printed


def test_every_option_reads_the_variable_of_its_name() -> None:
    for path, command in _commands(app.command, ("cloudrun",)):
        for option in command.params:
            if isinstance(option, click.Option):
                flag = max(option.opts, key=len).lstrip("-").replace("-", "_").upper()
                name = (option.name or "").upper()
                variable = "_".join((*path, flag)).upper()
                assert flag in (name, "O") or option.envvar == variable, variable


def _commands(
    command: click.Command, path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from _commands(inner, (*path, name))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to send")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_status_130(number: signal.Signals) -> None:
    code = (
        "import os, sys; from cloudrun import settings; from cloudrun.cli.app import main;"
        f"settings.places = lambda: os.kill(os.getpid(), {int(number)});"
        "sys.argv = ['cloudrun', 'config', 'path']; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8")
    assert done.returncode == 130
    assert done.stderr.split() == ["cloudrun:", "Stopped."]


def test_a_ctrl_c_during_the_imports_ends_quietly() -> None:
    code = (
        "import os, signal, sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'cloudrun.cli.app': os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder())\n"
        "from cloudrun.__main__ import main\n"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8")
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_the_command_is_the_module() -> None:
    (script,) = entry_points(group="console_scripts", name="cloudrun")
    assert script.value == "cloudrun.__main__:main"


def test_what_was_started_is_spoken_of_only_when_something_was(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from cloudrun.launcher import lifecycle
    from cloudrun.model.events import RunStarted
    from cloudrun.model.need import Need

    def interrupted(need: Need, **more: Any) -> None:
        more["around"].listener(RunStarted("arun", lifecycle.plan(need)))
        raise KeyboardInterrupt

    monkeypatch.setattr(lifecycle, "launch", interrupted)
    assert app.run(["launch"]) == 130
    assert "What had been started ends by itself. See what is left: cloudrun ps" in " ".join(
        capsys.readouterr().err.split()
    )


def test_poor_terminals_get_question_marks_and_no_crash(cloudrun: Cloudrun, home: Path) -> None:
    from cloudrun.reports.store import open_store

    chinese = report(environment={**json.loads(report().to_json())["environment"], "cpu": "显卡"})
    open_store(str(home / "data" / "reports")).add(chinese)
    done = cloudrun("report", "show", env={**os.environ, "PYTHONIOENCODING": "cp1252"})
    assert done.returncode == 0
    assert "??, 2 threads" in done.stdout


def test_no_colour_is_honoured(cloudrun: Cloudrun, home: Path) -> None:
    import pty

    from cloudrun.reports.store import open_store

    open_store(str(home / "data" / "reports")).add(report())

    def on_a_terminal(**env: str) -> bytes:
        main, side = pty.openpty()
        subprocess.run(
            [sys.executable, "-m", "cloudrun", "report", "show"],
            stdout=side,
            env={**os.environ, "TERM": "xterm", **env},
            check=True,
        )
        os.close(side)
        data = os.read(main, 100_000)
        os.close(main)
        return data

    assert b"\x1b[" in on_a_terminal()
    assert b"\x1b[" not in on_a_terminal(NO_COLOR="1")
