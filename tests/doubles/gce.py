"""A simulated Compute Engine: Google's REST API over HTTP, strict, with machines that are real.

    with Cloud() as cloud:
        subprocess.run([...], env={**os.environ, **cloud.environment()})

Every request is held against Google's published description of the API; what that
lacks is refused, and fails the test. What is done with it:
https://cloud.google.com/compute/docs/reference/rest/v1
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.doubles import discovery, gce_faults, gce_instances, gce_world, rack
from tests.doubles.gce_faults import Fault, Refused
from tests.doubles.gce_world import PROJECT, matches, region_of

_WAIT_S = 120.0
_HTML = "<html><head><title>502 Bad Gateway</title></head><body>Bad Gateway</body></html>\r\n"
# Permissions that are not called after their method.
_VERBS = {"insert": "create", "aggregatedList": "list", "getFromFamily": "getFromFamily",
          "wait": "get"}  # fmt: skip


@dataclass
class Request:
    """One request: its method's id (`instances.insert`), path's and query's parameters, body."""

    number: int
    method: str
    params: dict[str, str]
    body: Any
    at: float = field(default_factory=time.monotonic)
    status: int = 0

    @property
    def zone(self) -> str:
        return self.params.get("zone", "")


class _Lost(Exception):
    """The connection is to be closed without a byte."""


class Cloud:
    """The cloud, its project, and how it shall behave; all can be changed at any time.

    Attributes:
        provision_s: How long an insert takes until the machine runs.
        end_s: How long a delete takes.
        unreachable: Zones of which aggregated lists say nothing, but that.
        deny: Permissions that the caller lacks, as IAM writes them.
        page: The most that a list gives at a time.
        blind_s: How long aggregated lists do not know of a new instance.
        reads_user_data: Whether its images have cloud-init.
        before, after: Called with each request before anything, and after all is done.
        pace: How many times faster the limits of machines' run durations pass; 0: never.
        ahead_s: How far the machines' clocks are ahead.
        refused: What Google's description of the API does not have; a test must not leave any.
    """

    def __init__(self, machines: rack.Rack | None = None) -> None:
        self.rack = machines
        self.provision_s = self.end_s = self.blind_s = 0.0
        self.deny: set[str] = set()
        self.unreachable: set[str] = set()
        self.page = 500
        self.reads_user_data = True
        self.pace = 1.0
        self.ahead_s = 0
        self.faults: list[Fault] = []
        self.latency: dict[str, float] = {}
        self.before: Callable[[Request], None] | None = None
        self.after: Callable[[Request, int], None] | None = None
        self.requests: list[Request] = []
        self.refused: list[str] = []
        self.console: dict[str, str] = {}
        # By collection, scope (a zone, a region, or empty) and name.
        self.resources: dict[tuple[str, str, str], dict[str, Any]] = {}
        self.operations: dict[str, dict[str, Any]] = {}
        self.request_ids: dict[str, str] = {}
        self.changed = threading.Condition(threading.RLock())
        self._timers: list[threading.Timer] = []
        self._stopping = threading.Event()
        gce_world.furnish(self.resources)
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.cloud = self
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), daemon=True
        )

    def __enter__(self) -> Cloud:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopping.set()
        for timer in self._timers:
            timer.cancel()
        with self.changed:
            self.changed.notify_all()
        self._server.shutdown()
        self._server.server_close()
        for name in self.instances:
            if self.rack:
                self.rack.stop(name)

    def environment(self) -> dict[str, str]:
        """What a process that is to use this cloud, and no real one, needs in its environment."""
        return {
            "CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE": f"{self.url}/compute/v1/",
            "CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDRESOURCEMANAGER": f"{self.url}/",
            "CLOUDSDK_CONFIG": "/nonexistent",
            "GOOGLE_CLOUD_PROJECT": PROJECT,
        }

    @property
    def instances(self) -> dict[str, dict[str, Any]]:
        """All instances by their names."""
        return {key[2]: found for key, found in self.resources.items() if key[0] == "instances"}

    def named(self, collection: str) -> list[str]:
        """The names of what there is of a kind that tests, or cloudrun, made."""
        return [key[2] for key in self.resources if key[0] == collection]

    def asked(self, method: str) -> list[Request]:
        """The requests for a method so far."""
        return [each for each in list(self.requests) if each.method == method]

    def powered_off(self, name: str) -> None:
        """A machine went off from inside: it is stopped, and its disk stays.

        https://cloud.google.com/compute/docs/instances/instance-lifecycle
        """
        with self.changed:
            gce_instances.stop(self, name)

    def preempt(self, name: str, notice_s: float = 30) -> None:
        """Take a spot machine back: https://cloud.google.com/compute/docs/instances/spot#preemption-process."""
        with self.changed:
            gce_instances.preempt(self, name, notice_s)

    def later(self, seconds: float, act: Callable[[], None]) -> None:
        """Do something after so many seconds; at once when there are none."""

        def locked() -> None:
            with self.changed:
                act()
                self.changed.notify_all()

        if seconds <= 0:
            locked()
            return
        timer = threading.Timer(seconds, locked)
        timer.daemon = True
        self._timers.append(timer)
        timer.start()

    def operation(
        self,
        kind: str,
        target: dict[str, Any],
        zone: str,
        seconds: float,
        finish: Callable[[], Any],
    ) -> dict[str, Any]:
        """Begin an operation; `finish` does it, and gives the error it fails with, or None."""
        name = f"operation-{uuid.uuid4()}"
        found = {
            "kind": "compute#operation",
            "name": name,
            "operationType": kind,
            "targetLink": target.get("selfLink", ""),
            "targetId": target.get("id", ""),
            "status": "RUNNING",
            "insertTime": datetime.now(UTC).isoformat(),
            **({"zone": gce_world.link(f"zones/{zone}")} if zone else {}),
        }
        self.operations[name] = found

        def done() -> None:
            wrong = finish()
            if wrong:
                found["error"] = {"errors": [wrong]}
                found["httpErrorStatusCode"] = 503
                found["httpErrorMessage"] = "SERVICE UNAVAILABLE"
            found["status"] = "DONE"

        self.later(seconds, done)
        return found

    def handle(self, verb: str, target: str, body: bytes) -> tuple[int, str, bytes, bool]:
        """Status, content type, body, and whether that is to be cut off."""
        request, refused = self._read(verb, target, body)
        if self.before:
            self.before(request)
        time.sleep(self.latency.get(request.method, self.latency.get("*", 0)))
        fault = None if refused else self._fault(request)
        if fault and fault.how in ("lost before", "hang"):
            if fault.how == "hang":
                self._stopping.wait()
            raise _Lost
        status, kind, text = self._answer(request, refused, fault)
        if self.after:
            self.after(request, status)
        if fault and fault.how == "lost after":
            raise _Lost
        request.status = status
        return status, kind, text.encode(), bool(fault and fault.how == "cut")

    def _read(self, verb: str, target: str, body: bytes) -> tuple[Request, Refused | None]:
        path, query = urlsplit(target).path, parse_qs(urlsplit(target).query, True)
        api = discovery.api(
            "compute.v1" if path.startswith("/compute/") else "cloudresourcemanager.v1"
        )
        number, refused = len(self.requests) + 1, None
        try:
            method = api.method(verb, path)
            data = json.loads(body) if body else None
            request = Request(number, method.id, {**_flat(query), **method.path}, data)
            api.check(method, query, data)
        except (discovery.Unknown, ValueError) as error:
            self.refused.append(f"{verb} {path}: {error}")
            refused = Refused(400, "invalid", f"Not in the description of the API: {error}")
            request = Request(number, f"{verb} {path}", _flat(query), None)
        with self.changed:
            self.requests.append(request)
        return request, refused

    def _answer(
        self, request: Request, refused: Refused | None, fault: Fault | None
    ) -> tuple[int, str, str]:
        if fault and fault.how == "html":
            return 502, "text/html", _HTML
        try:
            if refused:
                raise refused
            if fault and fault.how == "error":
                raise gce_faults.error(fault)
            with self.changed:
                return 200, "application/json", json.dumps(self._act(request, fault))
        except Refused as error:
            return error.status, "application/json", json.dumps(error.body())

    def _act(self, request: Request, fault: Fault | None) -> dict[str, Any]:
        if request.params.get("project", PROJECT) not in (PROJECT, gce_world.IMAGES):
            raise Refused(404, "notFound", f"The resource 'projects/{request.params['project']}' "
                          "was not found")  # fmt: skip
        self._refuse_denied(request)
        collection, _, verb = request.method.partition(".")
        if verb in ("insert", "delete"):
            return self._once(request, fault)
        special = getattr(self, f"_{collection}_{verb}".lower(), None)
        if special:
            return dict(special(request))
        if verb == "get":
            return self.found(collection, request)
        if verb in ("list", "aggregatedList"):
            return self._list(collection, request, aggregated=verb != "list")
        self.refused.append(f"{request.method}: this double does not do it")
        raise Refused(501, "notImplemented", f"This double does not do {request.method}.")

    def _refuse_denied(self, request: Request) -> None:
        collection, _, verb = request.method.partition(".")
        collection = collection.replace("Accelerator", "accelerator")
        permission = f"compute.{collection}.{_VERBS.get(verb, verb)}"
        if permission in self.deny:
            what = f"projects/{PROJECT}/{collection}"
            words = f"Required '{permission}' permission for '{what}'"
            raise Refused(403, "forbidden", words)

    def _once(self, request: Request, fault: Fault | None) -> dict[str, Any]:
        """Do it, or answer what was answered to a request of the same id.

        https://cloud.google.com/compute/docs/reference/rest/v1/instances/insert
        """
        key = request.params.get("requestId", "")
        if key and (uuid.UUID(key).int == 0 or str(uuid.UUID(key)) != key):
            raise Refused(400, "invalid", f"Invalid value for field 'requestId': '{key}'.")
        if key in self.request_ids:
            return self.operations[self.request_ids[key]]
        collection, _, verb = request.method.partition(".")
        if collection not in ("instances", "disks", "addresses", "firewalls"):
            raise Refused(501, "notImplemented", f"This double does not do {request.method}.")
        act = getattr(gce_instances, f"{verb}_{collection[:-1]}", None)
        if act:
            made = act(self, request, fault)
        elif verb == "delete":
            made = self._deleted(collection, request)
        else:
            made = self._inserted(collection, request)
        if key:
            self.request_ids[key] = made["name"]
        return dict(made)

    def _inserted(self, collection: str, request: Request) -> dict[str, Any]:
        body, scope = request.body, request.params.get("zone", request.params.get("region", ""))
        key = (collection, scope, body["name"])
        if key in self.resources:
            raise Refused(409, "alreadyExists", f"The resource '{body['name']}' already exists")
        link = gce_world.link(f"{collection}/{body['name']}")
        self.resources[key] = {**body, "id": str(uuid.uuid4().int >> 65), "selfLink": link}
        return self.operation("insert", self.resources[key], scope, 0, lambda: None)

    def _deleted(self, collection: str, request: Request) -> dict[str, Any]:
        target = self.found(collection, request)
        scope = request.params.get("zone", request.params.get("region", ""))
        if target.get("users"):
            raise Refused(400, "resourceInUseByAnotherResource", "The disk is in use.")
        del self.resources[collection, scope, target["name"]]
        return self.operation("delete", target, scope, 0, lambda: None)

    def found(self, collection: str, request: Request) -> dict[str, Any]:
        """The resource that a request names."""
        if collection == "projects":
            return gce_world.project()
        params = request.params
        one = {"addresses": "address"}.get(collection, collection[:-1])
        name, scope = params[one], params.get("zone", params.get("region", ""))
        if collection in ("regions", "zones"):
            scope = ""
        resource = self.resources.get((collection, scope, name))
        if resource is None:
            where = f"zones/{scope}/" if scope else "global/"
            what = f"projects/{PROJECT}/{where}{collection}/{name}"
            raise Refused(404, "notFound", f"The resource '{what}' was not found")
        return resource

    def _list(self, collection: str, request: Request, *, aggregated: bool) -> dict[str, Any]:
        params = request.params
        scope = params.get("zone", params.get("region", ""))
        late = time.monotonic() - self.blind_s if aggregated else time.monotonic()
        rows = [
            (key[1], resource)
            for key, resource in sorted(self.resources.items())
            if key[0] == collection
            and (aggregated or key[1] == scope)
            and resource.get("_at", 0) <= late
            and resource.get("_project", PROJECT) == params["project"]
            and matches(params.get("filter", ""), resource)
        ]
        begin = int(params.get("pageToken", 0))
        size = min(self.page, int(params.get("maxResults", 500)))
        shown, more = rows[begin : begin + size], begin + size < len(rows)
        answer: dict[str, Any] = {"nextPageToken": str(begin + size)} if more else {}
        if not aggregated:
            return {**answer, "items": [resource for _, resource in shown]}
        scopes: dict[str, Any] = {
            "zones/europe-west9-a": {"warning": {"code": "NO_RESULTS_ON_PAGE"}}
        }
        for zone in self.unreachable:
            scopes[f"zones/{zone}"] = {"warning": {"code": "UNREACHABLE"}}
            shown = [row for row in shown if row[0] != zone]
        for scope, resource in shown:
            kind = "regions" if scope == region_of(scope) else "zones"
            scopes.setdefault(f"{kind}/{scope}", {}).setdefault(collection, []).append(resource)
        return {**answer, "items": scopes}

    def _zoneoperations_get(self, request: Request) -> dict[str, Any]:
        return self._operation(request)

    def _zoneoperations_wait(self, request: Request) -> dict[str, Any]:
        """https://cloud.google.com/compute/docs/reference/rest/v1/zoneOperations/wait"""
        until = time.monotonic() + _WAIT_S
        found = self._operation(request)
        while found["status"] != "DONE" and time.monotonic() < until:
            if self._stopping.is_set():
                raise _Lost
            self.changed.wait(until - time.monotonic())
        return found

    _globaloperations_get = _zoneoperations_get
    _globaloperations_wait = _zoneoperations_wait
    _regionoperations_get = _zoneoperations_get
    _regionoperations_wait = _zoneoperations_wait

    def _operation(self, request: Request) -> dict[str, Any]:
        found = self.operations.get(request.params["operation"])
        if found is None or found.get("zone", "").rpartition("/")[2] != request.zone:
            raise Refused(404, "notFound", "The operation was not found")
        return found

    def _zoneoperations_list(self, request: Request) -> dict[str, Any]:
        there = gce_world.link(f"zones/{request.zone}")
        wanted = request.params.get("filter", "")
        rows = [op for op in self.operations.values() if op.get("zone") == there]
        return {"items": [op for op in rows if matches(wanted, op)]}

    def _images_getfromfamily(self, request: Request) -> dict[str, Any]:
        family = request.params["family"]
        images = [
            resource
            for key, resource in self.resources.items()
            if key[0] == "images"
            and resource.get("family") == family
            and resource["_project"] == request.params["project"]
            and "deprecated" not in resource
        ]
        if not images:
            raise Refused(404, "notFound", f"The resource 'family/{family}' was not found")
        return max(images, key=lambda image: str(image["creationTimestamp"]))

    def _instances_getserialportoutput(self, request: Request) -> dict[str, Any]:
        self.found("instances", request)
        text = self.console.get(request.params["instance"], "")
        return {"contents": text, "start": "0", "next": str(len(text))}

    def _instances_getguestattributes(self, request: Request) -> dict[str, Any]:
        return gce_instances.guest_attributes(self, request)

    def _projects_testiampermissions(self, request: Request) -> dict[str, Any]:
        """https://cloud.google.com/resource-manager/reference/rest/v1/projects/testIamPermissions"""
        asked = request.body.get("permissions", [])
        return {"permissions": [each for each in asked if each not in self.deny]}

    def _fault(self, request: Request) -> Fault | None:
        with self.changed:
            for fault in self.faults:
                spent = fault.times is not None and fault.fitted >= fault.skip + fault.times
                if spent or not fault.fits(request.method, request.zone):
                    continue
                fault.fitted += 1
                if fault.fitted > fault.skip:
                    return fault
        return None


@contextlib.contextmanager
def cloud(bridge: str, folder: Path) -> Iterator[Cloud]:
    """A simulated Compute Engine with machines on the bridge; raises at the end what was wrong."""
    machines = rack.Rack(bridge, folder, 120)
    with Cloud(machines) as started:
        machines.cloud = started
        yield started
    machines.join()
    assert not started.refused, started.refused


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    cloud: Cloud

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Who is killed in the middle of a request is no error here."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            status, kind, data, cut = self.server.cloud.handle(self.command, self.path, body)
        except _Lost:
            self.close_connection = True
            return
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if cut else data)
        self.close_connection = self.close_connection or cut

    do_GET = do_POST = do_DELETE = do_PUT = do_PATCH = _serve  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing of each request on standard error."""


def _flat(query: dict[str, list[str]]) -> dict[str, str]:
    return {name: values[0] for name, values in query.items()}
