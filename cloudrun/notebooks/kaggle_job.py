"""A job at Kaggle, as its client tells of it."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from typing import NamedTuple

from cloudrun.errors import DeadlineReached, NoCredentials, WorkloadFailed
from cloudrun.hosts import tied
from cloudrun.hosts.base import Chunk, JobEnd, Tell
from cloudrun.hosts.local import LocalJob
from cloudrun.model.words import clean
from cloudrun.notebooks import client
from cloudrun.notebooks.records import Records
from cloudrun.providers.patience import Lost, patiently

LOG_IN = "Log in once, in a terminal: kaggle auth login"
FINAL = ("COMPLETE", "ERROR", "CANCEL_ACKNOWLEDGED")
_STATE = re.compile(r'has status "(?:KernelWorkerStatus\.)?([A-Z_]{3,30})"')
_FAILURE = re.compile(r'^Failure message: "(.*)"$', re.MULTILINE)
# A queue of minutes is looked at less and less often.
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 2.0, 20.0
_PACKING_S = 30.0
# What a session has said so far comes at once.
_SO_FAR_S = 10.0


class State(NamedTuple):
    """A session's state in Kaggle's word, and why it failed."""

    name: str
    failure: str = ""


class KaggleJob:
    """A job in a session of Kaggle's, which goes on without us."""

    def __init__(self, program: str, ref: str, tell: Tell) -> None:
        self.records = Records()
        self._program = program
        self._ref = ref
        self._tell = tell
        self._is_stopped = False

    def begin(self) -> None:
        """Kaggle has it since it was made."""

    def read(self, until: float) -> Iterator[Chunk]:
        """Give what the job says; see `Job.read`.

        The launcher there keeps the time, from when it begins; we only do when it does not.
        """
        began, pause, has_queued = time.monotonic(), _FIRST_PAUSE_S, False
        while not self._is_stopped:
            state = patiently(lambda: state_of(self._program, self._ref))
            if state.name == "QUEUED":
                if not has_queued:
                    self._tell("It waits in Kaggle's queue, which can take minutes.")
                has_queued = True
            else:
                # The time in the queue is not the job's.
                queued_s = time.monotonic() - began if has_queued else 0.0
                has_queued = False
                until += queued_s
                yield from self._follow(until + _PACKING_S)
            if self.records.end or self._is_stopped or state.name in FINAL:
                return
            if time.monotonic() + pause > until:
                raise DeadlineReached("The run's deadline came before its end.")
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)

    def so_far(self) -> Iterator[Chunk]:
        """Give what the job has said up to now."""
        try:
            yield from self._follow(time.monotonic() + _SO_FAR_S)
        except DeadlineReached:
            return

    def end(self) -> JobEnd:
        """How the job ended; see `Job.end`.

        Raises:
            WorkloadFailed: Kaggle ended it, or gave it no GPU.
        """
        begin, end = self.records.begin, self.records.end
        if end is not None:
            return JobEnd(end.status, end.reason)
        if self._is_stopped:
            return JobEnd(130, "stopped")
        if begin is not None and begin.gpus == 0:
            raise WorkloadFailed(
                "Kaggle gave a machine without a GPU.",
                "It does so to accounts whose phone number it does not know.",
                "Give it once: https://www.kaggle.com/settings",
            )
        state = state_of(self._program, self._ref)
        if state.name == "CANCEL_ACKNOWLEDGED":
            raise WorkloadFailed("The job was cancelled at Kaggle.", state.failure)
        raise WorkloadFailed(
            "Kaggle ended the job before its end.",
            f"It says: {state.failure or state.name}",
            "Run it again.",
        )

    def stop(self) -> None:
        """Listen no longer. The client cannot end a session; its notebook is deleted later."""
        if self._is_stopped or state_of(self._program, self._ref).name in FINAL:
            return
        self._is_stopped = True
        self._tell(
            "Kaggle's client cannot stop what runs: the notebook is deleted, and its session ends "
            "at its time limit at the latest. At once it ends here: "
            "https://www.kaggle.com/work/code"
        )

    def _follow(self, until: float) -> Iterator[Chunk]:
        """Give what one call of the client tells of the log, which begins at its start."""
        call = (self._program, "-W", "kernels", "logs", "-f", self._ref)
        log = LocalJob((sys.executable, tied.__file__, *call), None, {"NO_COLOR": "1"})
        try:
            for chunk in log.read(until):
                if chunk.stream == 2:
                    self.records.say(chunk.data.decode("utf-8", "replace"))
                else:
                    yield from self.records.feed(chunk.data)
                if self.records.end or self._is_stopped:
                    return
        finally:
            log.stop()


def state_of(program: str, ref: str) -> State:
    """Ask for a session's state.

    Raises:
        Lost: Kaggle does not tell it.
    """
    answer = client.ask(program, ("-W", "kernels", "status", ref))
    found = _STATE.search(answer.out)
    if found is None:
        raise cannot_ask(answer)
    failure = _FAILURE.search(answer.out)
    return State(found[1], clean(failure[1])[:300] if failure else "")


def cannot_ask(answer: client.Answer) -> Lost | NoCredentials:
    """What is wrong when the client does not do what it was called for."""
    if "Authentication required" in answer.out or "401 " in answer.err:
        return NoCredentials("You are not logged in to Kaggle.", "", LOG_IN)
    return Lost(
        "Kaggle does not answer as it should.",
        f"Its client says: {answer.words}",
        "Try again later.",
    )
