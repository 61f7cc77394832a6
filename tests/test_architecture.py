"""The folders show the architecture: what they promise is counted here."""

import ast
import inspect

import pytest
import structure

import pyfront

FILES = structure.files()


def test_imports_go_one_way():
    found = structure.arrows()
    assert len(found) > 20  # the count sees the imports at all
    assert structure.against_layers(found, structure.layers()) == []
    assert {room for arrow in found for room in arrow} <= structure.layers().keys()


def test_an_import_against_the_layers_is_seen():
    heights = structure.layers()
    assert structure.against_layers({("backend", "methods")}, heights) == [("backend", "methods")]
    assert structure.against_layers({("methods", "backend")}, heights) == []


def test_no_module_imports_itself_in_a_circle():
    assert [m for m, used in structure.uses().items() if m in used] == []


def test_the_top_of_the_package_is_small():
    modules = [p for p in FILES if p.parent == structure.PACKAGE and not p.name.startswith("__")]
    assert len(modules) <= 8


@pytest.mark.parametrize("path", structure.sources(), ids=structure.name_of)
def test_a_file_holds_one_idea(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) < 350


def test_only_the_backend_imports_the_core():
    users = {
        structure.room_of(structure.module_of(path))
        for path in FILES
        if any(name.endswith("._core") for name in structure.imports(path))
    }
    assert users == {"backend"}


PRIVATE = ("torch._", "_execution_engine", "_unsafe_preserve", "_pytree", "torch.utils._")


def test_private_names_of_torch_stand_in_one_file():
    users = set()
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.Attribute, ast.ImportFrom)):
                text = ast.unparse(node)
                if any(name in text for name in PRIVATE) and "_functorch.config" not in text:
                    users.add(path.name)
    assert users <= {"torch_private.py"}


def test_the_losses_go_to_the_kernel_in_few_moves():
    moves = structure.way_of_the_losses()
    assert 5 <= len(moves) <= 27


METHODS = [
    value
    for value in (getattr(pyfront, name) for name in pyfront.__all__)
    if inspect.isclass(value)
    and issubclass(value, pyfront.MultiTaskOptimizer)
    and value is not pyfront.MultiTaskOptimizer
]


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.__name__)
def test_a_method_overrides_no_private_name(method):
    allowed = {"__init__", "__init_subclass__", "__getstate__"}
    base = {name for owner in pyfront.MultiTaskOptimizer.__mro__[:-1] for name in vars(owner)}
    between = method.__mro__[: method.__mro__.index(pyfront.MultiTaskOptimizer)]
    own = {name for owner in between for name in vars(owner)}
    private = {name for name in own & base if name.startswith("_") and not name.startswith("__")}
    assert {name for name in private if not name.startswith("_abc")} == set()
    special = {name for name in own & base if name.startswith("__")}
    assert special <= allowed | {"__module__", "__doc__", "__abstractmethods__", "__annotations__"}
