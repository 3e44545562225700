"""`cloudrun collect`: reports out of executed notebooks and the like, into the store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cloudrun import settings
from cloudrun.cli import output
from cloudrun.errors import BadData
from cloudrun.model.words import clean
from cloudrun.notebooks.collect import Row, collect
from cloudrun.reports.facts import facts
from cloudrun.reports.store import open_store

_MOST_TOLD = 20


@click.command("collect", cls=output.SettingsCommand)
@click.argument("source", nargs=-1, required=True)
@output.store_option
@output.json_option
def command(source: tuple[str, ...], store: str | None, json: bool) -> int:
    """Bring reports home: out of executed notebooks, logs, zip files, into the store.

    SOURCE is a notebook (.ipynb) with its outputs, a results.json, a log, a
    folder or a zip file of such, a bucket (s3://, gs://, az://) of reports, or
    '-' for what is fed in. What is in the
    store already is not stored twice. The exit status is 65 when a SOURCE
    holds no report.
    """
    kept = open_store(str(settings.places().store) if store is None else store)
    kept.check_writable()
    rows = [_row(row) for row in collect(source, kept)]
    if json:
        output.print_json(rows)
    else:
        _show(rows)
        _tell(rows)
    good = {row["source"] for row in rows if row["status"] != "skipped"}
    return 0 if good >= set(source) else BadData.exit_status


def _row(row: Row) -> dict[str, Any]:
    """What became of a report or a document; a skipped one has the reason, others their facts."""
    found: dict[str, Any] = {
        "source": row.source,
        "document": row.document,
        "status": row.status,
        "path": row.path,
    }
    if row.report is not None:
        found |= facts(row.report)
    if row.problem is not None:
        problem = row.problem
        found |= {"what": problem.what, "why": problem.why, "try": problem.try_this}
    return found


def _show(rows: list[dict[str, Any]]) -> None:
    """The reports that were found, with where each came from."""
    found = [row for row in rows if row["status"] != "skipped"]
    if not found:
        return
    output.print_table(
        ("REPORT", "OUTCOME", "DEVICE", "TFLOP/S", "", "FROM"),
        [
            (
                row["report"],
                row["outcome"],
                row["device"] or "",
                f"{row['best_tflops']:.3g}" if row["best_tflops"] is not None else "",
                row["status"],
                Path(row["document"]).name,
            )
            for row in found
        ],
        right=(3,),
        elastic=(0, 2, 5),
    )


def _tell(rows: list[dict[str, Any]]) -> None:
    """What was skipped and why, and the sum of it all."""
    skipped = [row for row in rows if row["status"] == "skipped"]
    for row in skipped[:_MOST_TOLD]:
        sentences = (row["what"], row["why"], row["try"])
        output.say(f"Skipped: {' '.join(filter(None, sentences))}")
    if len(skipped) > _MOST_TOLD:
        output.say(f"And {len(skipped) - _MOST_TOLD} more; --json names them all.")
    counts = [
        f"{sum(row['status'] == status for row in rows)} {words}"
        for status, words in (
            ("stored", "stored"),
            ("known", "in the store already"),
            ("skipped", "skipped"),
        )
    ]
    output.say(clean(f"{', '.join(counts)}. See them all: cloudrun report list"))
