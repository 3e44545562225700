"""What boto3 says on the wire, as plain data, and the answer in the form that boto3 reads.

botocore's own descriptions of the services say what a request may hold, so a
parameter that AWS does not know is refused here too.
"""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from botocore.model import OperationNotFoundError
from botocore.serialize import create_serializer
from moto.core.parse import PROTOCOL_PARSERS, RequestParserError
from moto.core.serialize import get_serializer_class
from moto.core.utils import get_service_model
from werkzeug.datastructures import MultiDict

# How a service signs its requests, and what botocore calls it.
SERVICES = {
    "ec2": "ec2",
    "pricing": "pricing",
    "servicequotas": "service-quotas",
    "ssm": "ssm",
    "sts": "sts",
}
_SCOPE = re.compile(r"Credential=(?P<key>[^/,]+)/\d{8}/(?P<region>[^/]+)/(?P<service>[^/]+)/")


class Refused(Exception):
    """AWS says no.

    Attributes:
        code: As AWS names the error, such as `InsufficientInstanceCapacity`.
        message: AWS's words.
        status: Of HTTP.
    """

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message, self.status = code, message, status


@dataclass
class Request:
    """One request, as the caller gave it to boto3.

    Attributes:
        number: The how-manieth of its cloud, from 1.
        service: As in IAM's actions: `ec2`, `pricing`, `servicequotas`, `ssm`, `sts`.
        region: Which region it is for.
        action: Such as `RunInstances`.
        params: Under boto3's names.
        key: The id of the access key.
        status: The HTTP status answered; None while there is none, or when no answer came.
        error: The code of the error answered; empty if none.
        zone: For RunInstances, the zone that the instance would be in.
        market: For RunInstances, `spot` or `on-demand`.
        instance_type: For RunInstances.
        at: When it came, in seconds since 1970.
    """

    number: int
    service: str
    region: str
    action: str
    params: dict[str, Any]
    key: str = ""
    status: int | None = None
    error: str = ""
    zone: str = ""
    market: str = ""
    instance_type: str = ""
    at: float = field(default_factory=time.time)
    body: bytes = field(default=b"", repr=False)
    headers: dict[str, str] = field(default_factory=dict, repr=False)


@dataclass
class Answer:
    """What goes back over HTTP."""

    status: int
    content_type: str
    body: bytes
    error: str = ""


def read(number: int, headers: dict[str, str], body: bytes) -> Request:
    """Understand a request.

    Raises:
        Refused: It is not signed, or for a service, an action or with a
            parameter that botocore does not know. `sketch` tells what it can then.
    """
    scope = _SCOPE.search(headers.get("authorization", ""))
    if scope is None:
        raise Refused("MissingAuthenticationToken", "Request is missing Authentication Token", 403)
    if scope["service"] not in SERVICES:
        raise Refused("UnknownService", f"The rehearsal knows no service {scope['service']}.")
    action = _action(headers, body)
    request = Request(number, scope["service"], scope["region"], action, {}, scope["key"])
    request.body, request.headers = body, headers
    request.params = _params(request)
    return request


def sketch(headers: dict[str, str], body: bytes) -> tuple[str, str, str]:
    """Service, region and action of a request that `read` refused, as far as they can be told."""
    scope = _SCOPE.search(headers.get("authorization", ""))
    service, region = (scope["service"], scope["region"]) if scope else ("ec2", "")
    return service, region, _action(headers, body)


def write(request: Request, result: dict[str, Any]) -> Answer:
    """The answer that boto3 reads as `result`."""
    operation = operation_of(request)
    serializer = get_serializer_class(SERVICES[request.service], _protocol(request))(operation)
    made = serializer.serialize(result)
    body = made["body"]
    content_type = str(made["headers"].get("Content-Type", "text/xml"))
    return Answer(200, content_type, body if isinstance(body, bytes) else body.encode())


def write_error(service: str, refused: Refused) -> Answer:
    """The error in the form of the service: EC2's XML, the query services' XML, or JSON."""
    if service in ("ec2", "sts"):
        body, content_type = _xml_error(service, refused), "text/xml;charset=UTF-8"
    else:
        text = json.dumps({"__type": refused.code, "message": refused.message})
        body, content_type = text, "application/x-amz-json-1.1"
    return Answer(refused.status, content_type, body.encode(), refused.code)


def operation_of(request: Request) -> Any:
    """botocore's description of the request's action."""
    return get_service_model(SERVICES[request.service]).operation_model(request.action)


def sift(
    items: Iterable[dict[str, Any]], filters: list[dict[str, Any]], paths: dict[str, str]
) -> list[dict[str, Any]]:
    """Those of the things described that pass all filters, each by one of its values.

    Values may hold * and ?. `paths` says where a filter looks: `State.Name`, or
    `Groups.GroupId` through a list.

    Raises:
        Refused: AWS, or the rehearsal, does not know such a filter.
    """
    for each in filters:
        name = each["Name"]
        if name not in paths and name != "tag-key" and not name.startswith("tag:"):
            raise Refused("InvalidParameterValue", f"The filter '{name}' is invalid")
    return [
        item
        for item in items
        if all(_passes(item, each["Name"], each.get("Values", []), paths) for each in filters)
    ]


def page(items: list[Any], params: dict[str, Any], most: int) -> tuple[list[Any], str | None]:
    """The page that `NextToken` and `MaxResults` ask for, and the token of the next one.

    Raises:
        Refused: We never gave out such a token.
    """
    token = str(params.get("NextToken") or "page-0")
    if not re.fullmatch(r"page-\d+", token):
        raise Refused("InvalidNextToken", f"The token '{token}' is invalid")
    start = int(token.removeprefix("page-"))
    end = start + min(int(params.get("MaxResults") or most), most)
    return items[start:end], f"page-{end}" if end < len(items) else None


def _action(headers: dict[str, str], body: bytes) -> str:
    target = headers.get("x-amz-target", "")
    form = dict(parse_qsl(body.decode("utf-8", "replace"))) if not target else {}
    return target.rpartition(".")[2] or form.get("Action", "")


def _params(request: Request) -> dict[str, Any]:
    try:
        operation = operation_of(request)
    except OperationNotFoundError:
        raise Refused(
            "InvalidAction", f"The action {request.action} is not valid for this web service."
        ) from None
    try:
        form = MultiDict(parse_qsl(request.body.decode(), keep_blank_values=True))
        raw = {"body": request.body, "values": form, "headers": request.headers}
        params = PROTOCOL_PARSERS[_protocol(request)](operation).parse(raw)
        _refuse_unknown(request, operation, params, form)
    except (RequestParserError, ValueError) as error:
        raise Refused("MalformedQueryString", str(error)) from error
    return dict(params)


def _refuse_unknown(
    request: Request, operation: Any, params: Any, form: MultiDict[Any, Any]
) -> None:
    if _protocol(request) == "json":
        given = set(json.loads(request.body or b"{}"))
        known = set(operation.input_shape.members)
    else:
        given = set(form) - {"Action", "Version"}
        known = set(
            create_serializer(_protocol(request)).serialize_to_request(params, operation)["body"]
        )
    if unknown := given - known:
        raise Refused("UnknownParameter", f"The parameter {min(unknown)} is not recognized")


def _protocol(request: Request) -> str:
    return str(get_service_model(SERVICES[request.service]).protocol)


def _xml_error(service: str, refused: Refused) -> str:
    code, message = _escape(refused.code), _escape(refused.message)
    error = f"<Code>{code}</Code><Message>{message}</Message>"
    if service == "sts":
        return f"<ErrorResponse><Error>{error}</Error></ErrorResponse>"
    # https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<Response><Errors><Error>'
        f"{error}</Error></Errors><RequestID>{uuid.uuid4()}</RequestID></Response>"
    )


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _passes(item: dict[str, Any], name: str, values: list[str], paths: dict[str, str]) -> bool:
    tags = {tag["Key"]: tag["Value"] for tag in item.get("Tags", [])}
    if name.startswith("tag:"):
        found = [tags[name[4:]]] if name[4:] in tags else []
    elif name == "tag-key":
        found = list(tags)
    else:
        found = list(_values(item, paths[name].split(".")))
    return any(_like(text, pattern) for text in found for pattern in values)


def _values(item: Any, path: list[str]) -> Iterable[str]:
    if isinstance(item, list):
        for each in item:
            yield from _values(each, path)
    elif not path:
        yield str(item).lower() if isinstance(item, bool) else str(item)
    elif path[0] in item:
        yield from _values(item[path[0]], path[1:])


def _like(text: str, pattern: str) -> bool:
    """EC2's wildcards, which know no [...] as Python's fnmatch does."""
    regex = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(regex, text, re.DOTALL) is not None
