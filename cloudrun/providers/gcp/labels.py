"""The labels by which everything of ours is found again; put on at creation, never later.

A label's value has lower-case letters, digits, `-` and `_` only; firewall rules have no
labels, so theirs stand in the description.
https://cloud.google.com/compute/docs/labeling-resources#requirements
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from cloudrun.model.run import rfc3339
from cloudrun.providers import base

RUN, OWNER, DEADLINE = "cloudrun-run", "cloudrun-owner", "cloudrun-deadline"
OF_ANY_RUN = f"labels.{RUN}:*"
_REGION = "cloudrun-region"
_MOST = 63


def labels(run_id: str, deadline: str) -> dict[str, str]:
    """The labels of a run's resources; the deadline in seconds since 1970."""
    seconds = int(datetime.fromisoformat(deadline).timestamp())
    return {RUN: run_id, OWNER: _owner(), DEADLINE: str(seconds)}


def of_run(run_id: str) -> str:
    """The filter for what belongs to a run."""
    return f"labels.{RUN}={run_id}"


def description(run_id: str, deadline: str, region: str) -> str:
    """The labels of what has none, as text, and the region of what is in none."""
    said = {**labels(run_id, deadline), _REGION: region}
    return " ".join(f"{name}={value}" for name, value in said.items())


def described(row: Mapping[str, Any]) -> dict[str, str]:
    """The labels that a description holds; empty when it is no description of ours."""
    found = dict(re.findall(r"(cloudrun-[a-z]+)=(\S+)", str(row.get("description") or "")))
    return found if RUN in found else {}


def region(said: Mapping[str, str]) -> str:
    """The region that a description names."""
    return said.get(_REGION, "")


def read(said: Mapping[str, str]) -> dict[str, str]:
    """Run, owner and deadline (RFC 3339) as labels say them."""
    owner, seconds = said.get(OWNER, ""), said.get(DEADLINE, "")
    known = seconds.isdigit() and len(seconds) < 12
    return {
        "run": said.get(RUN, ""),
        # What is ours is called as we are, not as a label can say it.
        "owner": base.owner() if owner == _owner() else owner,
        "deadline": rfc3339(datetime.fromtimestamp(int(seconds), UTC)) if known else "",
    }


def moment(text: str) -> str:
    """A moment as Google writes it, in some zone's time, as we do."""
    return rfc3339(datetime.fromisoformat(text))


def _owner() -> str:
    return re.sub(r"[^a-z0-9_-]+", "_", base.owner().lower())[:_MOST]
