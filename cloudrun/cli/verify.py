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
        spot = sources.spot(where, name)
        found, data = sources.read(where, spot)
        beside = vouching.beside(spot.place, _folder(spot)).get(spot.path, [])
        vouchers = vouching.check(spot.place, data, beside, known)
        rows += [_row(found.id, spot, each) for each in vouchers] or [_unsigned(found.id)]
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


def signatures(source: sources.Source) -> dict[sources.Spot, list[str]]:
    """The paths of the signatures beside the reports of a source, by where the report is."""
    spots = set(source.spots.values())
    in_store = {spot for spot in spots if spot.entry is not None and not source.named}
    # A whole store is listed once; else the folders of the few.
    listed = vouching.beside(source.store.place, below=True) if in_store else {}
    beside = {(source.store.place, spot.path): listed.get(spot.path, []) for spot in in_store}
    for place, folder in {(spot.place, _folder(spot)) for spot in spots - in_store}:
        found = vouching.beside(place, folder)
        beside |= {(place, path): signatures for path, signatures in found.items()}
    return {spot: beside.get((spot.place, spot.path), []) for spot in spots}


def _folder(spot: sources.Spot) -> str:
    return spot.path[: spot.path.rfind("/") + 1]


def _row(report: str, spot: sources.Spot, voucher: Voucher) -> dict[str, Any]:
    status = "good" if voucher.who else "unknown key"
    return {
        "report": report,
        "status": "false" if voucher.problem else status,
        "signed_by": voucher.who,
        "key": voucher.key or None,
        "signature": f"{spot.place.url}/{voucher.path}",
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
