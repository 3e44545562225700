"""How a bucket is reached: its endpoint and credentials, as the cloud's own tools find them.

https://docs.aws.amazon.com/sdkref/latest/guide/settings-reference.html,
https://cloud.google.com/docs/authentication/application-default-credentials,
https://learn.microsoft.com/en-us/cli/azure/azure-cli-configuration
"""

from __future__ import annotations

import ipaddress
import json
import os
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from cloudrun.errors import AccessDenied, BadSettings, NoCredentials, NotInstalled
from cloudrun.reports.bucket_faults import LOG_IN

if TYPE_CHECKING:
    from obstore.store import AzureStore, GCSStore, S3Store

_MOST_RETRIES = 8
_BACKOFF = {"init_backoff": timedelta(seconds=0.1), "max_backoff": timedelta(seconds=3)}
# With one of these, obstore itself finds the rest of what it needs for S3.
_ENOUGH_FOR_S3 = (
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)


def objects(
    scheme: str, bucket: str, prefix: str, patience_s: float
) -> S3Store | GCSStore | AzureStore:
    """The objects of a bucket whose names begin with `prefix`, by obstore; asks no one yet.

    Raises:
        CloudrunError: there are no credentials, or the settings for them are wrong.
    """
    below = prefix.rstrip("/") or None
    if scheme == "s3":
        return _s3(bucket, below, patience_s)
    return _gs(bucket, below, patience_s) if scheme == "gs" else _az(bucket, below, patience_s)


def _s3(bucket: str, prefix: str | None, patience_s: float) -> S3Store:
    from obstore.store import S3Store

    endpoint = _variable("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
    more: dict[str, Any] = {"endpoint": endpoint} if endpoint else {}
    if not _variable(*_ENOUGH_FOR_S3):
        more["credential_provider"] = _profile()
    return S3Store(bucket, prefix=prefix, **_transport(endpoint, patience_s), **more)


def _profile() -> Any:
    """The credentials of the user's profile, single sign-on or machine, by boto3."""
    try:
        import boto3
        from botocore.exceptions import BotoCoreError
        from obstore.auth.boto3 import Boto3CredentialProvider
    except ImportError as error:
        raise NotInstalled(
            "AWS_ACCESS_KEY_ID is not set, and cloudrun's part for AWS is not installed.",
            "Profiles and single sign-on need boto3.",
            "Install boto3 beside cloudrun, or set the variable.",
        ) from error
    try:
        session = boto3.session.Session()
        credentials = session.get_credentials()
        if credentials is None:
            raise NoCredentials("No credentials for Amazon S3 were found here.", "", LOG_IN["s3"])
        credentials.get_frozen_credentials()
        return Boto3CredentialProvider(session)
    except BotoCoreError as error:
        raise AccessDenied(
            "The credentials for Amazon S3 cannot be used.",
            f"{str(error).rstrip('.')}.",
            LOG_IN["s3"],
        ) from error


def _gs(bucket: str, prefix: str | None, patience_s: float) -> GCSStore:
    from obstore.store import GCSStore

    endpoint = _variable("STORAGE_EMULATOR_HOST", "CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE")
    more: dict[str, Any] = {}
    if endpoint:
        endpoint = endpoint if "://" in endpoint else f"http://{endpoint}"
        more["base_url"] = endpoint.rstrip("/").removesuffix("/storage/v1")
    if endpoint and _is_loopback(endpoint):
        # With skip_signature alone, obstore 0.12 asks for credentials before it writes.
        anonymous = {"disable_oauth": True, "gcs_base_url": more["base_url"]}
        nobody = {"client_email": "", "private_key": "", "private_key_id": ""}
        more["service_account_key"] = json.dumps(anonymous | nobody)
    folder = _variable("CLOUDSDK_CONFIG")
    if folder and not _variable("GOOGLE_APPLICATION_CREDENTIALS"):
        file = Path(folder, "application_default_credentials.json")
        more |= {"application_credentials": str(file)} if file.is_file() else {}
    return GCSStore(bucket, prefix=prefix, **_transport(endpoint, patience_s), **more)


def _az(container: str, prefix: str | None, patience_s: float) -> AzureStore:
    from obstore.store import AzureStore

    told = _connection_string(_variable("AZURE_STORAGE_CONNECTION_STRING") or "")
    endpoint = told.get("BlobEndpoint") or _variable("AZURE_STORAGE_SERVICE_ENDPOINT")
    found = {
        "account_name": told.get("AccountName") or _variable("AZURE_STORAGE_ACCOUNT"),
        "account_key": told.get("AccountKey") or _variable("AZURE_STORAGE_KEY"),
        "sas_key": told.get("SharedAccessSignature") or _variable("AZURE_STORAGE_SAS_TOKEN"),
        "endpoint": endpoint,
    }
    more: dict[str, Any] = {name: value for name, value in found.items() if value}
    if not more.get("account_name") and not _variable("AZURE_STORAGE_ACCOUNT_NAME"):
        raise BadSettings(
            f"In which storage account is az://{container}?",
            "No storage account of Azure is named.",
            "Set AZURE_STORAGE_ACCOUNT to its name, or AZURE_STORAGE_CONNECTION_STRING.",
        )
    if not (more.get("account_key") or more.get("sas_key") or _variable("AZURE_CLIENT_ID")):
        more["use_azure_cli"] = True
    return AzureStore(container, prefix=prefix, **_transport(endpoint, patience_s), **more)


def _connection_string(text: str) -> dict[str, str]:
    pairs = (part.partition("=") for part in text.split(";"))
    return {name.strip(): value.strip() for name, _, value in pairs if value}


def _transport(endpoint: str | None, patience_s: float) -> dict[str, Any]:
    """How long answers are waited for; plain HTTP only where an endpoint asks for it."""
    return {
        "client_options": {
            "allow_http": urlsplit(endpoint or "").scheme == "http",
            "connect_timeout": "5s",
            "timeout": timedelta(seconds=2 * patience_s),
        },
        "retry_config": {
            "max_retries": _MOST_RETRIES,
            "backoff": _BACKOFF,
            "retry_timeout": timedelta(seconds=patience_s),
        },
    }


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _variable(*names: str) -> str | None:
    """The first of these variables that says something."""
    return next((value for name in names if (value := os.environ.get(name, "").strip())), None)
