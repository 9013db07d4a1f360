"""Results that depend on the Spec alone: whatever torch takes for its default dtype and device meanwhile."""

import functools
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

import protogen
from protogen import catalog
from protogen.descent.effort import BUDGETS
from protogen.measuring.geometry import random_signs
from protogen.measuring.measure import measure
from protogen.nn import CosineHead, StructuredPrototypes, as_prototypes
from protogen.rows import InMemory
from protogen.run import Progress

# A small member or two of every family.
SMALL = [
    "sharp-lines(d=4,n=60)",
    "quadruples(v=9)",
    "signed-triples(v=11)",
    "section-lines(d=14,n=112)",
    "section-lines(d=14,n=140)",
    "section-points(d=16,n=46)",
    "kerdock(k=1)",
    "delsarte-goethals(m=3,t=0)",
    "z4-kerdock(m=1)",
    "kerdock-off-flat(k=3,r=3)",
    "mub(p=3)",
    "ternary-mub(m=1)",
    "phases(p=5,degree=3)",
    "net(levels=[2.1.2;1.1.2],order=2)",
    "space(k=2,q=2,infinity=0,order=4)",
    "design(v=3,k=2,order=2)",
    "cyclic(v=7,blocks=[0.2.3],order=4)",
    "paley(q=5)",
    "bent(m=2,value=1)",
    "unitary(q=3)",
    "triples(v=3,simplex=1)",
    "labels(form=kerdock(k=1),count=2,cut=1)",
    "blow-up(form=simplex-lines(d=2),size=3,n=6)",
    "projection(form=net(levels=[2.2.1;1.1.2],order=4))",
    "punctured(form=delsarte-goethals(m=3,t=0),drop=1)",
    "simplices(n=6,k=2)",
    "sharp-points(d=4,n=10)",
    "quadric-points(q=2)",
    "antipodes(form=orthonormal(k=3))",
    "simplex-labels(form=kerdock(k=1),count=2)",
    "orthonormal(k=4)",
    "simplex-lines(d=4)",
    "sharp-lines(d=8,n=120)",
    "kerdock(k=2)",
    "mub(p=9)",
    "paley(q=9)",
    "net(levels=[3.3.3;1.1.3],order=4)",
    "design(v=7,k=3,order=4)",
    "space(k=2,q=3,infinity=0,order=4)",
    "bent(m=2,value=0)",
    "antipodes(form=mub(p=3))",
    "phases(p=7,degree=3)",
    "cut-pairs(v=2,degree=1,order=1,copies=2)",
    "cut-triples(v=7,count=1,order=4,copies=1)",
    "cut-cyclic(v=13,blocks=[0.6.8.9],order=4,copies=1)",
    "cut-net(q=2,slopes=2,columns=2,order=2,copies=1)",
    "conference(q=7,doublings=1)",
    "graphical(q=7)",
    "centred-net(q=3,classes=2)",
    "centred-blocks(v=3,k=2)",
    "mathon(q=3)",
    "lifted-blocks(k=2)",
    "copies(form=paley(q=5),size=5,n=10)",
    "equiangular(d=16,n=40)",
    "beside(form=cut-pairs(v=2,degree=1,order=1,copies=2),extra=2)",
    "projections(form=cut-pairs(v=9,degree=8,order=8,copies=1),steps=2)",
    "hadamard-rows(order=4,drop=1)",
    "lengthened(form=kerdock(k=1),ones=1)",
    "joined(form=kerdock(k=1),other=hadamard-rows(order=8,drop=1))",
]


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


AMBIENT = {
    "float64": lambda: default_dtype(torch.float64),
    "bfloat16": lambda: default_dtype(torch.bfloat16),
    "meta": lambda: torch.device("meta"),
}


@functools.cache
def caches() -> list[Any]:
    """Every cache of the package, found once: that is a walk over all objects."""
    found = [one for one in gc.get_objects() if type(one) is functools._lru_cache_wrapper]
    return [one for one in found if one.__module__.startswith("protogen")]


def forget() -> None:
    """Empty every cache of tables, so that they are made under the settings of the test."""
    for one in caches():
        one.cache_clear()


@pytest.fixture(params=AMBIENT)
def ambient(request: pytest.FixtureRequest):
    forget()
    yield AMBIENT[request.param]
    forget()


def test_every_family_is_tried() -> None:
    assert {label.partition("(")[0] for label in SMALL} == set(catalog.FAMILIES)


@pytest.mark.parametrize("label", SMALL)
def test_closed_forms_have_the_same_bytes(label: str, ambient) -> None:
    with ambient():
        form = catalog.from_label(label)
        rows = form.rows(0, form.own_n)
    forget()
    assert rows.device.type == "cpu"
    assert rows.dtype == torch.float32
    assert torch.equal(rows, catalog.from_label(label).rows(0, form.own_n))


@pytest.mark.parametrize(
    "spec",
    [
        protogen.resolve("ebv", d=5, n=9, start="random", steps=5),
        protogen.resolve("ebv", d=5, n=9, start="random", steps=5, update="paper"),
        protogen.resolve("ebv", d=17, n=100, start="closed-form"),
        protogen.resolve("ebv", d=8, n=40, steps=5),
        pytest.param(protogen.resolve("ebv", d=8, n=12, effort="low"), marks=pytest.mark.slow, id="ebv-search"),
        protogen.resolve("uniform", d=5, n=9, steps=5),
        protogen.resolve("simplex", d=5, n=4),
        protogen.resolve("cube", d=5, n=9),
        protogen.resolve("subcenters", d=5, n=4),
    ],
    ids=lambda spec: f"{spec.method}-{spec.options.get('start')}-{spec.options.get('update')}",
)
def test_methods_have_the_same_bytes_and_figures(spec: protogen.Spec, ambient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BUDGETS, "low", 1e9)
    with ambient():
        made = protogen.generate(spec)
    forget()
    again = protogen.generate(spec)
    assert torch.equal(made.tensor, again.tensor)
    assert made.stats == again.stats
    assert made.facts == again.facts
    assert made.tensors.keys() == again.tensors.keys()
    assert all(torch.equal(made.tensors[name], again.tensors[name]) for name in made.tensors)


def test_signs_and_measures_have_the_same_values(ambient) -> None:
    rows = protogen.generate(protogen.resolve("simplex", d=5, n=6)).tensor
    with ambient():
        signed, stats = random_signs(rows, seed=3), measure(InMemory(rows), "cpu")
    assert torch.equal(signed, random_signs(rows, seed=3))
    assert stats == measure(InMemory(rows), "cpu")


@pytest.mark.parametrize("label", ["kerdock(k=2)", "mub(p=5)", "net(levels=[3.3.3;1.1.3],order=4)"])
def test_structured_prototypes_compute_the_same(label: str, ambient) -> None:
    with ambient():
        head = CosineHead(StructuredPrototypes(label))
    features = torch.randn(3, head.prototypes.d, generator=torch.Generator().manual_seed(0))
    found = head(features)
    forget()
    assert torch.equal(found, CosineHead(StructuredPrototypes(label))(features))


@pytest.mark.slow
def test_a_store_is_filled_the_same(tmp_path: Path, ambient) -> None:
    with ambient():
        made = as_prototypes(n=28, d=7, store=tmp_path / "one")
    forget()
    again = as_prototypes(n=28, d=7, store=tmp_path / "other")
    assert made.fingerprint == again.fingerprint
    features = torch.randn(3, 7, generator=torch.Generator().manual_seed(0))
    assert torch.equal(made.product(features), again.product(features))


@pytest.mark.parametrize(
    "asked",
    [
        {"start": "random", "steps": 2},
        {"start": "orbits", "steps": 2},
        {"effort": "low"},
    ],
    ids=["by steps", "orbits", "search"],
)
def test_descents_multiply_in_full_precision(asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BUDGETS, "low", 1e7)
    seen = set()

    def report(at: Progress) -> None:
        seen.add((torch.backends.cuda.matmul.fp32_precision, torch.backends.mkldnn.matmul.fp32_precision))

    torch.set_float32_matmul_precision("medium")
    try:
        protogen.generate("ebv", protogen.Run(report=report), d=4, n=80, **asked)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert seen == {("ieee", "ieee")}


@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
def test_measure_leaves_the_precision(precision: str) -> None:
    torch.set_float32_matmul_precision(precision)
    try:
        rows = protogen.generate(protogen.resolve("simplex", d=5, n=6)).tensor
        measure(InMemory(rows), "cpu")
        assert torch.get_float32_matmul_precision() == precision
    finally:
        torch.set_float32_matmul_precision("highest")
