"""Google Cloud: machines by the second, found, reached, and ended for sure. See docs/gcp.md."""

from cloudrun.providers.gcp.check import check
from cloudrun.providers.gcp.create import connect, create
from cloudrun.providers.gcp.ending import find, terminate
from cloudrun.providers.gcp.offers import offers
from cloudrun.providers.gcp.state import gone

__all__ = ["check", "connect", "create", "find", "gone", "name", "offers", "terminate"]

name = "gcp"
