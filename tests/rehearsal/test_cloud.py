"""The way of a request: understood, logged, shown to the hooks, and refused if unknown."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from typing import Any

import pytest
from botocore.awsrequest import AWSRequest
from botocore.exceptions import ClientError
from botocore.httpsession import URLLib3Session

from cloudrun.rehearsal.cloud import Cloud
from cloudrun.rehearsal.faults import Fault
from cloudrun.rehearsal.wire import Answer, Request
from tests.doubles.aws import client
from tests.rehearsal.conftest import Launch

SIGNED = "AWS4-HMAC-SHA256 Credential=AKIATEST/20261124/us-east-1/{}/aws4_request, Signature=0"


def post(cloud: Cloud, service: str, body: str, **headers: str) -> tuple[int, str]:
    """Ask what boto3 would not let us."""
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    signed = {"Authorization": SIGNED.format(service)} if service else {}
    asked = AWSRequest("POST", cloud.url, {**kind, **signed, **headers}, data=body)
    answer = URLLib3Session().send(asked.prepare())
    return answer.status_code, answer.text


def code(error: pytest.ExceptionInfo[ClientError]) -> tuple[str, int]:
    told = error.value.response
    return told["Error"]["Code"], told["ResponseMetadata"]["HTTPStatusCode"]


def test_requests_are_logged_in_boto3s_words(paper: Cloud, ec2: Any, launch: Launch) -> None:
    instance = launch(UserData="#cloud-config\n", ClientToken="one")
    ec2.terminate_instances(InstanceIds=[instance])
    with pytest.raises(ClientError):
        ec2.delete_security_group(GroupId="sg-1")
    _, run, end, delete = paper.requests
    assert (run.service, run.region, run.action, run.status) == (
        "ec2",
        "us-east-1",
        "RunInstances",
        200,
    )
    assert (run.zone, run.market, run.instance_type) == ("us-east-1a", "on-demand", "g4dn.xlarge")
    assert run.params["ClientToken"] == "one"
    assert end.params == {"InstanceIds": [instance]}
    assert (delete.status, delete.error) == (400, "InvalidGroup.NotFound")
    assert paper.asked("RunInstances") == [run]


def test_hooks_see_requests_before_and_after(paper: Cloud, ec2: Any) -> None:
    seen: list[Any] = []

    def before(request: Request) -> None:
        seen.append((request.action, request.status))

    def after(request: Request, answer: Answer) -> None:
        seen.append((request.action, answer.status, b"<regionInfo>" in answer.body))

    paper.before, paper.after = before, after
    ec2.describe_regions()
    assert seen == [("DescribeRegions", None), ("DescribeRegions", 200, True)]


def test_a_hook_may_hold_a_request_while_others_go_on(paper: Cloud, ec2: Any) -> None:
    hold, held = threading.Event(), threading.Event()

    def before(request: Request) -> None:
        if request.action == "DescribeVpcs":
            held.set()
            hold.wait()

    paper.before = before
    asking = threading.Thread(target=client(paper, "ec2").describe_vpcs)
    asking.start()
    assert held.wait(10)
    assert ec2.describe_regions()["Regions"]
    hold.set()
    asking.join(10)
    assert [each.status for each in paper.requests] == [200, 200]


def test_latency_is_by_action(paper: Cloud, ec2: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    paper.latency = {"DescribeVpcs": 0.2, "*": 0.1}
    slept: list[float] = []
    monkeypatch.setattr("cloudrun.rehearsal.cloud.time.sleep", slept.append)
    ec2.describe_regions()
    ec2.describe_vpcs()
    assert slept == [0.1, 0.2]


def test_another_process_uses_it_by_its_environment(paper: Cloud) -> None:
    ask = "import boto3; print(boto3.client('sts').get_caller_identity()['Account'])"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    done = subprocess.run(
        [sys.executable, "-c", ask],
        env={**kept, **paper.environment()},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == paper.moto.account


def test_two_clouds_know_nothing_of_each_other(paper: Cloud, launch: Launch) -> None:
    launch()
    with Cloud() as other:
        assert client(other, "ec2").describe_instances()["Reservations"] == []
        assert client(other, "ec2").describe_volumes()["Volumes"] == []
    assert other.moto.account != paper.moto.account


def test_it_starts_fast() -> None:
    with Cloud():
        pass
    start = time.monotonic()
    with Cloud() as cloud:
        client(cloud, "ec2").describe_security_groups()
    assert time.monotonic() - start < 2


def test_a_stopped_cloud_answers_no_more(paper: Cloud) -> None:
    with Cloud() as other:
        asking = client(other, "ec2")
        asking.describe_regions()
    with pytest.raises(Exception, match="Could not connect"):
        asking.describe_regions()


def test_dry_runs_do_nothing(paper: Cloud, ec2: Any, asked: dict[str, Any], launch: Launch) -> None:
    instance = launch()
    with pytest.raises(ClientError) as error:
        ec2.run_instances(**asked, DryRun=True)
    assert code(error) == ("DryRunOperation", 412)
    with pytest.raises(ClientError, match="DryRunOperation"):
        ec2.create_security_group(GroupName="a", Description="b", DryRun=True)
    with pytest.raises(ClientError, match="DryRunOperation"):
        ec2.terminate_instances(InstanceIds=[instance], DryRun=True)
    assert [each.state for each in paper.instances.values()] == ["running"]


@pytest.mark.parametrize("dry", [True, False])
def test_what_the_caller_may_not_do(
    paper: Cloud, ec2: Any, asked: dict[str, Any], dry: bool
) -> None:
    paper.deny = {"ec2:RunInstances"}
    with pytest.raises(ClientError) as error:
        ec2.run_instances(**asked, DryRun=dry)
    assert code(error) == ("UnauthorizedOperation", 403)
    words = str(error.value)
    assert "is not authorized to perform: ec2:RunInstances on resource: arn:aws:ec2:" in words
    assert "Encoded authorization failure message: " in words
    assert paper.instances == {}


def test_tags_at_creation_take_a_permission_of_their_own(paper: Cloud, ec2: Any) -> None:
    paper.deny = {"ec2:CreateTags"}
    tags = [{"ResourceType": "security-group", "Tags": [{"Key": "a", "Value": "b"}]}]
    with pytest.raises(ClientError, match="perform: ec2:CreateTags"):
        ec2.create_security_group(GroupName="a", Description="b", TagSpecifications=tags)
    assert ec2.create_security_group(GroupName="a", Description="b")["GroupId"]


def test_other_services_deny_in_their_own_words(paper: Cloud) -> None:
    paper.deny = {"servicequotas:ListServiceQuotas", "sts:GetCallerIdentity"}
    with pytest.raises(ClientError) as error:
        client(paper, "service-quotas").list_service_quotas(ServiceCode="ec2")
    assert code(error) == ("AccessDeniedException", 400)
    # Everybody may ask who they are.
    assert client(paper, "sts").get_caller_identity()["Account"] == paper.moto.account


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda cloud: client(cloud, "ec2").describe_hosts(), "DescribeHosts is not valid"),
        (lambda cloud: client(cloud, "ssm").describe_parameters(), "DescribeParameters is not"),
        (lambda cloud: client(cloud, "sts").get_session_token(), "GetSessionToken is not valid"),
        (
            lambda cloud: client(cloud, "budgets").describe_budgets(AccountId="1" * 12),
            "no service budg",
        ),
    ],
)
def test_actions_and_services_that_it_does_not_know(paper: Cloud, ask: Any, words: str) -> None:
    with pytest.raises(ClientError, match=words):
        ask(paper)


def test_requests_that_boto3_would_not_send(paper: Cloud) -> None:
    told = post(paper, "ec2", "Action=DescribeVpcs&Version=2016-11-15&VpcID.1=vpc-1")
    assert (told[0], "UnknownParameter" in told[1], "VpcID.1" in told[1]) == (400, True, True)
    assert "InvalidAction" in post(paper, "ec2", "Action=Fly&Version=2016-11-15")[1]
    assert "MissingAuthenticationToken" in post(paper, "", "Action=DescribeVpcs")[1]
    told = post(paper, "ssm", '{"name": "x"}', **{"X-Amz-Target": "AmazonSSM.GetParameter"})
    assert (told[0], "UnknownParameter" in told[1]) == (400, True)
    told = post(paper, "ssm", "{", **{"X-Amz-Target": "AmazonSSM.GetParameter"})
    assert told[0] == 400
    assert [each.status for each in paper.requests] == [400, 400, 403, 400, 400]


@pytest.mark.parametrize(
    "action",
    [
        "describe_availability_zones",
        "describe_images",
        "describe_instance_status",
        "describe_instance_type_offerings",
        "describe_instances",
        "describe_network_interfaces",
        "describe_regions",
        "describe_route_tables",
        "describe_security_groups",
        "describe_spot_instance_requests",
        "describe_spot_price_history",
        "describe_subnets",
        "describe_tags",
        "describe_volumes",
        "describe_vpcs",
    ],
)
def test_an_unknown_filter_is_refused(ec2: Any, launch: Launch, action: str) -> None:
    launch()
    with pytest.raises(ClientError, match="InvalidParameterValue.*no-such"):
        getattr(ec2, action)(Filters=[{"Name": "no-such", "Values": ["x"]}])


def test_a_fault_needs_words() -> None:
    with pytest.raises(ValueError, match="needs a status and a message"):
        Fault("RunInstances", "NoIdea")
