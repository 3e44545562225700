"""Can AWS be used? Credentials, permissions by name, quotas by region."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from cloudrun.catalog.instances import all_instances
from cloudrun.errors import AccessDenied, CloudrunError
from cloudrun.providers.aws import calls
from cloudrun.providers.aws.regions import enabled
from cloudrun.providers.base import Finding, unusable
from cloudrun.providers.patience import Lost, Throttled, side_by_side

# https://docs.aws.amazon.com/ec2/latest/instancetypes/ec2-instance-quotas.html
QUOTAS = {
    "L-DB2E81BA": "G and VT machines on demand",
    "L-3819A6DF": "G and VT spot machines",
    "L-417A185B": "P machines on demand",
    "L-7212CCBC": "P2, P3 and P4 spot machines",
}
_QUOTA_PAGE = (
    "https://{region}.console.aws.amazon.com/servicequotas/home/services/ec2/quotas/{code}"
)
# The smallest machine with a GPU has four.
_LEAST_VCPUS = 4
_NO_ID = {"i": "i-00000000000000000", "sg": "sg-00000000000000000"}


def check() -> Sequence[Finding]:
    """Look whether AWS can be used; see `Provider.check`."""
    try:
        who = _who()
    except CloudrunError as error:
        return [unusable("aws", error)]
    return [who, _permissions(), *_quotas()]


def _who() -> Finding:
    sts = calls.client("sts", calls.home_region())
    answer = calls.ask("tell who you are", sts.get_caller_identity)
    method = getattr(calls.session().get_credentials(), "method", "unknown")
    return Finding(
        "aws",
        "pass",
        f"You are {answer.get('Arn', 'somebody')}, by {method}; region {calls.home_region()}.",
    )


def _permissions() -> Finding:
    """Ask for every call that a launch makes whether it would be allowed, without making it."""
    ec2 = calls.client("ec2", calls.home_region())
    answers = side_by_side(lambda call: _is_allowed(ec2, *call), list(_needed().items()))
    named = dict(zip(_needed(), answers, strict=True))
    missing = [action for action, answer in named.items() if answer is False]
    unknown = [action for action, answer in named.items() if isinstance(answer, CloudrunError)]
    if missing:
        listed = ", ".join(f"ec2:{action}" for action in missing)
        return Finding(
            "aws may",
            "fail",
            f"Your user lacks {listed}.",
            "Ask who manages the account for these permissions; docs/aws.md has a policy.",
        )
    if unknown:
        return Finding("aws may", "skip", f"AWS does not say whether you may {', '.join(unknown)}.")
    return Finding(
        "aws may", "pass", f"All {len(named)} permissions that a launch needs are there."
    )


def _needed() -> dict[str, tuple[str, dict[str, Any]]]:
    """The actions of a launch, each with a call that asks for it."""
    rule = [{"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22,
             "IpRanges": [{"CidrIp": "192.0.2.1/32"}]}]  # fmt: skip
    tagged = [{"Key": "cloudrun-run", "Value": "check"}]
    order = {"ImageId": "ami-00000000000000000", "InstanceType": "g4dn.xlarge",
             "MinCount": 1, "MaxCount": 1,
             "TagSpecifications": [{"ResourceType": "instance", "Tags": tagged}]}  # fmt: skip
    group = {"GroupId": _NO_ID["sg"]}
    return {
        "RunInstances": ("run_instances", order),
        "TerminateInstances": ("terminate_instances", {"InstanceIds": [_NO_ID["i"]]}),
        "CreateSecurityGroup": (
            "create_security_group",
            {"GroupName": "cloudrun-check", "Description": "check",
             "TagSpecifications": [{"ResourceType": "security-group", "Tags": tagged}]},
        ),
        "AuthorizeSecurityGroupIngress": (
            "authorize_security_group_ingress", {**group, "IpPermissions": rule},
        ),
        "DeleteSecurityGroup": ("delete_security_group", group),
        "CreateTags": ("create_tags", {"Resources": [_NO_ID["i"]], "Tags": tagged}),
        "DescribeInstances": ("describe_instances", {}),
        "DescribeRegions": ("describe_regions", {}),
        "DescribeAddresses": ("describe_addresses", {}),
        "DescribeKeyPairs": ("describe_key_pairs", {}),
        "DeleteVolume": ("delete_volume", {"VolumeId": "vol-00000000000000000"}),
        "CancelSpotInstanceRequests": (
            "cancel_spot_instance_requests", {"SpotInstanceRequestIds": ["sir-00000000"]},
        ),
        "GetConsoleOutput": ("get_console_output", {"InstanceId": _NO_ID["i"]}),
        "DescribeInstanceTypeOfferings": ("describe_instance_type_offerings", {}),
        "DescribeImages": ("describe_images", {"Owners": ["self"]}),
        "DescribeVpcs": ("describe_vpcs", {}),
        "DescribeSubnets": ("describe_subnets", {}),
        "DescribeRouteTables": ("describe_route_tables", {}),
        "DescribeSecurityGroups": ("describe_security_groups", {}),
        "DescribeVolumes": ("describe_volumes", {}),
        "DescribeSpotInstanceRequests": ("describe_spot_instance_requests", {}),
        "DescribeSpotPriceHistory": ("describe_spot_price_history", {}),
    }  # fmt: skip


def _is_allowed(ec2: Any, action: str, call: tuple[str, dict[str, Any]]) -> bool:
    """Ask with DryRun, which AWS answers with `DryRunOperation` when one may.

    Another complaint, such as that there is no such machine, comes from after that question.
    """
    operation, parameters = call
    try:
        calls.ask(action, getattr(ec2, operation), DryRun=True, **parameters)
    except AccessDenied as error:
        if calls.code_of(error.__cause__) == "UnauthorizedOperation":
            return False
        raise
    except (Lost, Throttled):
        raise
    except CloudrunError:
        return True
    return True


def _quotas() -> Iterator[Finding]:
    """What the quotas allow, by region; those that nobody tells are unknown, not zero."""
    try:
        places = enabled()
    except CloudrunError as error:
        yield Finding("aws quota", "skip", f"{error.what} {error.why}", error.try_this)
        return
    asked = [(region, code) for code in QUOTAS for region in places]
    answers = side_by_side(lambda each: quota(*each), asked)
    found = dict(zip(asked, answers, strict=True))
    for code, words in QUOTAS.items():
        yield _quota(code, words, {region: found[region, code] for region in places})


def quota(region: str, code: str) -> float:
    """How many vCPUs of a kind may run at a time in a region.

    Raises:
        CloudrunError: nobody tells.
    """
    client = calls.client("service-quotas", region)
    answer = calls.ask(
        "tell your quotas", client.get_service_quota, ServiceCode="ec2", QuotaCode=code
    )
    return float(answer["Quota"]["Value"])


def _quota(code: str, words: str, values: dict[str, float | CloudrunError]) -> Finding:
    known = {region: value for region, value in values.items() if isinstance(value, float)}
    enough = {region: value for region, value in known.items() if value >= _LEAST_VCPUS}
    unknown = [region for region in values if region not in known]
    page = _QUOTA_PAGE.format(region=next(iter(values)), code=code)
    doubt = f" Not known in {_listed(unknown)}." if unknown else ""
    if enough:
        best = ", ".join(f"{region} {value:g} vCPUs" for region, value in list(enough.items())[:6])
        more = f" and {len(enough) - 6} more regions" if len(enough) > 6 else ""
        gpus = _startable(words[0].lower(), max(enough.values()))
        return Finding("aws quota", "pass", f"{words}: {best}{more}; enough for {gpus}.{doubt}")
    if unknown:
        return Finding(
            "aws quota", "skip", f"{words}: not known in {_listed(unknown)}.", f"Look there: {page}"
        )
    return Finding(
        "aws quota",
        "fail",
        f"{words}: none can be started in any region (new accounts begin so).",
        f"Ask for at least {_LEAST_VCPUS} vCPUs; AWS takes a day or so: {page}",
    )


def _startable(family: str, vcpus: float) -> str:
    """The GPU models of a family, `g` or `p`, that so many vCPUs can start today."""
    fitting = (
        each
        for each in all_instances()
        if each.cloud == "aws"
        and each.instance_type.startswith(family)
        and each.vcpus is not None
        and each.vcpus <= vcpus
    )
    return ", ".join(dict.fromkeys(each.gpu for each in fitting))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
