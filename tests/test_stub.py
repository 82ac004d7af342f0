"""The stub against the module: what one has, the other has."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import ultar_dataloader
from ultar_dataloader import _native

STUB = ast.parse(Path(ultar_dataloader.__file__).with_name("_native.pyi").read_text())
# What every class has, or what only the type checker sees.
NOT_COMPARED = set(dir(object)) | {"__class_getitem__", "__module__", "__hash__", "__reversed__", "__abstractmethods__"}
NOT_COMPARED |= {"__buffer__", "__release_buffer__"}  # Python 3.12 and later show them.
NOT_COMPARED.add("__slotnames__")  # `copyreg` keeps it in a class whose instances were pickled.


def public(names: set[str]) -> set[str]:
    return {name for name in names if not name.startswith("_") or name == "__version__"}


def stubbed_names(body: list[ast.stmt]) -> set[str]:
    names: set[str] = set()
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            if not any(isinstance(one, ast.Name) and one.id == "type_check_only" for one in node.decorator_list):
                names.add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    return names


def classes() -> list[ast.ClassDef]:
    return [node for node in STUB.body if isinstance(node, ast.ClassDef) and hasattr(_native, node.name)]


def test_module_has_what_the_stub_says() -> None:
    assert public(stubbed_names(STUB.body)) == public(set(dir(_native)))


@pytest.mark.parametrize("stub", classes(), ids=lambda stub: stub.name)
def test_class_has_what_the_stub_says(stub: ast.ClassDef) -> None:
    promised = stubbed_names(stub.body)
    there = set(dir(getattr(_native, stub.name)))
    assert promised <= there, "the module lacks some"
    assert there - promised - NOT_COMPARED == set(), "the stub lacks some"


@pytest.mark.parametrize("stub", classes(), ids=lambda stub: stub.name)
def test_class_cannot_be_derived_from(stub: ast.ClassDef) -> None:
    with pytest.raises(TypeError):
        type("Derived", (getattr(_native, stub.name),), {})


def test_public_names_are_all_there() -> None:
    assert sorted(ultar_dataloader.__all__) == ultar_dataloader.__all__
    for name in ultar_dataloader.__all__:
        assert hasattr(ultar_dataloader, name), name


@pytest.mark.parametrize(
    "arguments",
    [
        ["mypy.stubtest", "ultar_dataloader._native"],
        ["mypy", "--strict", "--config-file=", str(Path(__file__).parent / "typing" / "cases.py")],
    ],
    ids=["signatures are those of the stub", "types are what users see"],
)
def test_mypy_agrees(arguments: list[str], tmp_path: Path) -> None:
    pytest.importorskip("mypy", reason="mypy is in the extra `dev`")
    command = [sys.executable, "-m", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
