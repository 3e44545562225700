"""What goes wrong in a cloud, as data: an error for some requests, or an answer that does not come.

    cloud.faults += [no_capacity(zone="us-east-1a"), Fault("TerminateInstances", how="lost after")]

Codes and HTTP statuses: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html
(a server's error, such as no capacity, is of the 500s), and for the other services
https://docs.aws.amazon.com/awssupport/latest/APIReference/CommonErrors.html
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from cloudrun.rehearsal.wire import Refused, Request

How = Literal["error", "lost before", "lost after", "hang", "html", "cut"]


@dataclass(eq=False)
class Fault:
    """One thing that goes wrong.

    Attributes:
        action: Such as `RunInstances`; `*` is any.
        code: Of the error, as in `ERRORS`, or of your own with `status` and `message`.
        times: How many requests it strikes; None: all.
        skip: How many fitting requests it lets pass first.
        region: Only there. So with `zone`, `market` (`spot` or `on-demand`) and
            `instance_type`, which only RunInstances has.
        how: `error`: the error is answered and nothing done. `lost before`: the
            connection is closed without a byte, nothing done. `lost after`: it is
            done, but nobody is told. `hang`: nothing done, and no answer until the
            cloud stops. `html`: a proxy's 502 page, nothing done. `cut`: it is
            done, and half of the answer comes.
        fitted: How many requests it fitted while it was in force.
    """

    action: str
    code: str = ""
    times: int | None = None
    skip: int = 0
    region: str = ""
    zone: str = ""
    market: str = ""
    instance_type: str = ""
    how: How = "error"
    status: int = 0
    message: str = ""
    fitted: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        known = self.code in ERRORS or (self.status and self.message)
        if self.how == "error" and not known:
            raise ValueError(f"a fault of code {self.code!r} needs a status and a message")

    def fits(self, request: Request) -> bool:
        """Whether it may strike this request."""
        wanted = (self.region, self.zone, self.market, self.instance_type)
        there = (request.region, request.zone, request.market, request.instance_type)
        return self.action in ("*", request.action) and all(
            want in ("", is_) for want, is_ in zip(wanted, there, strict=True)
        )

    def error(self, account: str, request: Request) -> Refused:
        """What is answered."""
        if self.message:
            return Refused(self.code, self.message, self.status or 400)
        return error(self.code, account, request)


def no_capacity(**where: Any) -> Fault:
    """No machine to be had: in a zone, of a type, for a market, for some times."""
    return Fault("RunInstances", "InsufficientInstanceCapacity", **where)


def throttled(action: str, times: int) -> Fault:
    """Too many requests, for some times."""
    return Fault(action, "RequestLimitExceeded", times=times)


def error(code: str, account: str, request: Request) -> Refused:
    """The error of that code in AWS's words.

    Raises:
        KeyError: The rehearsal has no words for it.
    """
    status, words = ERRORS[code]
    return Refused(code, words(account, request) if callable(words) else words, status)


def not_allowed(account: str, request: Request, action: str) -> Refused:
    """What a service answers who lacks the permission for an action, `ec2:RunInstances`.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_access-denied.html
    """
    who = f"arn:aws:iam::{account}:user/cloudrun"
    what = f"is not authorized to perform: {action} on resource: {_resource(account, request)}"
    why = f"because no identity-based policy allows the {action} action"
    if request.service != "ec2":
        code = "AccessDenied" if request.service == "sts" else "AccessDeniedException"
        status = 403 if request.service == "sts" else 400
        return Refused(code, f"User: {who} {what} {why}", status)
    secret = hashlib.sha512(f"{who} {what}".encode()).hexdigest()
    text = f"You are not authorized to perform this operation. User: {who} {what} {why}."
    encoded = f"Encoded authorization failure message: {secret}"
    return Refused("UnauthorizedOperation", f"{text} {encoded}", 403)


def _resource(account: str, request: Request) -> str:
    if request.action == "RunInstances":
        return f"arn:aws:ec2:{request.region}:{account}:instance/*"
    return "*"


def _unauthorized(account: str, request: Request) -> str:
    return not_allowed(account, request, f"ec2:{request.action}").message


def _no_capacity(_account: str, request: Request) -> str:
    kind, zone = request.instance_type, request.zone
    if request.market == "spot":
        return "There is no Spot capacity available that matches your request."
    others = ", ".join(f"{request.region}{letter}" for letter in "abc" if not zone.endswith(letter))
    return (
        f"We currently do not have sufficient {kind} capacity in the Availability Zone you "
        f"requested ({zone}). Our system will be working on provisioning additional capacity. "
        f"You can currently get {kind} capacity by not specifying an Availability Zone in your "
        f"request or choosing {others}."
    )


def _unsupported(_account: str, request: Request) -> str:
    return (
        f"Your requested instance type ({request.instance_type}) is not supported in your "
        f"requested Availability Zone ({request.zone}). Please retry your request by not "
        "specifying an Availability Zone or choosing another one."
    )


Words = str | Callable[[str, Request], str]

ERRORS: dict[str, tuple[int, Words]] = {
    "AccessDeniedException": (400, "User is not authorized to perform this action."),
    "AuthFailure": (401, "AWS was not able to validate the provided access credentials"),
    "Blocked": (403, "This account is currently blocked and not recognized as a valid account."),
    "ExpiredToken": (400, "The security token included in the request is expired"),
    "ExpiredTokenException": (400, "The security token included in the request is expired"),
    "InsufficientInstanceCapacity": (500, _no_capacity),
    "InternalError": (500, "An internal error has occurred"),
    "InternalFailure": (500, "The request processing has failed because of an unknown error."),
    "InvalidClientTokenId": (403, "The security token included in the request is invalid."),
    "MaxSpotInstanceCountExceeded": (400, "Max spot instance count exceeded"),
    "OptInRequired": (
        401,
        "You are not subscribed to this service. Please go to http://aws.amazon.com to subscribe.",
    ),
    "PendingVerification": (
        400,
        "Your request for accessing resources in this region is being validated, and you will not "
        "be able to launch additional resources in this region until the validation is complete. "
        "We will notify you by email once your request has been validated. While normally "
        "resolved within minutes, please allow up to 4 hours for this process to complete.",
    ),
    "RequestExpired": (400, "Request has expired."),
    "RequestLimitExceeded": (503, "Request limit exceeded."),
    "ServiceUnavailable": (503, "The request has failed due to a temporary failure of the server."),
    "ThrottlingException": (400, "Rate exceeded"),
    "TooManyRequestsException": (429, "Too Many Requests"),
    "UnauthorizedOperation": (403, _unauthorized),
    "Unavailable": (503, "The server is overloaded and can't handle the request."),
    "Unsupported": (400, _unsupported),
    "VcpuLimitExceeded": (
        400,
        "You have requested more vCPU capacity than your current vCPU limit of 0 allows for the "
        "instance bucket that the specified instance type belongs to. Please visit "
        "http://aws.amazon.com/contact-us/ec2-request to request an adjustment to this limit.",
    ),
}
