"""Arguments in, a verb called, an exit status out."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from .. import _native
from .._errors import UltarError
from . import bench, convert, index, inspect, lsp, run
from .text import error

INTERRUPTED = 130
"""What shells expect of a command that Ctrl-C ended."""

EXPECTED = (UltarError, OSError, ValueError, TypeError, MemoryError, ImportError)
"""What files, scripts and arguments can cause. Anything else is a fault of ours, and shows
its traceback."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Errors go to standard error, without a Python traceback."""
    arguments = _parser().parse_args(argv)
    try:
        status: int = arguments.verb(arguments)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader, such as `head`, has enough. Python would complain again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except EXPECTED as failure:
        error(failure)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ultar-dataloader",
        description="Index tar shards, and look at what scripts make of them.",
    )
    parser.add_argument("--version", action="version", version=f"ultar-dataloader {_native.__version__}")
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    for module in (index, convert, run, inspect, bench, lsp):
        module.add_to(verbs)
    return parser
