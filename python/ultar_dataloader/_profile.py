"""What stores are told from elsewhere: credentials for S3 as the usual tools keep them, endpoints."""

from __future__ import annotations

import configparser
import os
from collections.abc import Mapping
from typing import Any

_KEYS = ("access_key_id", "secret_access_key", "session_token")


def s3_profile(given: Mapping[str, Any]) -> dict[str, Any]:
    """What `given` and the environment leave open and the profile says.

    The profile is ``given["profile"]``, that of ``AWS_PROFILE``, or ``default``, of
    ``~/.aws/credentials`` and ``~/.aws/config``, or of the files that
    ``AWS_SHARED_CREDENTIALS_FILE`` and ``AWS_CONFIG_FILE`` name.
    """
    named = given.get("profile") or os.environ.get("AWS_PROFILE")
    name = named or "default"
    values = {**_section(_file("AWS_CONFIG_FILE", "config"), name, f"profile {name}")}
    values |= _section(_file("AWS_SHARED_CREDENTIALS_FILE", "credentials"), name)
    if named and not values:
        raise ValueError(f"there is no profile {named!r} in ~/.aws")
    found: dict[str, Any] = {}
    # Keys come together: a key of one place with a secret of another fits no lock.
    has_keys = any(key in given or f"aws_{key}" in given for key in _KEYS)
    if not has_keys and (given.get("profile") or "AWS_ACCESS_KEY_ID" not in os.environ):
        found |= {key: values[f"aws_{key}"] for key in _KEYS if f"aws_{key}" in values}
    in_environment = {"region": ("AWS_REGION", "AWS_DEFAULT_REGION"), "endpoint": ("AWS_ENDPOINT_URL", "AWS_ENDPOINT")}
    for key, in_file in (("region", "region"), ("endpoint", "endpoint_url")):
        if in_file in values and not any(variable in os.environ for variable in in_environment[key]):
            found[key] = values[in_file]
    return found


_ENDPOINTS = {
    "s3": ("aws_endpoint_url", "aws_endpoint", "endpoint_url", "endpoint"),
    "az": ("azure_storage_endpoint", "azure_endpoint", "endpoint"),
    "gs": ("google_base_url", "base_url"),
}
"""The names that options for it have. The long ones are variables of the environment, too."""


def endpoint_of(scheme: str, options: Mapping[str, Any]) -> str:
    """Where requests go, if that is said; else ""."""
    names = _ENDPOINTS.get(scheme, ())
    given = {name.lower(): value for name, value in options.items()}
    found = [given.get(name) for name in names] + [os.environ.get(name.upper()) for name in names if "_" in name]
    return str(next(filter(None, found), ""))


def basic(login: str) -> str:
    """The header for ``user:password``, as a URL has it."""
    from base64 import b64encode
    from urllib.parse import unquote

    return "Basic " + b64encode(unquote(login).encode()).decode()


def _file(variable: str, name: str) -> str:
    return os.environ.get(variable) or os.path.join(os.path.expanduser("~"), ".aws", name)


def _section(path: str, *names: str) -> dict[str, str]:
    parser = configparser.RawConfigParser()
    try:
        parser.read(path, encoding="utf-8")
    except (OSError, configparser.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: {error}") from error
    return next((dict(parser[name]) for name in names if parser.has_section(name)), {})
