"""An offer is one machine that can be had; a plan is the ordered offers for a need."""

from __future__ import annotations

from typing import Literal

import msgspec

from cloudrun.model.need import Need

# `auto`: nobody knows before the machine is reached; torch will use the best that it has.
Device = Literal["cuda", "mps", "cpu", "auto"]


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """One machine that can be had.

    `device` is what torch will compute on; `gpu` its model, where there is
    one. `usd_per_hour` is for the whole machine, in US dollars; `price_as_of`
    is the date of that price (ISO 8601), None for a machine that costs nothing, and
    `price_note` what else there is to know of it.
    `address` is where to reach a machine that is there already; `boot_s` how many
    seconds one that is created takes from the order to the first answer. `longest_s` is
    the most seconds that a run there may take, None where there is no such limit.
    """

    provider: str
    device: Device
    region: str | None = None
    zone: str | None = None
    instance_type: str | None = None
    gpu: str | None = None
    gpu_count: int = 0
    spot: bool = False
    usd_per_hour: float = 0.0
    price_as_of: str | None = None
    price_note: str = ""
    address: str | None = None
    boot_s: float = 0.0
    longest_s: int | None = None

    @property
    def where(self) -> str:
        """The place in a few words: `this machine`, `aws us-east-1a g4dn.xlarge`."""
        if self.provider == "local":
            return "this machine"
        if self.address is not None:
            return self.address
        parts = (self.provider, self.zone or self.region, self.instance_type)
        return " ".join(part for part in parts if part)

    @property
    def device_in_words(self) -> str:
        """The device in a few words: `NVIDIA L4`, `CPU`, `its own device`."""
        return self.gpu or ("its own device" if self.device == "auto" else self.device.upper())


class PhaseForecast(msgspec.Struct, frozen=True):
    """What one phase should take: seconds, and US dollars."""

    phase: str
    seconds: float
    usd: float


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The offers for a need, best first, with the forecast for the first of them."""

    need: Need
    offers: tuple[Offer, ...]
    forecast: tuple[PhaseForecast, ...]
    deadline_s: int

    @property
    def seconds(self) -> float:
        """Predicted duration of the whole run, in seconds."""
        return sum(row.seconds for row in self.forecast)

    @property
    def usd(self) -> float:
        """Predicted cost of the whole run, in US dollars."""
        return sum(row.usd for row in self.forecast)
