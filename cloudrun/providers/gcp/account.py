"""Who we are at Google, in which project, and where its APIs answer: as gcloud finds them.

https://cloud.google.com/docs/authentication/application-default-credentials and
https://cloud.google.com/sdk/docs/properties#setting_properties_using_environment_variables
"""

from __future__ import annotations

import configparser
import functools
import importlib.util
import ipaddress
import os
import sys
import threading
import warnings
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cloudrun.errors import AccessDenied, BadSettings, NoCredentials, NotInstalled
from cloudrun.providers.base import install_command

_OVERRIDE = "CLOUDSDK_API_ENDPOINT_OVERRIDES_"
_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_LOG_IN = "Log in (gcloud auth application-default login), then: cloudrun doctor"
_CONNECTIONS = 32
# Tells whether this machine is one of Google's, without a word on the network.
_PRODUCT = Path("/sys/class/dmi/id/product_name")


def compute() -> str:
    """Where the Compute API answers, without a slash at its end."""
    return _override("COMPUTE", "compute/v1") or "https://compute.googleapis.com/compute/v1"


def resource_manager() -> str | None:
    """Where the Resource Manager API answers; None where only the Compute API is said to be."""
    there = _override("CLOUDRESOURCEMANAGER", "v1")
    if there is None and _override("COMPUTE", "") is not None:
        return None
    return there or "https://cloudresourcemanager.googleapis.com/v1"


def _override(api: str, path: str) -> str | None:
    """What gcloud's variable says; its value may have the API's path, or leave it out."""
    value = os.environ.get(_OVERRIDE + api, "").strip().rstrip("/")
    if not value:
        return None
    return value if value.endswith(path) else f"{value}/{path}"


def is_anonymous() -> bool:
    """Whether the API is on a loopback address, which no credentials are sent to."""
    host = urlsplit(compute()).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def project() -> str:
    """The project: of the environment, of the credentials, of gcloud's settings.

    Raises:
        BadSettings: none is named.
        NoCredentials: nor is there anything else of Google's here.
    """
    named = os.environ.get("GOOGLE_CLOUD_PROJECT") or os.environ.get("CLOUDSDK_CORE_PROJECT")
    found = named or _credentials()[1] or setting("core", "project")
    if not found:
        raise BadSettings(
            "No project at Google Cloud is named.",
            "GOOGLE_CLOUD_PROJECT, your credentials and gcloud's settings name none.",
            "Name it: gcloud config set project PROJECT, or GOOGLE_CLOUD_PROJECT=PROJECT",
        )
    return found


def setting(section: str, name: str) -> str:
    """A value of gcloud's active settings; empty when there is none."""
    folder = _folder()
    active = os.environ.get("CLOUDSDK_ACTIVE_CONFIG_NAME") or _read(folder / "active_config")
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read(folder / "configurations" / f"config_{active or 'default'}", "utf-8")
    except (configparser.Error, OSError, UnicodeDecodeError):
        return ""
    return parser.get(section, name, fallback="").strip()


def home_region() -> str:
    """The region that the user's settings for Google name; empty when they name none."""
    return os.environ.get("CLOUDSDK_COMPUTE_REGION") or setting("compute", "region")


def who() -> str:
    """Who we are, in a few words."""
    if is_anonymous():
        return "nobody (the API is on this machine)"
    found = _credentials()[0]
    name = getattr(found, "service_account_email", "") or getattr(found, "account", "")
    return str(name or setting("core", "account") or "an account that does not say its name")


def session() -> Any:
    """The session that calls Google's APIs; made once.

    Raises:
        NotInstalled, NoCredentials, AccessDenied: see `_credentials`.
    """
    with _lock:
        return _session()


_lock = threading.Lock()


@functools.cache
def _session() -> Any:
    _need_installed()
    if is_anonymous():
        import requests

        made: Any = requests.Session()
        # What a proxy or a .netrc is for is elsewhere.
        made.trust_env = False
    else:
        credentials = _credentials()[0]
        from google.auth.transport.requests import AuthorizedSession

        made = AuthorizedSession(credentials)
    from requests.adapters import HTTPAdapter

    for scheme in ("http://", "https://"):
        made.mount(scheme, HTTPAdapter(pool_maxsize=_CONNECTIONS))
    return made


def forget() -> None:
    """Forget session and credentials: who we are has changed."""
    _session.cache_clear()
    _credentials.cache_clear()


@functools.cache
def _credentials() -> tuple[Any, str]:
    """Application default credentials, and their project (empty when they have none).

    Raises:
        NotInstalled: google-auth is missing.
        NoCredentials: there are none.
        AccessDenied: there are some, that cannot be read.
    """
    if is_anonymous():
        return None, ""
    _need_installed()
    if not _has_credentials():
        raise NoCredentials(
            "There are no credentials for Google Cloud.",
            "Neither GOOGLE_APPLICATION_CREDENTIALS nor gcloud's own file names any.",
            _LOG_IN,
        )
    import google.auth
    from google.auth.exceptions import GoogleAuthError

    try:
        with warnings.catch_warnings():
            # Of a user's own credentials it says that a service account would be better.
            warnings.simplefilter("ignore", UserWarning)
            found, named = google.auth.default(scopes=[_SCOPE])
    except (GoogleAuthError, OSError, ValueError) as error:
        raise AccessDenied(
            "Your credentials for Google Cloud cannot be read.", f"{error}"[:500], _LOG_IN
        ) from error
    return found, named or ""


def _has_credentials() -> bool:
    """Whether there are any to look for: google.auth itself would ask the network for seconds."""
    if os.environ.get("GOOGLE_APPLICATION_CREDENTIALS"):
        return True
    if (_folder() / "application_default_credentials.json").exists():
        return True
    # google.auth's own variable.
    if os.environ.get("NO_GCE_CHECK", "").lower() == "true":
        return False
    return _read(_PRODUCT) in ("Google", "Google Compute Engine")


def _need_installed() -> None:
    for name in ("google.auth", "requests"):
        try:
            missing = importlib.util.find_spec(name) is None
        except ModuleNotFoundError:
            missing = True
        if missing:
            raise NotInstalled(
                "cloudrun's part for Google Cloud is not installed.",
                f"It needs {name}.",
                install_command("gcp"),
            )


def _folder() -> Path:
    """Where gcloud keeps its settings."""
    if named := os.environ.get("CLOUDSDK_CONFIG"):
        return Path(named)
    if sys.platform == "win32":
        return Path(os.environ.get("APPDATA", "")) / "gcloud"
    return Path("~/.config/gcloud").expanduser()


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""
