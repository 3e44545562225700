"""Calls to AWS: the clients, what AWS's errors mean, and how long to insist.

The codes are those of https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from cloudrun.errors import (
    AccessDenied,
    BadSettings,
    CannotHave,
    CloudrunError,
    NoCredentials,
    NotInstalled,
    Unavailable,
)
from cloudrun.providers.base import install_command
from cloudrun.providers.patience import Lost, Throttled, patiently

# Where the price list is, and where to begin when nobody names a region.
US_EAST = "us-east-1"
_CONNECT_S, _READ_S = 5, 20

_ZONE = {
    "InsufficientInstanceCapacity",
    "InsufficientHostCapacity",
    "InsufficientFreeAddressesInSubnet",
    "Unsupported",
}
_REGION = {
    "VcpuLimitExceeded",
    "InstanceLimitExceeded",
    "MaxSpotInstanceCountExceeded",
    "SpotMaxPriceTooLow",
}
_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "RequestExpired"}
_NO_PERMISSION = {"UnauthorizedOperation", "AccessDenied", "AccessDeniedException"}
_NO_CREDENTIALS = {
    "AuthFailure",
    "InvalidClientTokenId",
    "MissingAuthenticationToken",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
}
_ACCOUNT = {"Blocked", "OptInRequired", "PendingVerification"}
_AGAIN = {
    "InternalError",
    "InternalFailure",
    "RequestLimitExceeded",
    "ServerInternal",
    "ServiceUnavailable",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
    "Unavailable",
}
_QUOTAS_PAGE = "https://console.aws.amazon.com/servicequotas/home/services/ec2/quotas"


def client(service: str, region: str, *, retries: int = 3, quick: bool = False) -> Any:
    """The client of a service in a region; made once.

    Args:
        service: Such as `ec2`.
        region: Such as `us-east-1`.
        retries: How often botocore itself tries.
        quick: It is one of many, and will do without an answer.

    Raises:
        BadSettings: boto3 is not installed (NotInstalled), or the settings for AWS are wrong.
    """
    session()
    from botocore.exceptions import BotoCoreError

    try:
        with _lock:
            return _client(service, region, 2 if quick else retries, 4 if quick else _READ_S)
    except (BotoCoreError, ValueError) as error:
        raise BadSettings(
            "The settings for AWS cannot be used.",
            f"{str(error).rstrip('.')}.",
            "Look at ~/.aws/config and at the variables AWS_... of this shell.",
        ) from error


_lock = threading.Lock()


@functools.cache
def _client(service: str, region: str, retries: int, read_s: int) -> Any:
    from botocore.config import Config

    settings = Config(
        connect_timeout=_CONNECT_S,
        read_timeout=read_s,
        retries={"total_max_attempts": retries, "mode": "standard"},
        max_pool_connections=8,
    )
    return session().client(service, region_name=region, config=settings)


@functools.cache
def session() -> Any:
    """The user's AWS session: profile, environment, SSO, as every AWS tool finds them."""
    try:
        import boto3
        from botocore.exceptions import BotoCoreError, ProfileNotFound
    except ImportError as error:
        raise NotInstalled(
            "cloudrun's part for AWS is not installed.",
            "It needs boto3.",
            install_command("aws"),
        ) from error
    try:
        return boto3.session.Session()
    except ProfileNotFound as error:
        raise BadSettings(
            f"{error}.",
            "AWS_PROFILE names it.",
            "See which there are: aws configure list-profiles",
        ) from error
    except BotoCoreError as error:
        raise BadSettings(
            "The settings for AWS cannot be read.",
            f"{str(error).rstrip('.')}.",
            "Look at ~/.aws/config and ~/.aws/credentials.",
        ) from error


def forget() -> None:
    """Forget the session and the clients: who we are has changed."""
    _client.cache_clear()
    session.cache_clear()


def home_region() -> str:
    """The region that the user's settings for AWS name, else the one where AWS began.

    boto3 does not know AWS_REGION, which AWS's other tools put first.
    """
    return os.environ.get("AWS_REGION") or session().region_name or US_EAST


def ask(doing: str, call: Callable[..., Any], **parameters: Any) -> Any:
    """Call AWS once; its errors become ours, with `doing` in them ("start a machine").

    Raises:
        CannotHave: no capacity, or a quota.
        AccessDenied: credentials or permissions.
        Lost: no answer that makes sense.
        CloudrunError: anything else, with AWS's own code and words.
    """
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

    try:
        return call(**parameters)
    except ClientError as error:
        raise explained(error, doing, call) from error
    except (BotoCoreError, ResponseParserError) as error:
        raise _unanswered(error, doing) from error


def insist(
    doing: str, call: Callable[..., Any], *, late: Sequence[str] = (), **parameters: Any
) -> Any:
    """Call AWS until it answers: for what does no harm when it is done twice.

    Args:
        doing: As for `ask`.
        call: As for `ask`.
        late: Codes of what was made a moment ago and is not known everywhere yet.
        parameters: Of the call.

    Raises:
        As `ask`; Lost, throttling, and what is late, only after a minute.
    """

    def act() -> Any:
        try:
            return ask(doing, call, **parameters)
        except CloudrunError as error:
            if code_of(error.__cause__) in late:
                raise Throttled(error.what, error.why, error.try_this) from error.__cause__
            raise

    return patiently(act)


def everything(doing: str, client: Any, operation: str, key: str, **parameters: Any) -> list[Any]:
    """All pages of a list.

    Raises:
        As `ask`.
    """

    def pages() -> list[Any]:
        found = client.get_paginator(operation).paginate(**parameters)
        return [item for page in found for item in page.get(key, [])]

    pages.__name__ = operation
    return list(ask(doing, pages))


@contextlib.contextmanager
def reading(doing: str) -> Iterator[None]:
    """Read an answer; one that lacks what AWS says it holds makes no sense.

    Raises:
        Lost: so it is.
    """
    try:
        yield
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise no_sense(doing, f"{type(error).__name__}: {error}.") from error


def code_of(error: BaseException | None) -> str:
    """AWS's own code of an error that came from it; empty without one."""
    response = getattr(error, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))


@contextlib.contextmanager
def allowing(*codes: str) -> Iterator[None]:
    """Let pass an answer that says that it is so already."""
    try:
        yield
    except CloudrunError as error:
        if code_of(error.__cause__) not in codes:
            raise


def explained(error: Any, doing: str, call: Any = None) -> CloudrunError:
    """Say in our words what AWS's error means; an unknown one in AWS's own."""
    code = code_of(error)
    said = str(error.response.get("Error", {}).get("Message", "")).strip()[:500]
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    quoted = f"AWS says {code}: {said}"
    if code in _ZONE:
        return CannotHave("AWS has no machine of this type here now.", quoted, _ELSE, scope="zone")
    if code in _REGION:
        return CannotHave(
            "Your quota at AWS does not allow this machine here.",
            quoted,
            f"Ask for more, which takes AWS a day or so: {_QUOTAS_PAGE}",
            scope="region",
        )
    if code in _EXPIRED:
        return AccessDenied("Your credentials for AWS have expired.", quoted, _log_in())
    if code in _NO_CREDENTIALS:
        return AccessDenied("AWS does not accept your credentials.", quoted, _log_in())
    if code in _NO_PERMISSION:
        return _not_allowed(doing, getattr(call, "__name__", doing), quoted)
    if code in _ACCOUNT:
        return AccessDenied(
            f"Your account at AWS is not ready to {doing}.",
            quoted,
            "Look at https://console.aws.amazon.com/billing and your mail from AWS.",
        )
    if code in _AGAIN or status >= 500:
        return Throttled(f"AWS did not {doing}.", quoted, "Try again in a few minutes.")
    return Unavailable(f"AWS did not {doing}.", quoted, "")


def _not_allowed(doing: str, operation: str, quoted: str) -> CloudrunError:
    """A permission that is missing; where a company's rules forbid a region, others may do."""
    named = re.search(r"perform: ([\w-]+:\w+)", quoted)
    action = named[1] if named else _action(operation)
    what = f"AWS does not allow you to {doing}."
    if "service control policy" in quoted and operation == "run_instances":
        return CannotHave(f"{what[:-1]} here.", quoted, _ELSE, scope="region")
    return AccessDenied(
        what,
        f"Your user lacks the permission for {action}. {quoted}",
        "See all that is missing: cloudrun doctor",
    )


_ELSE = "Try another region, another GPU, or the same later."


def no_sense(doing: str, why: str) -> Lost:
    """The error for an answer that is none."""
    return Lost(
        f"AWS gave no answer that makes sense when it was to {doing}.",
        why,
        "Look at the network here, and at https://health.aws.amazon.com",
    )


def _log_in() -> str:
    profile = os.environ.get("AWS_PROFILE", "")
    login = f"aws sso login --profile {profile}" if profile else "aws sso login, or aws configure"
    return f"Log in again ({login}), then: cloudrun doctor"


def _action(name: str) -> str:
    """A call's permission, as IAM names it: `run_instances` to `ec2:RunInstances`."""
    return "ec2:" + "".join(part.capitalize() for part in name.split("_"))


def _unanswered(error: Exception, doing: str) -> CloudrunError:
    from botocore import exceptions, parsers

    missing = (
        exceptions.NoCredentialsError,
        exceptions.PartialCredentialsError,
        exceptions.CredentialRetrievalError,
        exceptions.SSOError,
        exceptions.TokenRetrievalError,
    )
    words = f"{str(error).rstrip('.')}."
    if isinstance(error, missing):
        none = isinstance(error, exceptions.NoCredentialsError)
        return (NoCredentials if none else AccessDenied)(
            "There are no credentials for AWS that work.",
            words,
            "Set them up (aws configure, or aws sso login), then: cloudrun doctor",
        )
    lost = (
        exceptions.HTTPClientError,
        exceptions.ConnectionError,
        parsers.ResponseParserError,
    )
    if isinstance(error, lost):
        return no_sense(doing, words[:500])
    return Unavailable(f"AWS could not be asked to {doing}.", words[:500], "")
