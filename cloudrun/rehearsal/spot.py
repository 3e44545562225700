"""Spot requests: made by RunInstances, interrupted by the cloud.

https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instances-request-status-lifecycle.html
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from cloudrun.rehearsal import prices
from cloudrun.rehearsal.account import Account, Instance
from cloudrun.rehearsal.wire import Refused, Request, page, sift

if TYPE_CHECKING:
    from collections.abc import Callable

_FILTERS = {
    "instance-id": "InstanceId",
    "launched-availability-zone": "LaunchedAvailabilityZone",
    "launch.instance-type": "LaunchSpecification.InstanceType",
    "spot-instance-request-id": "SpotInstanceRequestId",
    "state": "State",
    "status-code": "Status.Code",
    "type": "Type",
}
INTERRUPTED = ("Server.SpotInstanceTermination", "Spot instance termination")
_WORDS = {
    "fulfilled": "Your Spot request is fulfilled.",
    "instance-terminated-by-user": "Your Spot instance was terminated due to "
    "user-initiated action.",
    "instance-terminated-by-price": "Your Spot instance was terminated because the Spot price "
    "exceeded your specified maximum price.",
    "instance-terminated-no-capacity": "Your Spot instance was terminated because there is no "
    "longer enough Spot capacity available for the instance.",
    "instance-terminated-capacity-oversubscribed": "Your Spot instance was terminated because the "
    "number of Spot requests with maximum prices equal to or higher than your specified maximum "
    "price exceeded the available capacity in this pool.",
    "marked-for-termination": "Your Spot instance is marked for termination.",
    "pending-evaluation": "Your Spot request has been submitted for review, and is pending "
    "evaluation.",
    "request-canceled-and-instance-running": "Your Spot request is canceled, but your instance is "
    "still running.",
}


def refuse_low_price(account: Account, request: Request) -> None:
    """Refuse a spot machine for less than the spot price.

    https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html

    Raises:
        Refused: SpotMaxPriceTooLow.
    """
    most = _options(request).get("MaxPrice")
    if request.market != "spot" or not most:
        return
    now = prices.spot(account, request.zone, request.instance_type, datetime.now(UTC))
    if now is not None and float(most) < now:
        text = (
            f"Your Spot request price of {most} is lower than the minimum required Spot request "
            f"fulfillment price of {now}."
        )
        raise Refused("SpotMaxPriceTooLow", text)


def fulfil(account: Account, request: Request, instance: Instance) -> None:
    """Note the request that a spot instance fulfils."""
    options = _options(request)
    price = prices.on_demand(instance.region, instance.instance_type)
    tags = [
        tag
        for each in request.params.get("TagSpecifications", [])
        if each["ResourceType"] == "spot-instances-request"
        for tag in each["Tags"]
    ]
    made = {
        "SpotInstanceRequestId": f"sir-{secrets.token_hex(4)}",
        "CreateTime": datetime.now(UTC),
        "InstanceId": instance.id,
        "InstanceInterruptionBehavior": options.get("InstanceInterruptionBehavior", "terminate"),
        "LaunchedAvailabilityZone": instance.zone,
        "LaunchSpecification": {
            "ImageId": instance.image["ImageId"],
            "InstanceType": instance.instance_type,
            "Placement": {"AvailabilityZone": instance.zone},
        },
        "ProductDescription": "Linux/UNIX",
        # Who names no price pays up to the full one.
        "SpotPrice": options.get("MaxPrice") or f"{price or 0:.6f}",
        "Tags": tags,
        "Type": options.get("SpotInstanceType", "one-time"),
    }
    _set(made, "active", "fulfilled")
    instance.spot_request = str(made["SpotInstanceRequestId"])
    account.spot_requests[instance.spot_request] = made


def describe(account: Account, request: Request) -> dict[str, Any]:
    """DescribeSpotInstanceRequests."""
    params = request.params
    ids = params.get("SpotInstanceRequestIds", [])
    for each in ids:
        _find(account, request.region, each)
    found = [
        each
        for name, each in account.spot_requests.items()
        if _region(account, each) == request.region and (not ids or name in ids)
    ]
    part, token = page(sift(found, params.get("Filters", []), _FILTERS), params, 1000)
    return {"SpotInstanceRequests": part, "NextToken": token}


def cancel(account: Account, request: Request) -> dict[str, Any]:
    """CancelSpotInstanceRequests: the instances go on running, and costing."""
    ids = request.params["SpotInstanceRequestIds"]
    for made in [_find(account, request.region, each) for each in ids]:
        if made["State"] in ("active", "open"):
            running = account.instances[made["InstanceId"]].state in ("pending", "running")
            code = "request-canceled-and-instance-running" if running else made["Status"]["Code"]
            _set(made, "cancelled", code)
    answer = [{"SpotInstanceRequestId": each, "State": "cancelled"} for each in ids]
    return {"CancelledSpotInstanceRequests": answer}


def mark(
    account: Account, instance: Instance, why: str, stop: Callable[[], None], s: float
) -> None:
    """Give a spot instance notice, and let `stop` end it in so many seconds.

    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html
    """
    if f"instance-terminated-{why}" not in _WORDS:
        raise ValueError(f"no spot instance is interrupted {why!r}")
    made = account.spot_requests[instance.spot_request]
    _set(made, made["State"], "marked-for-termination")
    instance.interrupted = why
    account.clock.after(s, stop)


def ended(account: Account, instance: Instance) -> None:
    """Close the request of an instance that is terminated, or open a persistent one again."""
    made = account.spot_requests.get(instance.spot_request)
    if made is None:
        return
    why = instance.interrupted if instance.reason == INTERRUPTED else "by-user"
    if made["State"] == "cancelled":
        _set(made, "cancelled", f"instance-terminated-{why}")
    elif made["Type"] == "persistent":
        # It waits to be fulfilled again: what is not cancelled costs again.
        _set(made, "open", "pending-evaluation")
    else:
        _set(made, "closed", f"instance-terminated-{why}")


def _options(request: Request) -> dict[str, Any]:
    return dict(request.params.get("InstanceMarketOptions", {}).get("SpotOptions", {}))


def _set(made: dict[str, Any], state: str, code: str) -> None:
    made["State"] = state
    made["Status"] = {"Code": code, "Message": _WORDS[code], "UpdateTime": datetime.now(UTC)}


def _find(account: Account, region: str, request_id: str) -> dict[str, Any]:
    made = account.spot_requests.get(request_id)
    if made is None or _region(account, made) != region:
        text = f"The spot instance request ID '{request_id}' does not exist"
        raise Refused("InvalidSpotInstanceRequestID.NotFound", text)
    return made


def _region(account: Account, made: dict[str, Any]) -> str:
    return account.instances[made["InstanceId"]].region
