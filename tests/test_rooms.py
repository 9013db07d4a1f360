"""Who may import whom, what an import costs, and the public names."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import protogen

PACKAGE = Path(protogen.__file__).parent

# From the ground up: a room, which is a folder or a file of the package, imports from rooms before its own alone.
ROOMS = [
    *("errors", "spec", "checks", "bounds", "ranks", "rows", "run", "measuring", "files", "solution"),
    *("catalog.family", "catalog.algebra", "catalog.direct", "catalog.derived", "catalog.points", "catalog"),
    *(
        "descent",
        "fitting",
        "methods",
        "generating",
        "store",
        "sharing",
        "capacity",
        "nn",
        "advice",
        "demo",
        "report",
        "topics",
        "cli",
        "",
        "__main__",
    ),
]
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").rstrip("."): path
    for path in PACKAGE.rglob("*.py")
}

# What the command line needs before it knows that there is work to do.
LIGHT = [
    "errors",
    "spec",
    "bounds",
    "files.header",
    "store.store",
    "store.access",
    "cli",
    "cli.make",
    "cli.files",
    "cli.keep",
    "cli.remote",
    "cli.sizes",
    "cli.demo",
    "cli.topics",
    "report",
    "methods",
    "catalog",
]
HEAVY = ["torch", "scipy", "numpy"]


def imports_of(module: str, path: Path) -> set[str]:
    """The modules of this package that a module imports, anywhere in its source."""
    package = ["protogen", *module.split(".")] if module else ["protogen"]
    if path.name != "__init__.py":
        package.pop()
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            home = ".".join([*base, *([node.module] if node.module else [])])
            # `from . import report` names a module, `from .report import record` does not.
            found += [f"{home}.{alias.name}" for alias in node.names] if is_package(home) else [home]
    ours = (name.removeprefix("protogen").lstrip(".") for name in found if name.split(".")[0] == "protogen")
    return {name if name in MODULES else name.rpartition(".")[0] for name in ours}


def room_of(module: str) -> str:
    """The room that a module belongs to: the longest of the list that its name begins with."""
    return max((room for room in ROOMS if room and f"{module}.".startswith(f"{room}.")), key=len, default=module)


def is_package(name: str) -> bool:
    return (PACKAGE.parent / name.replace(".", "/") / "__init__.py").exists()


def test_every_module_has_a_room() -> None:
    assert {room_of(module) for module in MODULES} == set(ROOMS)


def test_few_modules_lie_directly_in_the_package() -> None:
    assert len(list(PACKAGE.glob("*.py"))) <= 12


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_module_imports_from_rooms_below(module: str) -> None:
    room = room_of(module)
    others = {room_of(name) for name in imports_of(module, MODULES[module])} - {room}
    assert {other for other in others if ROOMS.index(other) > ROOMS.index(room)} == set()


def test_the_reading_of_imports_sees_every_form() -> None:
    assert imports_of("cli.files", MODULES["cli.files"]) >= {"report", "report.plot", "cli.options", "files.figures"}
    assert imports_of("cli", MODULES["cli"]) >= {"errors", "cli.commands", "cli.options"}
    assert imports_of("bounds", MODULES["bounds"]) == {"errors"}  # written `from protogen.errors import`
    assert imports_of("methods.ebv", MODULES["methods.ebv"]) >= {"catalog", "bounds", "methods.method", "descent.loop"}
    assert imports_of("", MODULES[""]) >= {"store.access", "errors", "methods", "generating", "files.prototypes", "run"}
    assert imports_of("errors", MODULES["errors"]) == set()


def test_no_test_imports_from_another() -> None:
    tests = Path(__file__).parent
    for path in tests.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in names if name.startswith("test_")], path


def python(code: str) -> list[str]:
    """Run code in a fresh interpreter and return the lines that it prints."""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return ran.stdout.splitlines()


@pytest.mark.slow
def test_asking_loads_neither_torch_nor_scipy() -> None:
    code = f"""
import importlib, sys
def loaded(what):
    print(what, *(name for name in {HEAVY} if name in sys.modules))
import protogen
loaded("protogen")
for module in {LIGHT}:
    importlib.import_module("protogen." + module)
    loaded(module)
from protogen import catalog
for name, family in catalog.FAMILIES.items():
    form = family.reach(20, 22)
    catalog.from_label(catalog.label(form)) if form else None
    form and (form.own_d, form.own_n, form.cosine)
    loaded(name)
from protogen.methods import METHODS, method_of, resolve
for name, method in METHODS.items():
    options = {{each: "0" * 64 for each, tensors in method.uses.items() if not tensors}}
    spec = resolve(name, d=60, n=40, **options)
    method_of(spec).peak_bytes(60, 40)
    loaded(name)
protogen.Spec, protogen.Run, protogen.resolve, protogen.load, protogen.ProtogenError
loaded("names")
import torch
loaded("torch")
"""
    lines = python(code)
    assert lines[0] == "protogen"
    assert lines[1 : 1 + len(LIGHT)] == LIGHT
    assert {"mub", "orthonormal", "ebv", "names"} <= set(lines)
    assert lines[-1].startswith("torch torch")  # the check sees what is loaded
    assert [line for line in lines[:-1] if line.split()[1:]] == []


@pytest.mark.slow
def test_public_names_are_lazy_and_survive_each_other(tmp_path: Path) -> None:
    # Were a function and a module of one name, loading the module would put it in the function's place.
    names = set(protogen.__all__)
    assert not names & set(MODULES)
    lines = python(f"""
import protogen
print(sorted(set(protogen.__all__) & set(vars(protogen))))
print(sorted(set(protogen.__all__) - set(dir(protogen))))
spec = protogen.resolve("ebv", d=4, n=3)
made = protogen.ensure(spec, store={str(tmp_path)!r})
print(protogen.load(made.path).spec == spec, protogen.load("ebv", store={str(tmp_path)!r}).spec == spec)
print(protogen.generate(spec).n, callable(protogen.ensure), isinstance(made, protogen.Prototypes))
from protogen import *
print(all(globals()[name] is getattr(protogen, name) for name in protogen.__all__))
""")
    assert lines == ["[]", "[]", "True True", "3 True True", "True"]


def test_an_unknown_name_is_said_so() -> None:
    with pytest.raises(AttributeError, match="'protogen' has no attribute 'nothing'"):
        _ = protogen.nothing
    with pytest.raises(AttributeError, match=r"no attribute 'uniform'; write protogen.ensure\('uniform', ...\)"):
        _ = protogen.uniform
