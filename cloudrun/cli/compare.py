"""`cloudrun report compare`: what is faster, how surely, and for how much money."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import click

from cloudrun.cli import output, sources
from cloudrun.cli.report import open_reports
from cloudrun.errors import BadData, CloudrunError, WorkloadFailed, WrongUsage
from cloudrun.reports import compare_text, vouching
from cloudrun.reports.compare import Comparison, compare, regressions, vouch
from cloudrun.reports.fields import FIELDS

_MOST_NAMED = 5


class _Percent(click.ParamType[float]):
    """A part of a hundred, with or without its sign."""

    name = "percent"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        text = str(value).strip().removesuffix("%")
        try:
            number = float(text)
        except ValueError:
            number = -1.0
        if not 0 <= number < 100:
            self.fail(f"'{value}' is no percentage. Write it like 5%.", param, ctx)
        return number


@click.command("compare", cls=output.SettingsCommand)
@click.argument("report", nargs=-1)
@click.option(
    "--by",
    type=output.OneOf(list(FIELDS)),
    metavar="FIELD",
    help=f"What tells the groups: {', '.join(FIELDS)}.  "
    "[default: report where REPORTs are named, else gpu]",
)
@click.option(
    "--baseline",
    metavar="REPORT|GROUP",
    help="What the others are compared with.  [default: the first REPORT, or the largest group]",
)
@click.option(
    "--fail-on-regression",
    type=_Percent(),
    metavar="PERCENT",
    help="End with status 1 when something is slower than the baseline, surely and by so much.",
)
@click.option(
    "--format",
    envvar="CLOUDRUN_REPORT_COMPARE_FORMAT",
    type=output.OneOf(["table", "md", "csv"]),
    default="table",
    help="A table for the terminal, Markdown or CSV.",
)
@output.store_option
@output.json_option
def command(
    report: tuple[str, ...],
    by: str | None,
    baseline: str | None,
    fail_on_regression: float | None,
    format: str,  # noqa: A002 - the option's name, and its variable's
    store: str | None,
    json: bool,
) -> int:
    """Compare reports, all of the store or those that are named: speed, certainty, money.

    REPORT is an id, any unique beginning of it, a file, or 'last'. What each
    line means, and when to believe it: docs/compare.md.
    """
    source = sources.choose(open_reports(store), report)
    found = _vouched(
        source, _compared(source, by or ("report" if report else "gpu"), baseline or "")
    )
    if json:
        output.print_json(found.rows)
    elif found.rows:
        _show(found, format)
    _tell(found, source.damaged)
    failure = None if fail_on_regression is None else _regression(found, fail_on_regression)
    if failure is not None:
        output.print_error(failure)
        return failure.exit_status
    return BadData.exit_status if source.damaged else 0


def _compared(source: sources.Source, by: str, baseline: str) -> Comparison:
    """Compare, the baseline being a group, else a report; by default the first that was named."""
    whole = functools.partial(sources.whole, source)
    if not baseline and source.named and by == "report":
        baseline = next((report.id for report in sources.reports(source)), "")
    try:
        if not sources.is_file(baseline) and baseline != "last":
            return compare(sources.reports(source), by, whole, baseline)
    except WrongUsage as error:
        unknown = error
    try:
        report = sources.one(source, baseline)
    except WrongUsage:
        raise unknown from None
    return compare(sources.reports(source), by, whole, report)


def _vouched(source: sources.Source, found: Comparison) -> Comparison:
    """Add who has signed the reports, where the user trusts anybody."""
    from cloudrun.cli.verify import signatures, signers_of

    known = signers_of()
    beside = signatures(source) if known and found.rows else {}

    @functools.cache
    def who(report: str) -> tuple[str, ...]:
        spot = source.spots[report]
        if not beside.get(spot):
            return ()
        _, data = sources.read(source.store, spot)
        told = list(vouching.check(spot.place, data, beside[spot], known))
        for voucher in told:
            if voucher.problem is not None:
                output.say(str(voucher.problem))
        return tuple({voucher.who for voucher in told if voucher.who})

    return found._replace(rows=vouch(found.rows, who)) if any(beside.values()) else found


def _show(found: Comparison, form: str) -> None:
    if form == "table":
        for line in compare_text.terminal(found, output.paint, output.width()):
            click.echo(line)
        return
    lines = compare_text.markdown(found) if form == "md" else compare_text.spreadsheet(found)
    for line in lines:
        click.echo(line, nl=False)


def _tell(found: Comparison, damaged: dict[str, BadData]) -> None:
    """What is not in the comparison, and why."""
    if not found.rows:
        more = "" if found.left_out or damaged else " Make reports: cloudrun launch"
        output.say(f"There is nothing to compare.{more}")
    for names, why in found.left_out:
        output.say(f"Left out, since {why}: {_named(names)}.")
    sources.tell_damaged(damaged)


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more


def _regression(found: Comparison, percent: float) -> CloudrunError | None:
    """The error of a regression; also where nothing was compared, lest that pass for good news."""
    if not any(row.times for row in found.rows):
        return BadData(
            "Nothing could be compared with the baseline, so nothing is known of regressions.",
            "No measurement is in both, or there is no other report.",
            "Name two reports of the same version of cloudrun.",
        )
    slower = regressions(found.rows, percent)
    if not slower:
        return None
    told = [f"{row.measurement} of {row.group} is {row.times:.3g} times as fast" for row in slower]
    return WorkloadFailed(
        f"{len(slower)} of {sum(row.times is not None for row in found.rows)} measurements are "
        f"slower than the baseline {slower[0].baseline} by {percent:g}% or more.",
        f"{'; '.join(told[:_MOST_NAMED])}.",
        "Look at what else differs: it is named below the table.",
    )
