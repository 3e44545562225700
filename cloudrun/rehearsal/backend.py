"""moto, asked in boto3's words. Each rehearsal has an AWS account of its own in it."""

from __future__ import annotations

import os
import random
import re
from typing import Any

# moto reads this when it is imported: its own list of images takes four seconds,
# and the rehearsal has its own.
os.environ.setdefault("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")

from botocore.parsers import create_parser
from botocore.serialize import create_serializer
from moto.core.utils import get_service_model
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.test import EnvironBuilder, run_wsgi_app

from cloudrun.rehearsal.wire import Answer, Refused, Request

_CODE = re.compile(rb"<Code>(.*?)</Code>")
_APP = DomainDispatcherApplication(create_backend_app)


class Moto:
    """One account's AWS in moto. Its calls are to be made one after the other."""

    def __init__(self) -> None:
        self.account = f"{random.randrange(10**11, 10**12)}"  # noqa: S311
        self._furnished: set[str] = set()

    def ask(self, region: str, action: str, **params: Any) -> dict[str, Any]:
        """Call one of EC2's actions as boto3's client would.

        Raises:
            Refused: moto answered an error.
        """
        self._furnish(region)
        operation = get_service_model("ec2").operation_model(action)
        form = create_serializer("ec2").serialize_to_request(params, operation)["body"]
        answer = self._call("ec2", region, EnvironBuilder(method="POST", data=form))
        raw = {"status_code": answer.status, "headers": {}, "body": answer.body}
        result: dict[str, Any] = create_parser("ec2").parse(raw, operation.output_shape)
        if answer.status >= 300:
            error = result["Error"]
            raise Refused(error["Code"], error["Message"], answer.status)
        del result["ResponseMetadata"]
        return result

    def pass_on(self, request: Request) -> Answer:
        """Let moto answer what the client sent."""
        self._furnish(request.region)
        names = ("content-type", "x-amz-target")
        headers = [(name, request.headers[name]) for name in names if name in request.headers]
        builder = EnvironBuilder(method="POST", data=request.body, headers=headers)
        return self._call(request.service, request.region, builder)

    def _call(self, service: str, region: str, builder: EnvironBuilder) -> Answer:
        scope = f"Credential=REHEARSAL/20260101/{region}/{service}/aws4_request"
        builder.headers["Authorization"] = f"AWS4-HMAC-SHA256 {scope}, Signature=0"
        builder.headers["X-Moto-Account-Id"] = self.account
        try:
            body, status, headers = run_wsgi_app(_APP, builder.get_environ(), buffered=True)
        except (KeyError, NotImplementedError) as lack:
            # A filter, or a way of doing it, that moto has not.
            text = f"The rehearsal cannot do that: {lack}"
            raise Refused("InvalidParameterValue", text) from lack
        whole, number = b"".join(body), int(status.split()[0])
        code = _CODE.search(whole) if number >= 300 else None
        error = code[1].decode() if code else ""
        return Answer(number, headers["Content-Type"], whole, error)

    def _furnish(self, region: str) -> None:
        """Give the default network its way to the Internet, which moto forgets.

        https://docs.aws.amazon.com/vpc/latest/userguide/default-vpc-components.html
        """
        if region in self._furnished:
            return
        self._furnished.add(region)
        default = [{"Name": "is-default", "Values": ["true"]}]
        vpc = self.ask(region, "DescribeVpcs", Filters=default)["Vpcs"][0]["VpcId"]
        gateway = self.ask(region, "CreateInternetGateway")["InternetGateway"]["InternetGatewayId"]
        self.ask(region, "AttachInternetGateway", InternetGatewayId=gateway, VpcId=vpc)
        inside = [{"Name": "vpc-id", "Values": [vpc]}]
        (table,) = self.ask(region, "DescribeRouteTables", Filters=inside)["RouteTables"]
        self.ask(
            region,
            "CreateRoute",
            RouteTableId=table["RouteTableId"],
            DestinationCidrBlock="0.0.0.0/0",
            GatewayId=gateway,
        )
