"""The tags by which everything of ours is found again; put on at creation, never later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cloudrun.providers.base import owner

RUN, OWNER, DEADLINE = "cloudrun-run", "cloudrun-owner", "cloudrun-deadline"


def tags(run_id: str, deadline: str) -> list[dict[str, str]]:
    """The tags of a run's resources, as AWS takes them."""
    named = {
        "Name": f"cloudrun-{run_id}",
        RUN: run_id,
        OWNER: owner(),
        DEADLINE: deadline,
    }
    return [{"Key": key, "Value": value} for key, value in named.items()]


def token(run_id: str) -> str:
    """How the tokens of a run's orders begin."""
    return f"cloudrun-{run_id}-"


def read(resource: Mapping[str, Any]) -> dict[str, str]:
    """The tags that a resource has."""
    return {str(tag.get("Key")): str(tag.get("Value", "")) for tag in resource.get("Tags") or []}


def of_run(run_id: str) -> Sequence[dict[str, Any]]:
    """The filter for what belongs to a run."""
    return [{"Name": f"tag:{RUN}", "Values": [run_id]}]


OF_ANY_RUN: Sequence[dict[str, Any]] = [{"Name": "tag-key", "Values": [RUN]}]
