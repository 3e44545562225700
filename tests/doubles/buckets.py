"""Buckets of three clouds behind HTTP, with faults: moto's S3, which does for Google's too, and
the little that is needed of Azure's.

What of the real services is not here: accounts and permissions (answers that say so can be
given), regions, and what happens when two write the same name in the same millisecond.
"""

from __future__ import annotations

import contextlib
import io
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from typing import Any
from urllib.parse import parse_qs, quote
from xml.sax.saxutils import escape

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server
from werkzeug.wrappers import Request, Response

# What becomes of a request: an answer of this status and code, the same without an answer's
# body (the code is empty), nothing at all though it was done ("lost"), or not even that ("cut").
Fault = tuple[int, str] | str | None
ACCOUNT = "anaccount"


class Buckets:
    """The far end. `fault` says of each request what goes wrong; `delay_s` is how long it takes."""

    def __init__(self, app: Callable[..., Any]) -> None:
        self.app = app
        self.fault: Callable[[Request], Fault] = lambda _request: None
        self.delay_s = 0.0
        self.asked: list[str] = []
        self.url = ""
        # moto looks whether there is a name, and then writes it.
        self._one_at_a_time = threading.Lock()

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Any:
        request = Request(environ)
        # All of it is read, whatever comes then, or the connection would be out of step.
        environ["wsgi.input"] = io.BytesIO(request.get_data())
        self.asked.append(f"{request.method} {request.full_path.rstrip('?')}")
        time.sleep(self.delay_s)
        fault = self.fault(request)
        if isinstance(fault, tuple):
            status, code = fault
            body = f"<Error><Code>{code}</Code><Message>It is {code}</Message></Error>"
            return Response(body if code else "", status)(environ, start)
        if fault == "cut":
            _hang_up(environ)
        if not environ.get("HTTP_AUTHORIZATION", "").startswith("AWS4"):
            _as_of_s3(environ)
        with self._one_at_a_time:
            answer = Response.from_app(self.app, environ, buffered=True)
        if fault == "lost":
            _hang_up(environ)
        return answer(environ, start)


def _as_of_s3(environ: dict[str, Any]) -> None:
    """Make a request to Google's interface one to S3's, which differs in little."""
    if environ.get("HTTP_X_GOOG_IF_GENERATION_MATCH") == "0":
        environ["HTTP_IF_NONE_MATCH"] = "*"
    # moto takes out of it whose request it is, and for which service.
    scope = "AKIATEST/20261124/us-east-1/s3/aws4_request"
    environ["HTTP_AUTHORIZATION"] = f"AWS4-HMAC-SHA256 Credential={scope}"
    # It takes names out of this, where Google's callers write hyphens in hexadecimal.
    query = environ["QUERY_STRING"]
    environ["RAW_URI"] = quote(environ["PATH_INFO"]) + (f"?{query}" if query else "")
    environ["REQUEST_URI"] = environ["RAW_URI"]


def _hang_up(environ: dict[str, Any]) -> None:
    environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
    # What werkzeug takes for a caller that has gone.
    raise ConnectionResetError


@contextlib.contextmanager
def s3(*names: str, address: str = "127.0.0.1") -> Iterator[Buckets]:
    """Buckets of these names, as S3 and as Google's XML interface have them."""
    app = DomainDispatcherApplication(create_backend_app)
    with _served(Buckets(app), address) as double:
        for name in names:
            connection = HTTPConnection(double.url.removeprefix("http://"))
            connection.request("PUT", f"/{name}")
            connection.getresponse()
            connection.close()
        double.asked.clear()
        yield double


def s3_environment(double: Buckets) -> dict[str, str]:
    """What leads every AWS tool there."""
    return {
        "AWS_ENDPOINT_URL": double.url,
        "AWS_ACCESS_KEY_ID": "AKIATEST",
        "AWS_SECRET_ACCESS_KEY": "none",
        "AWS_REGION": "us-east-1",
    }


@contextlib.contextmanager
def azure(*names: str) -> Iterator[Buckets]:
    """Containers of these names, as Azure Blob Storage has them: put, get and list of blobs."""
    with _served(Buckets(_Blobs(names))) as double:
        yield double


def google_environment(double: Buckets) -> dict[str, str]:
    """What leads Google's client libraries there."""
    return {"STORAGE_EMULATOR_HOST": double.url}


def azure_environment(double: Buckets) -> dict[str, str]:
    """What leads every Azure tool there."""
    parts = {
        "AccountName": ACCOUNT,
        "AccountKey": "bm9uZQ==",
        "BlobEndpoint": f"{double.url}/{ACCOUNT}",
    }
    text = ";".join(f"{name}={value}" for name, value in parts.items())
    return {"AZURE_STORAGE_CONNECTION_STRING": text}


class _Blobs:
    """https://learn.microsoft.com/en-us/rest/api/storageservices/blob-service-rest-api"""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.containers: dict[str, dict[str, bytes]] = {name: {} for name in names}

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Any:
        return self.answer(Request(environ))(environ, start)

    def answer(self, request: Request) -> Response:
        _, _account, container, *name = request.path.split("/", 3)
        blobs = self.containers.get(container)
        if blobs is None:
            return _refusal(404, "ContainerNotFound")
        if not name:
            return self.listing(blobs, parse_qs(request.query_string.decode()))
        if request.method == "PUT":
            if request.headers.get("If-None-Match") == "*" and name[0] in blobs:
                return _refusal(409, "BlobAlreadyExists")
            blobs[name[0]] = request.get_data()
            return Response("", 201, {"ETag": '"0x1"', "Last-Modified": _LONG_AGO})
        if name[0] not in blobs:
            return _refusal(404, "BlobNotFound")
        headers = {"ETag": '"0x1"', "Last-Modified": _LONG_AGO, "x-ms-blob-type": "BlockBlob"}
        return Response(blobs[name[0]], 200, headers)

    def listing(self, blobs: dict[str, bytes], query: dict[str, list[str]]) -> Response:
        prefix = query.get("prefix", [""])[0]
        folders: dict[str, None] = {}
        found = ""
        for name in sorted(name for name in blobs if name.startswith(prefix)):
            inner = name.removeprefix(prefix)
            if "delimiter" in query and "/" in inner:
                folders[prefix + inner.partition("/")[0] + "/"] = None
                continue
            found += (
                f"<Blob><Name>{escape(name)}</Name><Properties><Etag>0x1</Etag>"
                f"<Last-Modified>{_LONG_AGO}</Last-Modified><BlobType>BlockBlob</BlobType>"
                "<Content-Type>application/json</Content-Type>"
                f"<Content-Length>{len(blobs[name])}</Content-Length></Properties></Blob>"
            )
        found += "".join(
            f"<BlobPrefix><Name>{escape(name)}</Name></BlobPrefix>" for name in folders
        )
        return Response(
            f"<?xml version='1.0' encoding='utf-8'?><EnumerationResults><Blobs>{found}</Blobs>"
            "<NextMarker/></EnumerationResults>",
            200,
        )


_LONG_AGO = "Tue, 24 Nov 2026 08:00:00 GMT"


def _refusal(status: int, code: str) -> Response:
    body = f"<Error><Code>{code}</Code><Message>It is {code}.</Message></Error>"
    return Response(body, status, {"x-ms-error-code": code})


@contextlib.contextmanager
def _served(double: Buckets, address: str = "127.0.0.1") -> Iterator[Buckets]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = make_server(address, 0, double, threaded=True)
    double.url = f"http://{address}:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield double
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
