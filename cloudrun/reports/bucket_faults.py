"""What a cloud's storage says when it does not do what is asked, in our words."""

from __future__ import annotations

import re

from cloudrun.errors import (
    AccessDenied,
    BadSettings,
    CloudrunError,
    HostUnreachable,
    NoCredentials,
)
from cloudrun.model.words import clean

_CLOUDS = {"s3": "Amazon S3", "gs": "Google Cloud Storage", "az": "Azure Blob Storage"}
LOG_IN = {
    "s3": "Log in: aws configure, or aws sso login; or set AWS_ACCESS_KEY_ID and "
    "AWS_SECRET_ACCESS_KEY.",
    "gs": "Log in: gcloud auth application-default login; or set GOOGLE_APPLICATION_CREDENTIALS.",
    "az": "Log in: az login; or set AZURE_STORAGE_KEY or AZURE_STORAGE_CONNECTION_STRING.",
}
_PERMISSIONS = {
    "s3": "s3:ListBucket, s3:GetObject and s3:PutObject",
    "gs": "storage.objects.list, storage.objects.get and storage.objects.create (the role "
    "Storage Object User)",
    "az": "the role Storage Blob Data Contributor",
}
# The codes of S3 and of Google's XML interface are the same; Azure has its own.
_NO_BUCKET = ("NoSuchBucket", "ContainerNotFound", "ResourceNotFound", "InvalidBucketName")
_CLOCK = ("RequestTimeTooSkewed", "RequestExpired")
_TOO_OFTEN = ("SlowDown", "Throttling", "ServerBusy", "TooManyRequests", "RequestLimitExceeded")
_NOT_KNOWN = (
    "ExpiredToken", "TokenRefreshRequired", "InvalidToken", "InvalidAccessKeyId",
    "SignatureDoesNotMatch", "AuthenticationFailed", "InvalidAuthenticationInfo",
)  # fmt: skip
_ELSEWHERE = ("PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraint")


def explained(error: Exception, scheme: str, bucket: str, verb: str) -> CloudrunError:
    """The error to raise for one of obstore's: `verb` is what the bucket cannot."""
    if isinstance(error, CloudrunError):
        return error
    code, status, said = _code(error), _status(error), _said(error)
    what = f"The bucket {scheme}://{bucket} cannot {verb}."
    cloud = _CLOUDS[scheme]
    why = f"{cloud} says: {said}."
    if code in _CLOCK:
        return AccessDenied(what, f"{why} This machine's clock is wrong.", "Set it right.")
    if code in _NO_BUCKET or (status == 404 and not code):
        return BadSettings(
            what, why, "Make it with the cloud's own tools, or name another with --store."
        )
    if code in _ELSEWHERE or "without LOCATION" in str(error):
        where = f"aws s3api get-bucket-location --bucket {bucket}"
        return BadSettings(
            what, why, f"Set AWS_REGION to the bucket's region; which it is: {where}"
        )
    if _asked_for_credentials(error):
        return NoCredentials(what, f"No credentials for {cloud} were found here.", LOG_IN[scheme])
    if code in _NOT_KNOWN or status == 401:
        return AccessDenied(what, why, LOG_IN[scheme])
    if status == 403:
        return AccessDenied(what, why, f"You need {_PERMISSIONS[scheme]} for it.")
    if code in _TOO_OFTEN or status == 429:
        return HostUnreachable(what, why, "It is asked too often just now. Try again in a minute.")
    if status is not None or "HTTP error" not in _first_line(error):
        return HostUnreachable(what, why, "Try again later.")
    return HostUnreachable(
        what, f"{cloud} gave no answer: {said}.", "Look at your network, then try again."
    )


def is_of_one_object(error: Exception) -> bool:
    """Whether only this object cannot be had: it has gone, or may not be read."""
    code = _code(error)
    if isinstance(error, FileNotFoundError):
        return code not in _NO_BUCKET
    return _status(error) == 403 and code not in (*_CLOCK, *_NOT_KNOWN)


def _code(error: Exception) -> str:
    found = re.search(r"<Code>([A-Za-z0-9]{1,60})</Code>", str(error))
    return found[1] if found else ""


def _status(error: Exception) -> int | None:
    found = re.search(r"status code: (\d{3})", _first_line(error))
    return int(found[1]) if found else None


def _said(error: Exception) -> str:
    """What the cloud said, or the network, without addresses and a request's details."""
    told = re.search(r"<Message>([^<]{1,300})", str(error))
    if code := _code(error):
        return clean(f"{code}: {told[1]}" if told else code).rstrip(".")
    line = _first_line(error)
    if "HTTP error" in line:
        # The system's own word for it is the innermost: `Connection refused`.
        causes = re.findall(r'(?:message|error): "([^"]{1,200})"', str(error))
        return clean((causes or [line.rpartition(" - ")[2]])[-1])
    # What follows is a page for a browser, or many lines.
    return clean(line.rpartition(" - ")[2].splitlines()[0].partition(": <")[0])[:300].rstrip(".: ")


def _asked_for_credentials(error: Exception) -> bool:
    text = _first_line(error)
    return any(
        word in text
        for word in ("token request", "169.254.169.254", "get-access-token", "metadata.google")
    )


def _first_line(error: Exception) -> str:
    return str(error).partition("\n\nDebug source")[0]
