"""Get a machine: what can be had, the plan, and one offer after the other until one is ours."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from cloudrun.errors import CannotHave, CloudrunError, NoCredentials, Unavailable
from cloudrun.launcher import planner
from cloudrun.launcher.current import Current, have
from cloudrun.launcher.journal import Attempt
from cloudrun.launcher.planner import Block
from cloudrun.model.events import Listener, Noted
from cloudrun.model.need import NOTEBOOKS, Need, provider_of
from cloudrun.model.offer import Offer, Plan
from cloudrun.model.run import later
from cloudrun.providers import base as providers
from cloudrun.providers.base import Order

T = TypeVar("T")

# So long other offers are tried: who waits longer had better choose another GPU.
_TRY_FOR_S = 300.0


def plan(need: Need, tell: Listener = lambda _event: None) -> Plan:
    """Ask the targets' providers what can be had, and plan with it. Creates nothing.

    `tell` is told of clouds that are passed over, and of where nobody could look.

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
        told: list[str] = []
        answers = [pool.submit(providers.load(name).offers, need, told.append) for name in asked]
    found: list[Offer] = []
    empty: list[str] = []
    problems: list[CloudrunError] = []
    for name, answer in zip(asked, answers, strict=True):
        try:
            had = answer.result()
            found += had
            empty += [] if had else [f"{name} has nothing that fits."]
        except (*providers.NEVER_SET_UP, Unavailable) as error:
            problems.append(error)
    if problems and not found:
        first, *others = problems
        first.why = " ".join([first.why, *map(_in_words, others)]).strip()
        raise first
    for sentence in [*map(_in_words, problems), *(empty if found else ()), *told]:
        tell(Noted(sentence))
    return planner.in_order(found)


def _in_words(problem: CloudrunError) -> str:
    return f"{problem.what} {problem.why}".strip()


def provision(run: Current) -> None:
    """Get the machine of the best offer that can be had; its deadline runs from here."""
    whole, until = have(run.plan), time.monotonic() + _TRY_FOR_S
    refused: list[Block] = []
    reasons: dict[str, list[str]] = {}
    last: CloudrunError | None = None
    while (offer := planner.next_attempt(whole, refused)) and time.monotonic() < until:
        try:
            _create(run, offer)
        except (CannotHave, NoCredentials) as error:
            last = error
            refused.append(_block(offer, error))
            run.journal.set_refused(run.row.id, run.attempts[-1].number, str(error))
            run.tell(Noted(f"{offer.where}: {error.what} {error.why}".strip()))
            reasons.setdefault(error.what, []).append(offer.where)
        else:
            run.notes += _in_short(reasons)
            return
    if last is not None and len(refused) == 1:
        raise last
    raise Unavailable(
        f"None of the {len(refused)} offers that were tried could be had.",
        " ".join(_in_short(reasons)),
        last.try_this if last else "",
    )


def _block(offer: Offer, error: CannotHave | NoCredentials) -> Block:
    """What a refusal stops; who does not know us refuses everything."""
    if isinstance(error, CannotHave):
        return Block(offer, error.scope, error.elsewhere)
    return Block(offer, "cloud")


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
    order = Order(
        run.row.id, number, deadline, need, run.folder, longest_s, run.detach, run.environment
    )
    # What is lent can be given back at any moment.
    is_lent = offer.provider in NOTEBOOKS
    machine, interrupt = _to_its_end(
        lambda: run.provider.create(offer, order),
        lambda: is_lent and run.provider.terminate(run.row.id, offer.region, None),
    )
    run.machine = machine
    run.journal.set_machine(run.row.id, machine)
    if interrupt is not None:
        raise interrupt


def _to_its_end(
    act: Callable[[], T], give_up: Callable[[], object]
) -> tuple[T, KeyboardInterrupt | None]:
    """Do something that Ctrl-C must not tear off in the middle; gives the Ctrl-C that came.

    Who tears off the creation of a machine does not know whether there is one. After a
    Ctrl-C, `give_up` may see to it that the end comes soon.
    """
    future: Future[T] = Future()
    threading.Thread(target=_fulfil, args=(future, act), daemon=True, name="create").start()
    try:
        return _result(future), None
    except KeyboardInterrupt as interrupt:
        try:
            give_up()
            return _result(future), interrupt
        except CloudrunError as error:
            raise interrupt from error
        except KeyboardInterrupt as second:
            raise AtOnce from second


class AtOnce(KeyboardInterrupt):
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
