"""What cloudrun adds to AWS's own time: to the order of a machine, and from its first answer on.

    python benchmarks/aws.py [--repeats N] [--latency 100ms]

Against the simulated AWS of the tests, whose machines are real ones in network
namespaces (needs root, openssh-server and iproute2, and an environment with
cloudrun's test extra). Each call takes as long as --latency says, which is
what an API call takes from a desk some hundred kilometres away from its region;
a machine boots in a tenth of a second, which is not what is measured.

`order`: from the start of `cloudrun launch --yes` to the arrival of RunInstances.
`serial`: the same for a client that makes the same calls with boto3, one after
another. `first line`: from the moment that the machine's sshd listens to the
first line of the smoke test, on an image that has torch.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from cloudrun.rehearsal.wire import Request
from tests.doubles import aws, machines
from tests.doubles.aws import RackedCloud

_LAUNCH = ("--gpu", "T4", "--yes", "--workload", "smoke", "--ssh-from", "10.99.0.0/16")
_TYPES = ("g4dn.xlarge", "g4dn.2xlarge", "g4dn.4xlarge", "g4dn.8xlarge", "g4dn.16xlarge")


def main() -> int:
    """Measure and print; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--latency", default="100ms", help="of each call")
    parser.add_argument("--serial", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serial:
        serial_client()
        return 0
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        machines.network() as bridge,
        aws.cloud(bridge, Path(folder) / "aws") as cloud,
    ):
        os.environ.update(cloud.environment())
        cloud.latency["*"] = float(options.latency.removesuffix("ms")) / 1000
        show(cloud, Path(folder), options.repeats)
    return 0


def show(cloud: RackedCloud, folder: Path, repeats: int) -> None:
    """Take turns, so that a slow moment strikes all, and print the medians."""
    ours = [sys.executable, "-m", "cloudrun", "launch", "--on"]
    rows: dict[str, Callable[[], tuple[float, int]]] = {
        "order, region named": lambda: order(cloud, folder, [*ours, "aws/us-east-1", *_LAUNCH]),
        "order, all regions": lambda: order(cloud, folder, [*ours, "aws", *_LAUNCH]),
        "serial": lambda: order(cloud, folder, [sys.executable, __file__, "--serial"]),
        "first line": lambda: first_line(cloud, folder, [*ours, "aws/us-east-1", *_LAUNCH]),
    }
    samples: dict[str, list[tuple[float, int]]] = {name: [] for name in rows}
    for number in range(repeats + 1):
        for name, measure in rows.items():
            print(f"measuring: {name}", file=sys.stderr)
            sample = measure()
            # The first round fills caches, of the disk and of moto.
            samples[name] += [sample] if number else []
    print(f"{'':<22}{'SECONDS':>8}  {'RANGE':<12} CALLS BEFORE")
    for name, found in samples.items():
        seconds = [each[0] for each in found]
        span = f"{min(seconds):.2f} to {max(seconds):.2f}"
        print(f"{name:<22}{statistics.median(seconds):>8.2f}  {span:<12} {found[0][1]}")


def order(cloud: RackedCloud, folder: Path, command: list[str]) -> tuple[float, int]:
    """Seconds until the machine is ordered, and how many calls came before that."""
    ordered, done = threading.Event(), threading.Event()
    moments: list[float] = []
    first = len(cloud.requests)

    def watch(request: Request) -> None:
        if request.action == "RunInstances" and not ordered.is_set():
            moments.append(time.monotonic())
            ordered.set()

    def see(request: Request, _answer: object) -> None:
        if request.action == "RunInstances":
            done.set()

    cloud.before, cloud.after = watch, see
    began = time.monotonic()
    with tempfile.TemporaryDirectory(dir=folder) as home:
        process = _start(command, home)
        if not ordered.wait(60):
            raise RuntimeError(f"nothing was ordered: {process.communicate()}")
        calls = sum(1 for each in cloud.requests[first:] if each.at <= time.time()) - 1
        process.terminate()
        process.communicate()
        # Its machine must not be taken for that of the next one.
        done.wait(60)
    cloud.before = cloud.after = None
    return moments[0] - began, calls


def first_line(cloud: RackedCloud, folder: Path, command: list[str]) -> tuple[float, int]:
    """Seconds from the machine's first answer to the first line of the smoke test."""
    known, first = set(cloud.instances), len(cloud.requests)
    with tempfile.TemporaryDirectory(dir=folder) as home:
        process = _start(command, home)
        listening: list[float] = []
        threading.Thread(target=_listen, args=(cloud, known, listening), daemon=True).start()
        for line in process.stderr or ():
            if line.startswith(("  ok ", "  FAIL ", "  skip ")):
                break
        else:
            raise RuntimeError("the smoke test said nothing")
        seconds = time.monotonic() - listening[0]
        calls = len(cloud.requests) - first
        process.communicate()
    return seconds, calls


def _listen(cloud: RackedCloud, known: set[str], listening: list[float]) -> None:
    while not (new := set(cloud.instances) - known):
        time.sleep(0.005)
    # The rack hears of it a moment later.
    time.sleep(0.05)
    machine = cloud.rack.machine(new.pop())
    while not any("Server listening" in line for line in machine.log):
        time.sleep(0.005)
    listening.append(time.monotonic())


def _start(command: list[str], home: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env={**os.environ, "CLOUDRUN_HOME": home},
    )


def serial_client() -> None:
    """The calls of a launch with boto3 as its pages show it, one after another."""
    import boto3

    ec2, ssm = boto3.client("ec2"), boto3.client("ssm")
    pricing = boto3.client("pricing", region_name="us-east-1")
    offered = [{"Name": "instance-type", "Values": list(_TYPES)}]
    ec2.describe_instance_type_offerings(LocationType="availability-zone", Filters=offered)
    for name in _TYPES:
        wanted = {"instanceType": name, "regionCode": "us-east-1", "operatingSystem": "Linux",
                  "tenancy": "Shared", "preInstalledSw": "NA",
                  "capacitystatus": "Used"}  # fmt: skip
        filters = [{"Type": "TERM_MATCH", "Field": k, "Value": v} for k, v in wanted.items()]
        pricing.get_products(ServiceCode="AmazonEC2", Filters=filters)
    vpc = next(v["VpcId"] for v in ec2.describe_vpcs()["Vpcs"] if v["IsDefault"])
    subnets = ec2.describe_subnets()["Subnets"]
    ec2.describe_route_tables()
    path = "/aws/service/deeplearning/ami/x86_64"
    pages = ssm.get_paginator("get_parameters_by_path").paginate(Path=path, Recursive=True)
    images = {p["Name"]: p["Value"] for page in pages for p in page["Parameters"]}
    image = images[f"{path}/oss-nvidia-driver-gpu-pytorch-2.13-ubuntu-26.04/latest/ami-id"]
    ec2.describe_images(ImageIds=[image])
    group = ec2.create_security_group(
        GroupName=f"serial-{os.getpid()}-{time.time_ns()}", Description="a benchmark", VpcId=vpc
    )["GroupId"]
    rule = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22,
            "IpRanges": [{"CidrIp": "192.0.2.1/32"}]}  # fmt: skip
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[rule])
    subnet = next(s["SubnetId"] for s in subnets if s["AvailabilityZone"] == "us-east-1a")
    ec2.run_instances(
        ImageId=image, InstanceType="g4dn.xlarge", MinCount=1, MaxCount=1, SubnetId=subnet,
        SecurityGroupIds=[group], UserData="#cloud-config\nbootcmd: []\n",
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
