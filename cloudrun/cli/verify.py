"""`cloudrun report verify`: who vouches for reports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cloudrun import settings
from cloudrun.cli import output, sources
from cloudrun.cli.report import open_reports
from cloudrun.errors import BadData
from cloudrun.reports import signers, vouching
from cloudrun.reports.signers import Signer
from cloudrun.reports.vouching import Voucher

_FILE = "allowed_signers"


@click.command("verify", cls=output.SettingsCommand)
@click.argument("report", nargs=-1)
@click.option(
    "--allowed-signers",
    metavar="FILE",
    help="Whom you trust, and their public keys; the format is ssh-keygen's.  "
    "[default: allowed_signers in the settings folder, else in ~/.ssh]",
)
@output.store_option
@output.json_option
def command(
    report: tuple[str, ...], allowed_signers: str | None, store: str | None, json: bool
) -> int:
    """Check who has signed REPORT (or several; default: the last).

    The status is 0 when each has a signature of somebody you trust, and none
    that is false; else 65.
    """
    known = signers_of(Path(allowed_signers).expanduser() if allowed_signers else None)
    where = open_reports(store)
    rows: list[dict[str, Any]] = []
    for name in report or ("last",):
        file, found = sources.file_of(where, name)
        files = vouching.beside(file.parent).get(file, [])
        vouchers = list(vouching.check(file, files, known))
        rows += [_row(found.id, voucher) for voucher in vouchers] or [_unsigned(found.id)]
    if json:
        output.print_json(rows)
    else:
        _show(rows)
    return 0 if _is_good(rows) else BadData.exit_status


def signers_of(path: Path | None = None) -> list[Signer]:
    """Whom the user trusts; nobody where there is no such file and none was named.

    Raises:
        BadSettings: the file cannot be read, or makes no sense.
    """
    usual = [settings.places().settings / _FILE, Path.home() / ".ssh" / _FILE]
    paths = [path] if path else [each for each in usual if each.is_file()]
    return signers.read(paths[0]) if paths else []


def signatures(source: sources.Source) -> dict[Path, list[Path]]:
    """The files of signatures beside the reports of a source, by the report's file."""
    if not source.named:
        return vouching.beside(source.store.location, below=True)
    files = [sources.path_of(source.store, place) for place in source.places.values()]
    folders = dict.fromkeys(file.parent for file in files)
    return {file: found for each in folders for file, found in vouching.beside(each).items()}


def _row(report: str, voucher: Voucher) -> dict[str, Any]:
    status = "good" if voucher.who else "unknown key"
    return {
        "report": report,
        "status": "false" if voucher.problem else status,
        "signed_by": voucher.who,
        "key": voucher.key or None,
        "signature": str(voucher.file),
        "problem": str(voucher.problem) if voucher.problem else None,
    }


def _unsigned(report: str) -> dict[str, Any]:
    nothing = dict.fromkeys(("signed_by", "key", "signature", "problem"))
    return {"report": report, "status": "not signed", **nothing}


def _is_good(rows: list[dict[str, Any]]) -> bool:
    trusted = {row["report"] for row in rows if row["status"] == "good"}
    return all(row["report"] in trusted and row["status"] != "false" for row in rows)


def _show(rows: list[dict[str, Any]]) -> None:
    cells = [
        (row["report"], row["status"], row["signed_by"] or "", row["key"] or "") for row in rows
    ]
    output.print_table(("REPORT", "SIGNATURE", "SIGNED BY", "KEY"), cells, elastic=(0, 2, 3))
    for row in rows:
        if row["problem"]:
            output.say(row["problem"])
    if any(row["status"] == "unknown key" for row in rows):
        folder = settings.places().settings
        output.say(
            "An unknown key vouches for nothing: anybody can make one. Ask whose it is, and add "
            f"a line to {folder / _FILE}: NAME and the public key."
        )
    if any(row["status"] == "not signed" for row in rows):
        output.say("Sign it: cloudrun report sign")
