"""What goes on beside the job: results come home, and the cloud is asked about the machine."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from cloudrun.errors import CloudrunError, DeadlineReached, HostUnreachable
from cloudrun.hosts.base import Remains
from cloudrun.launcher.current import Current, have
from cloudrun.launcher.uploads import Stored
from cloudrun.model.events import Noted, ResultsCame
from cloudrun.model.run import now

_RESULTS_EVERY_S = 30.0
# AWS asks to look every 5 s for the notice that a spot machine is taken back.
_LOOK_EVERY_S = 5.0


def pull(run: Current, host: Remains) -> None:
    """Bring home the results of the user's command that are new."""
    if run.row.need.command is not None:
        with run.pulling:
            count = host.pull(run.row.need)
        if count:
            run.tell(ResultsCame(count))


@contextlib.contextmanager
def results_coming(run: Current, host: Remains) -> Iterator[None]:
    """Bring results home while the job runs, from time to time, beside following it."""
    over = threading.Event()

    def come() -> None:
        while not over.wait(_RESULTS_EVERY_S):
            # What does not come now comes at the end, where its failure is told.
            with contextlib.suppress(CloudrunError):
                pull(run, host)

    if run.row.need.command is not None and host.keeps_jobs:
        threading.Thread(target=come, daemon=True, name="results").start()
    try:
        yield
    finally:
        over.set()


@contextlib.contextmanager
def machine_watched(run: Current) -> Iterator[None]:
    """Ask the cloud from time to time whether it takes the machine away; then save what can be."""
    over = threading.Event()

    def watch() -> None:
        while run.gone is None and not over.wait(_LOOK_EVERY_S):
            with contextlib.suppress(CloudrunError):
                run.gone = run.provider.gone(have(run.machine))
        # There may be two minutes left, or none.
        if run.gone is not None and not over.is_set():
            run.tell(Noted(run.gone))
            with contextlib.suppress(CloudrunError):
                pull(run, have(run.host))
            with contextlib.suppress(CloudrunError):
                have(run.job).stop()

    if run.is_rented and not isinstance(run.host, Stored):
        threading.Thread(target=watch, daemon=True, name="machine").start()
    try:
        yield
    finally:
        over.set()


def taken_away(run: Current) -> CloudrunError | None:
    """The error that says that the machine is gone, when it is."""
    if run.gone is None and run.is_rented:
        run.gone = run.provider.gone(have(run.machine))
    if run.gone is None:
        return None
    if have(run.machine).deadline <= now():
        return DeadlineReached("The run's deadline came before its end.")
    again = "Run it again on demand, without --spot." if have(run.offer).spot else "Run it again."
    return HostUnreachable("The run ended before its end.", run.gone, again)
