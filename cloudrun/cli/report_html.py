"""`cloudrun report html`: one page that shows a store's reports."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cloudrun import settings
from cloudrun.cli import output
from cloudrun.errors import BadData, BadSettings, WrongUsage
from cloudrun.model.run import now
from cloudrun.model.words import clean, format_bytes
from cloudrun.reports.store import Store, open_store

if TYPE_CHECKING:
    from cloudrun.reports.page import Gathered

_FILE = Path("cloudrun-reports.html")


@click.command("html", cls=output.SettingsCommand)
@click.option(
    "-o",
    "file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help=f"Where to write the page. [default: {_FILE}]",
)
@click.option("--serve", is_flag=True, help="Write no file: show it to your browser, until Ctrl-C.")
@output.store_option
@output.json_option
def command(file: Path | None, serve: bool, store: str | None, json: bool) -> int:
    """One page that shows all reports: board, prices, rooflines, history.

    It is a single file that loads nothing from anywhere, so it can be mailed.
    Damaged reports are named in it, and the exit status is 65. With --serve
    the page follows what comes into the store.
    """
    if serve and (file or json):
        raise WrongUsage(
            "With --serve there is no file.", "", "Leave out --serve, or -o and --json."
        )
    where = open_store(str(settings.places().store) if store is None else store)
    if serve:
        _serve(where)
        return 0
    return _save(where, file or _FILE, json)


def _save(where: Store, file: Path, json: bool) -> int:
    from cloudrun.cli.verify import signers_of
    from cloudrun.reports import page, vouching

    _check(file)
    who = vouching.who_by_path(where.place, signers_of())
    gathered = page.gather(where.slim(where.entries()), who)
    _write(file, page.render(gathered, now()))
    _tell(gathered, where, file, json)
    return BadData.exit_status if gathered.damaged else 0


def _check(file: Path) -> None:
    """Refuse to write over a file that is no page of ours."""
    from cloudrun.reports.page import MARK

    if not file.exists():
        return
    if file.is_file():
        with file.open("rb") as old:
            if old.read(len(MARK)) == MARK.encode():
                return
    raise WrongUsage(
        f"{file} is there already, and is no page that cloudrun has made.",
        "",
        "Move it away, or name another file: -o FILE",
    )


def _write(file: Path, pieces: Iterable[str]) -> None:
    """Write the page beside its place and move it there, so that it is never half."""
    twin = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    try:
        with twin.open("x", encoding="utf-8", newline="\n") as new:
            new.writelines(pieces)
        twin.replace(file)
    except BaseException as error:
        with contextlib.suppress(OSError):
            twin.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise BadSettings(
                f"The page cannot be written to {file}.",
                f"{error.strerror}.",
                "Free some room, or name another file: -o FILE",
            ) from error
        raise


def _tell(gathered: Gathered, where: Store, file: Path, json: bool) -> None:
    if json:
        left_out = [{"path": path, "why": why} for path, why in gathered.left_out]
        output.print_json({"file": str(file), "reports": len(gathered.rows), "left_out": left_out})
        return
    if not gathered.rows:
        output.say(f"There is no report in {where.url} yet. Make one: cloudrun launch")
    count = f"{len(gathered.rows)} report{'' if len(gathered.rows) == 1 else 's'}"
    output.say(f"{count}, {format_bytes(file.stat().st_size)}:")
    click.echo(clean(str(file)))
    for path, why in gathered.left_out[:10]:
        output.say(f"Not shown: {path}. {why}")
    if more := len(gathered.left_out[10:]):
        output.say(f"And {more} more, which the page names.")


def _serve(where: Store) -> None:
    from cloudrun.cli.verify import signers_of
    from cloudrun.reports.serve import server

    with server(where, signers_of()) as listening:
        output.say("The page is open until you press Ctrl-C. Its address, on this machine only:")
        click.echo(f"http://127.0.0.1:{listening.server_port}/")
        with contextlib.suppress(KeyboardInterrupt):
            listening.serve_forever()
    output.say("The page is closed.")
