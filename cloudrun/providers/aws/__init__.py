"""AWS: machines by the second, found, reached, and ended for sure. See docs/aws.md."""

from cloudrun.providers.aws.check import check
from cloudrun.providers.aws.create import connect, create
from cloudrun.providers.aws.ending import find, terminate
from cloudrun.providers.aws.offers import offers
from cloudrun.providers.aws.state import gone

__all__ = ["check", "connect", "create", "find", "gone", "name", "offers", "terminate"]

name = "aws"
