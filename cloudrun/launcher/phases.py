"""The phases of a run: plan, provision, connect, prepare, push, run, collect, end."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from cloudrun.errors import (
    AccessDenied,
    BadSettings,
    CannotHave,
    CloudrunError,
    DeadlineReached,
    HostUnreachable,
    HungUp,
    Interrupted,
    Refused,
    Terminated,
    Unavailable,
    WrongUsage,
)
from cloudrun.hosts.base import Chunk, Host, Work
from cloudrun.launcher import closing, leaks, planner, recovery
from cloudrun.launcher.current import Current, have, phase_of, teller
from cloudrun.launcher.journal import Attempt
from cloudrun.launcher.planner import Block
from cloudrun.model.events import (
    CommandSaid,
    Listener,
    Noted,
    ResultsCame,
    RunStarted,
    WorkloadSaid,
)
from cloudrun.model.need import Need, provider_of
from cloudrun.model.offer import Offer, Plan
from cloudrun.model.run import later, now
from cloudrun.providers import base as providers
from cloudrun.providers.base import Order, place
from cloudrun.reports import build
from cloudrun.reports.schema import Report

T = TypeVar("T")

_RESULTS_EVERY_S = 30.0
# AWS asks to look every 5 s for the notice that a spot machine is taken back.
_LOOK_EVERY_S = 5.0
# So long other offers are tried: who waits longer had better choose another GPU.
_TRY_FOR_S = 300.0
# How long a job that was stopped may take for its last words: longer than its
# supervisor lets it live.
_LAST_WORDS_S = 15.0


def plan(need: Need, tell: Listener = lambda _event: None) -> Plan:
    """Ask the targets' providers what can be had, and plan with it. Creates nothing.

    `tell` is told of clouds that are passed over.

    Raises:
        Unavailable: no offer fits.
    """
    return planner.make_plan(need, offers(need, tell))


def offers(need: Need, tell: Listener = lambda _event: None) -> list[Offer]:
    """Ask the targets' providers what can be had; see `planner.in_order`.

    Of several, those that were never set up here, or have nothing that fits, are passed over.

    Raises:
        Unavailable: none has anything that fits.
    """
    asked = list(dict.fromkeys(provider_of(target) for target in need.targets))
    with ThreadPoolExecutor(max(1, len(asked))) as pool:
        answers = [pool.submit(providers.load(name).offers, need) for name in asked]
    found: list[Offer] = []
    problems: list[CloudrunError] = []
    for answer in answers:
        try:
            found += answer.result()
        except (*providers.NEVER_SET_UP, Unavailable) as error:
            problems.append(error)
    if problems and not found:
        raise problems[0]
    for problem in problems:
        tell(Noted(f"{problem.what} {problem.why}".strip()))
    return planner.in_order(found)


def go(run: Current) -> Report:
    """All phases that are left; the ending whatever happens; then the report."""
    problem: BaseException | None = None
    try:
        if run.machine is None:
            begin(run)
        else:
            _reconnect(run)
        _finish(run)
    except _AtOnce as at_once:
        raise _dropped(run) or at_once from None
    except BaseException as error:  # noqa: BLE001 - raised again below
        problem = error
    if problem is not None and run.goes_on_without_us:
        problem = _judged(run, problem)
        if isinstance(problem, _Left):
            raise _left(run, problem.__cause__ or problem)
    try:
        closing.end(run, problem)
    except KeyboardInterrupt as interrupt:
        if isinstance(problem, KeyboardInterrupt):
            raise _dropped(run) or interrupt from None
        problem = interrupt
        closing.end(run, problem)
    except Exception as error:  # noqa: BLE001 - `closing.close` raises it again
        # That something may be left is the worst that there is to say.
        run.notes += [str(problem)] if problem is not None else []
        problem = error
    _look_for_leaks(run)
    return closing.close(run, problem)


def _dropped(run: Current) -> Interrupted | None:
    """After a second Ctrl-C: what may be left, and how to find it."""
    if not run.attempts or not have(run.offer).boot_s or have(run.offer).provider == "rehearsal":
        return None
    ends = f" It ends itself at {run.machine.deadline}." if run.machine else ""
    return Interrupted(
        "Stopped at once.",
        f"What was rented for run {run.row.id} may still be there.{ends}",
        "Find and end it: cloudrun leaks --kill",
    )


def _look_for_leaks(run: Current) -> None:
    """Ask the clouds that were used whether anything of any run was left where they were used."""
    places = {place(attempt.offer) for attempt in run.attempts} if run.is_rented else set()
    for name in {name for name, _ in places}:
        regions = [region for cloud, region in places if cloud == name and region]
        try:
            kept = (*run.journal.open_runs(), *run.journal.kept_runs())
            found = leaks.look([row.id for row in kept], (name,), regions)
        except CloudrunError as error:
            run.tell(Noted(f"What else is left at {name} could not be seen: {error.what}"))
            continue
        left = leaks.to_end(found, everyone=False)
        if left:
            names = ", ".join(leak.resource.id for leak in left[:5])
            run.tell(Noted(f"Left over at {name}: {names}. End it: cloudrun leaks --kill"))


def leave(run: Current) -> None:
    """From the plan to a job that runs; what does not get so far is ended as any run is."""
    try:
        begin(run)
        with phase_of(run, "run"):
            start(run)
            have(run.job).begin()
        have(run.host).close()
    except BaseException as error:
        closing.end(run, error)
        closing.close(run, error)
        raise


def begin(run: Current) -> None:
    """From the plan to a job that runs."""
    with phase_of(run, "plan"):
        run.plan = plan(run.row.need, run.tell)
        run.approve(run.plan)
        run.journal.set_plan(run.row.id, run.plan)
        run.tell(RunStarted(run.row.id, run.plan))
    with phase_of(run, "provision"):
        _provision(run)
    with phase_of(run, "connect"):
        run.host = host = _connect(run)
    need = run.row.need
    with phase_of(run, "prepare"):
        ready = host.prepare(need, teller(run), run.until)
    with phase_of(run, "push"):
        host.push(need, teller(run))
    run.ready = ready


def _provision(run: Current) -> None:
    """Get the machine of the best offer that can be had; its deadline runs from here."""
    whole, until = have(run.plan), time.monotonic() + _TRY_FOR_S
    refused: list[Block] = []
    reasons: dict[str, list[str]] = {}
    remedy = ""
    while (offer := planner.next_attempt(whole, refused)) and time.monotonic() < until:
        try:
            _create(run, offer)
        except CannotHave as error:
            refused.append(Block(offer, error.scope, error.elsewhere))
            run.journal.set_refused(run.row.id, len(refused), str(error))
            run.tell(Noted(f"{offer.where}: {error.what} {error.why}".strip()))
            reasons.setdefault(error.what, []).append(offer.where)
            remedy = error.try_this
        else:
            run.notes += _in_short(reasons)
            return
    raise Unavailable(
        f"None of the {len(refused)} offers that were tried could be had.",
        " ".join(_in_short(reasons)),
        remedy,
    )


def _in_short(reasons: dict[str, list[str]]) -> list[str]:
    """Why offers were refused, a sentence for each reason, with some of the places."""
    return [
        f"{', '.join(places[:3])}{f' and {len(places) - 3} more' if len(places) > 3 else ''}: {why}"
        for why, places in reasons.items()
    ]


def _create(run: Current, offer: Offer) -> None:
    need, number = run.row.need, len(run.attempts) + 1
    run.offer = offer
    run.attempts.append(Attempt(number, offer))
    run.journal.add_attempt(run.row.id, run.attempts[-1])
    run.until = time.monotonic() + planner.job_s(need, offer)
    longest_s = planner.lives_s(need, offer)
    deadline = later(longest_s)
    order = Order(run.row.id, number, deadline, need, run.folder, longest_s)
    machine, interrupt = _to_its_end(lambda: run.provider.create(offer, order))
    run.machine = machine
    run.journal.set_machine(run.row.id, machine)
    if interrupt is not None:
        raise interrupt


def _to_its_end(act: Callable[[], T]) -> tuple[T, KeyboardInterrupt | None]:
    """Do something that Ctrl-C must not tear off in the middle; gives the Ctrl-C that came.

    Who tears off the creation of a machine does not know whether there is one.
    """
    future: Future[T] = Future()
    threading.Thread(target=_fulfil, args=(future, act), daemon=True, name="create").start()
    try:
        return _result(future), None
    except KeyboardInterrupt as interrupt:
        try:
            return _result(future), interrupt
        except CloudrunError as error:
            raise interrupt from error
        except KeyboardInterrupt as second:
            raise _AtOnce from second


class _AtOnce(KeyboardInterrupt):
    """A second Ctrl-C while a machine is ordered: whatever is left then is left."""


def _fulfil(future: Future[T], act: Callable[[], T]) -> None:
    try:
        future.set_result(act())
    except BaseException as error:  # noqa: BLE001 - raised where it is waited for
        future.set_exception(error)


def _result(future: Future[T]) -> T:
    """The result; the waiting can be interrupted, on Windows too."""
    while True:
        with contextlib.suppress(TimeoutError):
            return future.result(timeout=0.2)


def _connect(run: Current) -> Host:
    host = run.provider.connect(have(run.machine), run.person, run.until)
    if run.detach and not host.keeps_jobs:
        raise WrongUsage(
            "A job on this machine ends with its cloudrun, so it cannot be detached.",
            "",
            "Leave --detach out, or name a machine: --on ssh://me@box",
        )
    return host


def _reconnect(run: Current) -> None:
    """Be at the job of an earlier cloudrun."""
    run.tell(RunStarted(run.row.id, have(run.plan)))
    run.host = host = _connect(run)
    run.job = host.resume(run.row.id, *recovery.kept_bytes(run.folder))
    if run.stop_first:
        run.job.stop()


def start(run: Current) -> None:
    """Start the workloads, or the user's command; where it outlives us, the journal knows first."""
    host, ready = have(run.host), have(run.ready)
    need, seconds = run.row.need, max(1, int(run.until - time.monotonic()))
    argv: tuple[str, ...] = (
        *("work.py", "--workload", need.workload),
        *("--device", have(run.offer).device, "--profile", need.profile),
    )
    if need.command is not None:
        argv = need.command.argv
    if host.keeps_jobs:
        run.journal.set_job(run.row.id, later(seconds))
    run.job = host.start(ready, need, Work(run.row.id, argv, seconds, run.environment))


def _finish(run: Current) -> None:
    """Follow the job to its end, and bring everything home."""
    host = have(run.host)
    with phase_of(run, "run"), _results_coming(run, host), _machine_watched(run):
        if run.job is None:
            start(run)
        try:
            _follow(run)
        except DeadlineReached:
            _stop(run)
            raise
        except KeyboardInterrupt as interrupt:
            _stop_or_leave(run, interrupt)
            raise
    with phase_of(run, "collect"):
        # Lines came home while the job ran; what they say is read in `closing.close`.
        _collect(run, host)
    if run.gone:
        raise have(_taken_away(run))


class _Left(Exception):
    """The job goes on without us: the person wants it so, or what its cause says."""


def _judged(run: Current, problem: BaseException) -> BaseException | None:
    """What a problem is to a job that nothing here ends: `_Left` when it is no reason to end it."""
    if run.is_rented and isinstance(problem, _OUT_OF_REACH):
        if run.stop_first:
            run.notes.append("Its machine could not be reached any more when it was ended.")
            return None
        try:
            taken = _taken_away(run)
        except CloudrunError:
            # Nor is the cloud: it is the way from here that is cut.
            return _left_because(problem)
        if taken or run.row.need.command is None:
            return taken or problem
    # Who wants it ended has it ended, as far as the machine can be reached.
    reasons = _OUT_OF_REACH if run.stop_first else _LEAVES_IT
    return _left_because(problem) if isinstance(problem, reasons) else problem


def _left_because(problem: BaseException) -> _Left:
    if isinstance(problem, _Left):
        return problem
    left = _Left()
    left.__cause__ = problem
    return left


# What is no reason to end a job on another machine, and what it has made can be fetched
# when it is mended: the machine is out of reach, or the disk here is full.
_OUT_OF_REACH = (HostUnreachable, Refused, AccessDenied)
_LEAVES_IT = (*_OUT_OF_REACH, BadSettings, Unavailable, _Left)


def _stop_or_leave(run: Current, interrupt: KeyboardInterrupt) -> None:
    """After Ctrl-C and the like: stop the job, or leave it, as the person says.

    A terminal that has gone is no wish to end a job on another machine. A second
    Ctrl-C is one not to wait: what is left then is left as it is, and named.
    """
    if not run.goes_on_without_us:
        _stop(run)
        return
    try:
        can_ask = not isinstance(interrupt, Terminated) and not _is_worth_nothing_alone(run)
        asked = run.person.leave if can_ask else None
        if isinstance(interrupt, HungUp) or (asked and asked()):
            raise _Left from None
        _stop(run)
    except KeyboardInterrupt:
        raise _Left from None


def _is_worth_nothing_alone(run: Current) -> bool:
    """Whether nobody would leave the job: what was rented to be measured costs money."""
    return run.is_rented and run.row.need.command is None


def _follow(run: Current) -> None:
    """Keep all that the job says, and pass it on."""
    job = have(run.job)
    for chunk in job.read(run.until):
        _keep(run, chunk)
        if run.row.need.command is not None:
            run.tell(CommandSaid(chunk.stream, chunk.data))
        elif chunk.stream == 1:
            _take_lines(run, chunk.data)
    run.ended = job.end()
    if run.ended.reason == "deadline":
        raise DeadlineReached("The run's deadline came before its end.")


def _keep(run: Current, chunk: Chunk) -> None:
    """Put what the job says on the disk, for the next cloudrun in case that this one is killed."""
    path = run.folder / (recovery.OUT if chunk.stream == 1 else recovery.ERR)
    try:
        with path.open("ab") as kept:
            kept.write(chunk.data)
    except OSError as error:
        raise BadSettings(
            f"The run's folder {run.folder} cannot be written to.",
            f"{error.strerror}.",
            "Free some room, or set CLOUDRUN_HOME to another folder.",
        ) from error


def _take_lines(run: Current, data: bytes) -> None:
    """Read the workload's lines; what is left of the last one waits for its end."""
    *lines, run.half_line = (run.half_line + data).split(b"\n")
    if len(run.half_line) > build.MOST_LINE_BYTES:
        lines, run.half_line = [*lines, run.half_line], b""
    for line in lines:
        said = build.add(run.findings, line + b"\n")
        if said is not None:
            run.tell(WorkloadSaid(said))


def _stop(run: Current) -> None:
    """Stop the job, and take its last words and results."""
    job = have(run.job)
    if run.ended is None:
        job.stop()
        run.until = time.monotonic() + _LAST_WORDS_S
        with contextlib.suppress(DeadlineReached):
            _follow(run)
    _collect(run, have(run.host))


def _collect(run: Current, host: Host) -> None:
    """Bring home the rest, and with the results of the user's command what its machine is."""
    if run.row.need.command is None:
        return
    with ThreadPoolExecutor(1) as beside:
        described = beside.submit(host.describe)
        _pull(run, host)
        if run.ended is not None:
            run.findings.environment = described.result()


def _pull(run: Current, host: Host) -> None:
    """Bring home the results of the user's command that are new."""
    if run.row.need.command is not None:
        with run.pulling:
            count = host.pull(run.row.need)
        if count:
            run.tell(ResultsCame(count))


@contextlib.contextmanager
def _results_coming(run: Current, host: Host) -> Iterator[None]:
    """Bring results home while the job runs, from time to time, beside following it."""
    over = threading.Event()

    def come() -> None:
        while not over.wait(_RESULTS_EVERY_S):
            # What does not come now comes at the end, where its failure is told.
            with contextlib.suppress(CloudrunError):
                _pull(run, host)

    if run.row.need.command is not None and host.keeps_jobs:
        threading.Thread(target=come, daemon=True, name="results").start()
    try:
        yield
    finally:
        over.set()


@contextlib.contextmanager
def _machine_watched(run: Current) -> Iterator[None]:
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
                _pull(run, have(run.host))
            with contextlib.suppress(CloudrunError):
                have(run.job).stop()

    if run.is_rented:
        threading.Thread(target=watch, daemon=True, name="machine").start()
    try:
        yield
    finally:
        over.set()


def _taken_away(run: Current) -> CloudrunError | None:
    """The error that says that the machine is gone, when it is."""
    if run.gone is None and run.is_rented:
        run.gone = run.provider.gone(have(run.machine))
    if run.gone is None:
        return None
    if have(run.machine).deadline <= now():
        return DeadlineReached("The run's deadline came before its end.")
    again = "Run it again on demand, without --spot." if have(run.offer).spot else "Run it again."
    return HostUnreachable("The run ended before its end.", run.gone, again)


def _left(run: Current, problem: BaseException) -> CloudrunError:
    """What to raise when the job goes on without us."""
    if run.host is not None:
        run.host.close()
    again = f"cloudrun attach {run.row.id}"
    if isinstance(problem, CloudrunError):
        goes_on = "The job may go on there, until its deadline at the latest."
        if run.ended is not None:
            goes_on = "The job has ended; what it made is still on its machine."
        remedy = "" if isinstance(problem, HostUnreachable) else problem.try_this
        problem.why = " ".join(filter(None, [problem.why, goes_on]))
        again = f"cloudrun down {run.row.id}" if run.stop_first else again
        problem.try_this = " ".join(filter(None, [remedy, f"When that is mended: {again}"]))
        return problem
    return Interrupted(
        f"Run {run.row.id} may go on without us.",
        "",
        f"Go on with it: {again}; end it: cloudrun down {run.row.id}",
    )
