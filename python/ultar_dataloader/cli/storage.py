"""`--storage-option`, as several verbs have it."""

from __future__ import annotations

import argparse
import json
from typing import Any


def add_to(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--storage-option",
        action="append",
        default=[],
        type=_pair,
        metavar="KEY=VALUE",
        help="for shards in object stores, such as region=eu-west-1; VALUE is JSON where it parses as such; "
        "may be repeated",
    )


def options(arguments: argparse.Namespace) -> dict[str, Any] | None:
    """What was given, as `storage_options`."""
    return dict(arguments.storage_option) or None


def _pair(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise argparse.ArgumentTypeError(f"wants KEY=VALUE, got {text!r}")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value
