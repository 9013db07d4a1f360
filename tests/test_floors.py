"""Who may import whom, what an import costs, and the public names."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import protogen

PACKAGE = Path(protogen.__file__).parent

# From the ground up: a module imports from floors below its own alone. A new file needs a floor here.
FLOORS: list[set[str]] = [
    {"errors", "spec"},
    {"bounds", "geometry", "stats", "provenance", "disk"},
    {"header"},
    {"checkpoint"},
    {"solution"},
    {"measure", "catalog.family", "catalog.fields"},
    {"catalog.hadamard"},
    {
        "catalog.blocks",
        "catalog.linear",
        "catalog.leech",
        "catalog.simplex",
        "catalog.packing",
        "catalog.roots",
        "catalog.quadratic",
    },
    {"catalog.*"},
    {"catalog.direct"},
    {"catalog.labels", "catalog.blowup", "catalog.projection", "catalog.punctured"},
    {"catalog.lines"},
    {"catalog.antipodes", "catalog.simplexlabels"},
    {"catalog"},
    {"descent"},
    {"methods.method", "methods.threshold"},
    {"methods.ebv", "methods.polytope", "methods.subcenters", "methods.uniform"},
    {"methods"},
    {"prototypes", "matrix", "transport"},
    {"remotes"},
    {"pipeline"},
    {"store", "locks"},
    {"upkeep", "lockfile"},
    {"access", "journal"},
    {"sync"},
    {"search"},
    {"capacity"},
    {"nn.frozen"},
    {"nn.checks", "nn.structured"},
    {"nn.heads", "nn.assignment"},
    {"nn.ddp", "nn.chunked", "nn.losses", "nn.margin", "nn.multicenter", "nn.subcenters"},
    {"nn"},
    {"demo", "demo.data", "demo.contestants"},
    {"demo.fashion", "demo.glyphs", "demo.training"},
    {"demo.tasks", "demo.results"},
    {"report", "display", "plot"},
    {"comparison"},
    {"cli.options"},
    {"cli.make", "cli.files", "cli.sizes", "cli.keep", "cli.remote", "cli.demo"},
    {"cli"},
    {""},
    {"__main__"},
]
FLOOR = {module: floor for floor, modules in enumerate(FLOORS) for module in modules}
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").rstrip("."): path
    for path in PACKAGE.rglob("*.py")
}

# What the command line needs before it knows that there is work to do.
LIGHT = ["errors", "spec", "bounds", "header", "store", "access", "cli", "report", "methods", "catalog"]
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


def floor_of(module: str) -> int:
    """A module's floor; a family of the catalogue has its own without being named."""
    return FLOOR.get(module, FLOOR["catalog.*"] if module.startswith("catalog.") else -1)


def is_package(name: str) -> bool:
    return (PACKAGE.parent / name.replace(".", "/") / "__init__.py").exists()


def test_every_module_has_a_floor() -> None:
    assert {module for module in MODULES if floor_of(module) < 0} == set()
    assert FLOOR.keys() - MODULES.keys() == {"catalog.*"}


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_module_imports_from_below(module: str) -> None:
    found = imports_of(module, MODULES[module])
    assert {name for name in found if floor_of(name) >= floor_of(module)} == set()


def test_the_reading_of_imports_sees_every_form() -> None:
    assert imports_of("cli.files", MODULES["cli.files"]) >= {"report", "plot", "cli.options", "matrix", "stats"}
    assert imports_of("cli", MODULES["cli"]) >= {"errors", "cli.make", "cli.files", "cli.options"}
    assert imports_of("bounds", MODULES["bounds"]) == {"errors"}  # written `from protogen.errors import`
    assert imports_of("methods.ebv", MODULES["methods.ebv"]) >= {"catalog", "bounds", "methods.method", "descent"}
    assert imports_of("", MODULES[""]) == {
        "access",
        "errors",
        "methods",
        "pipeline",
        "prototypes",
        "solution",
        "spec",
    }
    assert imports_of("errors", MODULES["errors"]) == set()


def python(code: str) -> list[str]:
    """Run code in a fresh interpreter and return the lines that it prints."""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return ran.stdout.splitlines()


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
for name in METHODS:
    spec = resolve(name, d=60, n=40)
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
