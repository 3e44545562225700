"""What the rehearsal's AWS account has, and how its cloud shall behave: data for tests to set."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from cloudrun.rehearsal.backend import Moto
from cloudrun.rehearsal.clock import Clock
from cloudrun.rehearsal.faults import Fault
from cloudrun.rehearsal.wire import Answer, Refused, Request


class Machines(Protocol):
    """Whoever gives instances a real machine. Both calls are to return at once."""

    def start(
        self, instance_id: str, user_data: bytes, *, region: str, instance_type: str, image: str
    ) -> str:
        """Begin to start a machine with the image of that name; the user data is decoded.

        Returns the address where it will be reached. May raise `Refused`.
        """

    def stop(self, instance_id: str) -> None:
        """Take the machine away, with all that is on it. It may be gone already."""


@dataclass
class Instance:
    """An instance, beyond what moto knows of it.

    Attributes:
        state: As AWS names it: `pending`, `running`, `shutting-down`, `terminated`,
            `stopping`, `stopped`.
        reason: Code and message of `StateReason`; empty if none.
        transition: `StateTransitionReason`.
        visible_at: From when on other calls know of it, by the cloud's clock.
        address: Of its machine; empty if none gives it one.
        spot_request: The id of the spot request it fulfils; empty on demand.
        interrupted: Why the cloud takes it back, as in `Cloud.interrupt`; empty if it does not.
    """

    id: str
    region: str
    zone: str
    instance_type: str
    market: str
    vcpus: int
    image: dict[str, Any]
    visible_at: float
    state: str = "pending"
    reason: tuple[str, str] = ("", "")
    transition: str = ""
    address: str = ""
    spot_request: str = ""
    interrupted: str = ""


@dataclass
class Account:
    """The account and its cloud.

    Attributes:
        machines: Gives instances real machines; None: they only exist on paper.
        pending_s: How long an instance is `pending`.
        ending_s: How long it is `shutting-down` or `stopping`.
        blind_s: How long after RunInstances other calls do not know the new instance.
        latency: Seconds that an action takes, by its name; `*` is for all others.
        faults: What goes wrong; the first that fits a request strikes.
        deny: Actions that the caller may not do, as IAM writes them: `ec2:RunInstances`.
        before: Called with each request before anything is done.
        after: Called with each request and its answer when all is done, before it is sent.
        opted_in: Regions opted into, beyond those that every account has.
        quotas: vCPUs by region and quota code, where they are not the usual ones.
        spot_prices: US dollars per hour by zone and instance type, where not the usual ones.
        refuses_ended_tokens: Whether RunInstances with the token of an instance that is
            terminated is refused, with IdempotentInstanceTerminated, instead of
            being answered as before. AWS documents both.
        console: What GetConsoleOutput says, by instance id.
        requests: Every request so far, in the order they came.
    """

    machines: Machines | None = None
    pending_s: float = 0
    ending_s: float = 0
    blind_s: float = 0
    latency: dict[str, float] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    deny: set[str] = field(default_factory=set)
    before: Callable[[Request], None] | None = None
    after: Callable[[Request, Answer], None] | None = None
    opted_in: set[str] = field(default_factory=set)
    quotas: dict[tuple[str, str], float] = field(default_factory=dict)
    spot_prices: dict[tuple[str, str], float] = field(default_factory=dict)
    refuses_ended_tokens: bool = False
    console: dict[str, str] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)

    instances: dict[str, Instance] = field(default_factory=dict)
    spot_requests: dict[str, dict[str, Any]] = field(default_factory=dict)
    tokens: dict[tuple[str, str], tuple[dict[str, Any], list[str]]] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)
    moto: Moto = field(default_factory=Moto)
    clock: Clock = field(init=False)

    def __post_init__(self) -> None:
        self.clock = Clock(self.lock)

    def visible(self, region: str, instance_id: str) -> Instance:
        """The instance, as other calls than RunInstances see it.

        https://docs.aws.amazon.com/ec2/latest/devguide/eventual-consistency.html

        Raises:
            Refused: There is none in the region, or not yet.
        """
        instance = self.instances.get(instance_id)
        if instance is None or instance.region != region or not self.sees(instance):
            text = f"The instance ID '{instance_id}' does not exist"
            raise Refused("InvalidInstanceID.NotFound", text)
        return instance

    def sees(self, instance: Instance) -> bool:
        """Whether the news of the instance has gone round."""
        return self.clock.now() >= instance.visible_at
