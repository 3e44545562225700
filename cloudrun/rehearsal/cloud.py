"""The rehearsal's server: moto's AWS, with all that the rest of this package adds.

    with Cloud() as cloud:
        subprocess.run([...], env={**os.environ, **cloud.environment()})

Every request goes the same way: it is understood, logged, shown to the hooks,
struck by a fault or not, checked against what the caller may do, and answered
by the rehearsal or by moto.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, NoReturn

from werkzeug.serving import WSGIRequestHandler, make_server

from cloudrun.rehearsal import (
    faults,
    images,
    instances,
    launch,
    prices,
    quotas,
    regions,
    spot,
    wire,
)
from cloudrun.rehearsal.account import Account, Machines
from cloudrun.rehearsal.faults import Fault
from cloudrun.rehearsal.wire import Answer, Refused, Request

_OWN: dict[tuple[str, str], Callable[[Account, Request], dict[str, Any]]] = {
    ("ec2", "CancelSpotInstanceRequests"): spot.cancel,
    ("ec2", "DescribeImages"): images.describe,
    ("ec2", "DescribeInstanceStatus"): instances.describe_status,
    ("ec2", "DescribeInstances"): instances.describe,
    ("ec2", "DescribeRegions"): regions.describe,
    ("ec2", "DescribeSpotInstanceRequests"): spot.describe,
    ("ec2", "DescribeSpotPriceHistory"): prices.spot_history,
    ("ec2", "DescribeVolumes"): instances.describe_volumes,
    ("ec2", "GetConsoleOutput"): instances.console,
    ("ec2", "ModifyInstanceAttribute"): instances.modify,
    ("ec2", "RunInstances"): launch.run,
    ("ec2", "TerminateInstances"): instances.terminate,
    ("pricing", "GetProducts"): prices.get_products,
    ("servicequotas", "GetServiceQuota"): quotas.get_quota,
    ("servicequotas", "ListServiceQuotas"): quotas.list_quotas,
    ("ssm", "GetParameter"): images.get_parameter,
    ("ssm", "GetParameters"): images.get_parameters,
    ("ssm", "GetParametersByPath"): images.get_parameters_by_path,
}
# What moto does as AWS does it, seen so; any other action is refused.
_MOTOS = {
    "AllocateAddress",
    "AuthorizeSecurityGroupIngress",
    "CreateKeyPair",
    "CreateSecurityGroup",
    "CreateSubnet",
    "CreateTags",
    "CreateVolume",
    "CreateVpc",
    "DeleteKeyPair",
    "DeleteNetworkInterface",
    "DeleteSecurityGroup",
    "DeleteSubnet",
    "DeleteTags",
    "DeleteVolume",
    "DeleteVpc",
    "DescribeAccountAttributes",
    "DescribeAddresses",
    "DescribeAvailabilityZones",
    "DescribeInstanceAttribute",
    "DescribeInstanceTypeOfferings",
    "DescribeInstanceTypes",
    "DescribeInternetGateways",
    "DescribeKeyPairs",
    "DescribeNetworkInterfaces",
    "DescribeRouteTables",
    "DescribeSecurityGroupRules",
    "DescribeSecurityGroups",
    "DescribeSubnets",
    "DescribeTags",
    "DescribeVpcs",
    "ImportKeyPair",
    "ReleaseAddress",
    "RevokeSecurityGroupEgress",
    "RevokeSecurityGroupIngress",
}
# Where moto heeds no filter that it does not know.
_FILTERS = {
    "DescribeAvailabilityZones": {"region-name", "state", "zone-id", "zone-name", "zone-type"},
    "DescribeInstanceTypeOfferings": {"instance-type", "location"},
    "DescribeTags": {"key", "resource-id", "resource-type", "value"},
}
_HTML = (
    "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n"
    "<center><h1>502 Bad Gateway</h1></center>\r\n</body>\r\n</html>\r\n"
)


class _Lost(Exception):
    """The connection is to be closed without a byte."""


class Cloud(Account):
    """A simulated AWS on this machine, with an account of its own. A context manager.

    What it shall do is set on it as on `Account`; it may be changed at any time.
    """

    def __init__(self, machines: Machines | None = None) -> None:
        super().__init__(machines=machines)
        self._stopping = threading.Event()
        self._server = make_server(
            "127.0.0.1", 0, self._serve, threaded=True, request_handler=_Quiet
        )
        # It looks for its end every so many seconds.
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), daemon=True
        )
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Cloud:
        """Start to answer."""
        self.clock.start()
        self._thread.start()
        # moto reads its tables on the first call: a second that the caller needs not wait.
        threading.Thread(target=self._warm_up, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop, and take all machines away."""
        self._stopping.set()
        self._server.shutdown()
        # Its last act is to close the port.
        self._thread.join()
        try:
            self.clock.stop()
        finally:
            for instance in self.instances.values():
                if self.machines and instance.state != "terminated":
                    self.machines.stop(instance.id)

    def environment(self) -> dict[str, str]:
        """What a process that is to use this cloud, and no real one, needs in its environment."""
        return {
            "AWS_ACCESS_KEY_ID": "AKIAREHEARSAL0000000",
            "AWS_CONFIG_FILE": "/nonexistent/config",
            # boto3 reads this name, other clients read AWS_REGION.
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_ENDPOINT_URL": self.url,
            "AWS_REGION": "us-east-1",
            "AWS_SECRET_ACCESS_KEY": "rehearsal",
            "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent/credentials",
        }

    def powered_off(self, instance_id: str) -> None:
        """Tell the cloud that a machine went off from inside."""
        with self.lock:
            instances.powered_off(self, instance_id)

    def fail(self, instance_id: str) -> None:
        """Let an instance come to nothing, as one that AWS accepts and then cannot start.

        https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/troubleshooting-launch.html
        """
        with self.lock:
            instances.end(self, self.instances[instance_id], instances.FAILED, "")

    def interrupt(self, instance_id: str, notice_s: float = 120, why: str = "no-capacity") -> None:
        """Take a spot instance back: give notice, then end it.

        Args:
            instance_id: Of a spot instance.
            notice_s: How long it is marked for termination.
            why: `no-capacity`, `by-price` or `capacity-oversubscribed`.

        Raises:
            KeyError: It is none.
        """
        with self.lock:
            instance = self.instances[instance_id]
            reason = spot.INTERRUPTED

            def stop() -> None:
                instances.end(self, instance, reason, reason[0])

            spot.mark(self, instance, why, stop, notice_s)

    def asked(self, action: str) -> list[Request]:
        """The requests for an action so far."""
        return [each for each in list(self.requests) if each.action == action]

    def _warm_up(self) -> None:
        with self.lock:
            self.moto.ask("us-east-1", "DescribeVpcs")

    def _serve(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        headers = _headers(environ)
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        try:
            answer, cut = self._handle(headers, body)
        except _Lost:
            _close(environ)
        length = str(len(answer.body))
        fields = [("Content-Type", answer.content_type), ("Content-Length", length)]
        start_response(f"{answer.status} {_PHRASE.get(answer.status, 'Error')}", fields)
        return _half(environ, answer.body) if cut else [answer.body]

    def _handle(self, headers: dict[str, str], body: bytes) -> tuple[Answer, bool]:
        """The answer, and whether it is to be cut off."""
        with self.lock:
            number = len(self.requests) + 1
            request, refused = _read(number, headers, body)
            self.requests.append(request)
            if request.action == "RunInstances" and refused is None:
                launch.locate(self, request)
        if self.before:
            self.before(request)
        time.sleep(self.latency.get(request.action, self.latency.get("*", 0)))
        fault = None if refused else self._fault(request)
        if fault and fault.how in ("lost before", "hang"):
            if fault.how == "hang":
                self._stopping.wait()
            raise _Lost
        answer = self._answer(request, refused, fault)
        request.error = answer.error
        if self.after:
            self.after(request, answer)
        if fault and fault.how == "lost after":
            raise _Lost
        request.status = answer.status
        return answer, bool(fault and fault.how == "cut")

    def _answer(self, request: Request, refused: Refused | None, fault: Fault | None) -> Answer:
        if fault and fault.how == "html":
            return Answer(502, "text/html", _HTML.encode(), "html")
        try:
            if refused:
                raise refused
            if fault and fault.how == "error":
                raise fault.error(self.moto.account, request)
            with self.lock:
                self.clock.run_due()
                return self._act(request)
        except Refused as error:
            return wire.write_error(request.service, error)

    def _act(self, request: Request) -> Answer:
        regions.refuse_if_closed(self, request)
        self._refuse_denied(request)
        own = _OWN.get((request.service, request.action))
        if request.service == "sts" and request.action == "GetCallerIdentity":
            return wire.write(request, self._caller())
        if own is None and (request.service != "ec2" or request.action not in _MOTOS):
            text = f"The action {request.action} is not valid for this web service."
            raise Refused("InvalidAction", f"{text} (The rehearsal does not know it.)")
        if request.params.get("DryRun"):
            text = "Request would have succeeded, but DryRun flag is set."
            raise Refused("DryRunOperation", text, 412)
        if own:
            return wire.write(request, own(self, request))
        return self._pass_on(request)

    def _pass_on(self, request: Request) -> Answer:
        """Let moto answer, after the checks that it forgets."""
        if request.action in _FILTERS:
            paths = dict.fromkeys(_FILTERS[request.action], "")
            wire.sift([], request.params.get("Filters", []), paths)
        if request.params.get("InstanceId"):
            self.visible(request.region, request.params["InstanceId"])
        if request.action == "DeleteSecurityGroup":
            instances.delete_group(self, request)
        return self.moto.pass_on(request)

    def _refuse_denied(self, request: Request) -> None:
        """Refuse what the caller may not do; to tag at creation takes ec2:CreateTags too.

        https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/supported-iam-actions-tagging.html
        """
        needed = [f"{request.service}:{request.action}"]
        if request.params.get("TagSpecifications"):
            needed.append("ec2:CreateTags")
        for action in needed:
            # GetCallerIdentity needs no permission.
            if action in self.deny and action != "sts:GetCallerIdentity":
                raise faults.not_allowed(self.moto.account, request, action)

    def _caller(self) -> dict[str, str]:
        account = self.moto.account
        arn = f"arn:aws:iam::{account}:user/cloudrun"
        return {"UserId": "AIDAREHEARSAL0000000", "Account": account, "Arn": arn}

    def _fault(self, request: Request) -> Fault | None:
        """The first fault that strikes this request; a spent one strikes no more."""
        with self.lock:
            for fault in self.faults:
                spent = fault.times is not None and fault.fitted >= fault.skip + fault.times
                if spent or not fault.fits(request):
                    continue
                fault.fitted += 1
                if fault.fitted > fault.skip:
                    return fault
        return None


class _Quiet(WSGIRequestHandler):
    """Says nothing of each request on standard error."""

    def log(self, type: str, message: str, *args: object) -> None:  # noqa: A002
        """Say it where only who looks for it sees it."""
        logging.getLogger(__name__).debug(message, *args)


_PHRASE = {200: "OK"}


def _read(number: int, headers: dict[str, str], body: bytes) -> tuple[Request, Refused | None]:
    try:
        return wire.read(number, headers, body), None
    except Refused as refused:
        service, region, action = wire.sketch(headers, body)
        return Request(number, service, region, action, {}), refused


def _headers(environ: dict[str, Any]) -> dict[str, str]:
    found = {"content-type": environ.get("CONTENT_TYPE", "")}
    for name, value in environ.items():
        if name.startswith("HTTP_"):
            found[name[5:].replace("_", "-").lower()] = value
    return found


def _close(environ: dict[str, Any]) -> NoReturn:
    """Close the connection; the server takes the error for a client that has gone."""
    environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
    raise ConnectionAbortedError


def _half(environ: dict[str, Any], body: bytes) -> Iterable[bytes]:
    yield body[: len(body) // 2]
    _close(environ)
