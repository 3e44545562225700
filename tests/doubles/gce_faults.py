"""What goes wrong at Google Cloud, as data: see `cloudrun.rehearsal.faults` for AWS's.

Reasons and statuses: https://cloud.google.com/compute/docs/api/troubleshooting/api-errors
What fails inside operations: https://cloud.google.com/compute/docs/troubleshooting/troubleshooting-vm-creation
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

How = Literal["error", "operation", "lost before", "lost after", "hang", "html", "cut"]


@dataclass(eq=False)
class Fault:
    """One thing that goes wrong.

    Attributes:
        method: Such as `instances.insert`; `*` is any.
        code: A reason or code of `ERRORS`, or your own with `status` and `message`.
        how: `error`: it is answered, nothing is done. `operation`: it is accepted, and its
            operation fails. `lost before`, `lost after`, `hang`, `html`, `cut`: as in
            `cloudrun.rehearsal.faults`.
        times: How many requests it strikes; None: all.
        skip: How many fitting requests it lets pass first.
        zone: Only there.
        zones_available: What a stock-out says of other zones.
    """

    method: str
    code: str = ""
    how: How = "error"
    times: int | None = None
    skip: int = 0
    zone: str = ""
    status: int = 0
    message: str = ""
    zones_available: str = ""
    fitted: int = field(default=0, init=False)

    def fits(self, method: str, zone: str) -> bool:
        """Whether it may strike such a request."""
        return self.method in ("*", method) and self.zone in ("", zone)


def no_capacity(**where: Any) -> Fault:
    """No machine to be had; Google says so inside the operation."""
    return Fault("instances.insert", "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS", "operation",
                 **where)  # fmt: skip


def no_quota(metric: str = "NVIDIA_T4_GPUS", **where: Any) -> Fault:
    """A quota of a region, or `GPUS_ALL_REGIONS`."""
    words = f"Quota '{metric}' exceeded.  Limit: 0.0 in region us-central1."
    if metric == "GPUS_ALL_REGIONS":
        words = f"Quota '{metric}' exceeded.  Limit: 0.0 globally."
    return Fault("instances.insert", "QUOTA_EXCEEDED", "operation", message=words, **where)


class Refused(Exception):
    """An error that Google answers with: status, reason, words, and details if any."""

    def __init__(self, status: int, reason: str, message: str, details: Any = ()) -> None:
        super().__init__(status, reason, message)
        self.status, self.reason, self.message = status, reason, message
        self.details = list(details)

    def body(self) -> dict[str, Any]:
        """https://cloud.google.com/apis/design/errors#http_mapping"""
        domain = "usageLimits" if "xceeded" in self.reason else "global"
        one = {"message": self.message, "domain": domain, "reason": self.reason}
        found = {"code": self.status, "message": self.message, "errors": [one]}
        if self.details:
            found["details"] = self.details
        return {"error": found | {"status": _STATUS.get(self.status, "UNKNOWN")}}


def error(fault: Fault) -> Refused:
    """What a fault answers."""
    status, message, detail = ERRORS.get(fault.code, (fault.status, fault.message, ""))
    details = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": detail,
                "domain": "googleapis.com"}]  # fmt: skip
    return Refused(
        fault.status or status, fault.code, fault.message or message, details if detail else ()
    )


def inside(fault: Fault, zone: str, machine_type: str) -> dict[str, Any]:
    """What stands in an operation that failed."""
    found: dict[str, Any] = {
        "code": fault.code,
        "message": fault.message
        or f"The zone 'projects/cloudrun-test/zones/{zone}' does not have enough resources "
        "available to fulfill the request.  Try a different zone, or try again later.",
    }
    if fault.code.endswith("_WITH_DETAILS"):
        there = {"vmType": machine_type, "zone": zone, "attachment": ""}
        if fault.zones_available:
            there["zonesAvailable"] = fault.zones_available
        found["errorDetails"] = [
            {"errorInfo": {"domain": "compute.googleapis.com", "metadatas": there,
                           "reason": "resource_availability"}}
        ]  # fmt: skip
    return found


_STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ALREADY_EXISTS",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
}
# Status, words, and the reason in the details.
ERRORS: dict[str, tuple[int, str, str]] = {
    "authError": (401, "Request had invalid authentication credentials.", ""),
    "forbidden": (403, "Required 'compute.instances.create' permission for "
                  "'projects/cloudrun-test/zones/us-central1-a/instances/x'", ""),
    "accessNotConfigured": (403, "Compute Engine API has not been used in project cloudrun-test "
                            "before or it is disabled.", "SERVICE_DISABLED"),
    "billingNotEnabled": (403, "This API method requires billing to be enabled. Please enable "
                          "billing on project cloudrun-test.", "BILLING_DISABLED"),
    "rateLimitExceeded": (403, "Rate Limit Exceeded", "RATE_LIMIT_EXCEEDED"),
    "quotaExceeded": (403, "Quota 'NVIDIA_T4_GPUS' exceeded.  Limit: 0.0 in region us-central1.",
                      ""),
    "insufficientCapacity": (503, "The zone does not have enough resources available.", ""),
    "backendError": (503, "Backend Error", ""),
    "internalError": (500, "Internal error. Please try again or contact Google Support.", ""),
}  # fmt: skip
