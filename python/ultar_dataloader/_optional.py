"""Libraries that only some of the package needs: imported when they are, named when missing."""

from __future__ import annotations

import importlib
from types import ModuleType


def need(module: str, extra: str, purpose: str) -> ModuleType:
    """The module, imported.

    Raises:
        ImportError: It is not installed; the text says how it can be.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        text = f"{purpose} needs {module}: pip install 'ultar-dataloader[{extra}]'"
        raise ImportError(text, name=module) from error
