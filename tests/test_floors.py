"""Imports point down only: the table of the house, held by the source itself."""

import ast
import sys
from pathlib import Path

import pytest

import minirnn

ROOT = Path(__file__).resolve().parents[1]
MINIRNN = sorted(ROOT.glob("minirnn/**/*.py"))
DIAGNOSTICS = sorted(ROOT.glob("diagnostics/**/*.py"))

# Room of minirnn -> the rooms that it may import, and the libraries beside Python's own.
# engine and kernels are strangers to each other; equations knows neither.
BELOW_LAYERS = {"equations", "cells", "engine", "kernels"}
ROOMS = {
    "__init__": (set(), set()),
    "equations": ({"equations"}, set()),
    "engine": ({"engine"}, {"numpy"}),
    "kernels": ({"kernels", "equations"}, {"numpy", "numba", "llvmlite"}),
    "cells": ({"cells", "equations"}, set()),
    "layers": ({"layers"} | BELOW_LAYERS, {"numpy"}),
    "data": ({"data", "layers"} | BELOW_LAYERS, {"numpy"}),
    "training": ({"data", "layers"} | BELOW_LAYERS, {"numpy"}),
    "regularise": ({"regularise", "layers"} | BELOW_LAYERS, {"numpy"}),
    "container": (BELOW_LAYERS, {"numpy", "safetensors"}),
    "checkpoint": ({"container", "layers"} | BELOW_LAYERS, {"numpy"}),
    "interop": ({"interop", "data", "layers"} | BELOW_LAYERS, {"numpy", "onnx"}),
}
# The grammar's functions answer arrays too; they import NumPy when an array comes, not before.
IMPORTED_INSIDE_A_CALL = {("minirnn/equations/functions.py", "numpy")}


def room_of(path):
    """Name the room of a file: its folder in minirnn, or its own name at the top."""
    return path.relative_to(ROOT / "minirnn").with_suffix("").parts[0]


def imports(path):
    """Yield (module, names, inside a call) for every import of a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, (), id(node) in inside
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}:{node.lineno}: imports are absolute"
            yield node.module, tuple(a.name for a in node.names), id(node) in inside


def name_of(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", MINIRNN, ids=name_of)
def test_a_room_of_minirnn_imports_downwards_only(path):
    room = room_of(path)
    assert room in ROOMS, f"{path.name} belongs to no room of the house: give it one in ROOMS"
    rooms, libraries = ROOMS[room]
    for module, names, inside in imports(path):
        top, *rest = module.split(".")
        if top == "minirnn":
            targets = [rest[0]] if rest else [minirnn_home(name) for name in names]
            assert set(targets) <= rooms, f"{room} must not import {module} {names}"
        elif top not in sys.stdlib_module_names and top not in libraries:
            exception = (path.relative_to(ROOT).as_posix(), top)
            assert inside and exception in IMPORTED_INSIDE_A_CALL, f"{room} must not import {top}"


def minirnn_home(name):
    """Room of ``from minirnn import name``; a public name would hide which room it is."""
    return name if name in ROOMS else f"the public name {name}"


@pytest.mark.parametrize("path", DIAGNOSTICS, ids=name_of)
def test_diagnostics_use_public_names_of_minirnn_only(path):
    for module, names, _ in imports(path):
        if module.split(".")[0] == "minirnn":
            assert module == "minirnn", f"{module} is not a public name"
            assert set(names) <= set(minirnn.__all__), names
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.value.id == "minirnn":
                assert node.attr in minirnn.__all__, f"line {node.lineno}: minirnn.{node.attr}"


def test_every_public_name_can_be_imported():
    for name in minirnn.__all__:
        assert getattr(minirnn, name) is not None
