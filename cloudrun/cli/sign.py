"""`cloudrun report sign`: vouch for reports with an SSH key."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cloudrun.cli import options, output, sources
from cloudrun.cli.report import open_reports
from cloudrun.errors import AccessDenied
from cloudrun.model.words import clean

if TYPE_CHECKING:
    from cloudrun.reports.signing import Key

_KEYS = ("id_ed25519", "id_ecdsa", "id_rsa")


@click.command("sign", cls=output.SettingsCommand)
@click.argument("report", nargs=-1)
@click.option(
    "--key",
    metavar="FILE",
    help="The private key, or the public one of a key that your agent holds.  "
    "[default: the first of ~/.ssh/id_ed25519, id_ecdsa, id_rsa]",
)
@output.store_option
@output.json_option
def command(report: tuple[str, ...], key: str | None, store: str | None, json: bool) -> int:
    """Sign REPORT (or several; default: the last) with your SSH key.

    The signature is a file beside the report, as ssh-keygen -Y makes and
    checks it. Who trusts your public key can verify what you say:
    cloudrun report verify. The report itself is not changed.
    """
    from cloudrun.reports import vouching
    from cloudrun.reports.signing import fingerprint

    where = open_reports(store)
    spots = [sources.spot(where, name) for name in report or ("last",)]
    found = [(spot, *sources.read(where, spot)) for spot in spots]
    path = Path(key).expanduser() if key else _default()
    own = _load(path)
    rows = []
    for spot, signed, data in found:
        made = vouching.add(spot.place, spot.path, data, own)
        at = f"{spot.place.url}/{made}"
        rows.append({"report": signed.id, "key": fingerprint(own.asbytes()), "signature": at})
    if json:
        output.print_json(rows)
        return 0
    for row in rows:
        click.echo(clean(row["signature"]))
    output.say(f"Signed with {path}. Others need your public key to check it: {path.stem}.pub")
    return 0


def _default() -> Path:
    folder = Path.home() / ".ssh"
    for name in _KEYS:
        if (folder / name).is_file():
            return folder / name
    raise AccessDenied(
        "There is no SSH key to sign with.",
        f"None of {', '.join(_KEYS)} is in {folder}.",
        "Name yours with --key, or make one: ssh-keygen -t ed25519",
    )


def _load(path: Path) -> Key:
    """The key of a file: from the agent, if that holds it, else from the file itself."""
    from cloudrun.hosts import userkeys
    from cloudrun.hosts.base import Person

    ask = options.ask_passphrase if sys.stdin.isatty() else None
    public = userkeys.public(path)
    for held in userkeys.of_agent("") if public else ():
        if held.asbytes() == public:
            return held
    own, why = userkeys.load(path, Person(passphrase=ask, tell=output.say))
    if own is None:
        raise AccessDenied(
            f"The key {path} cannot be used: {why}.",
            "",
            "Unlock it with ssh-add, or call cloudrun at a terminal; or name another with --key.",
        )
    return own
