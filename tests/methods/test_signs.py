"""Signs of closed forms: a fixed rule by index, which leaves no direction to which all rows have the same cosine."""

from pathlib import Path

import pytest
import torch

import protogen
from protogen import catalog
from protogen.catalog import Padded, row_signs
from protogen.methods import method_of
from protogen.nn import StructuredPrototypes, as_prototypes
from protogen.spec import Spec

MASK = 2**64 - 1


def splitmix64(index: int) -> int:
    """Compute the hash of an index as it was published (Steele, Lea and Flood 2014), in Python's whole numbers."""
    x = (index + 1) * 0x9E3779B97F4A7C15 & MASK
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & MASK
    x = (x ^ x >> 27) * 0x94D049BB133111EB & MASK
    return x ^ x >> 31


def test_signs_are_the_last_bits_of_the_hash() -> None:
    assert row_signs(0, 1000).tolist() == [1 - 2 * (splitmix64(index) & 1) for index in range(1000)]
    assert torch.equal(row_signs(123, 456), row_signs(0, 1000)[123:456])
    assert abs(row_signs(0, 100_000).mean()) < 0.01  # three standard deviations


def distance_to_a_common_direction(rows: torch.Tensor) -> float:
    """Return how far the cosines of the rows to the best direction are from being all the same."""
    ones = torch.ones(len(rows), 1, dtype=torch.float64)
    return float((rows.double() @ (torch.linalg.pinv(rows.double()) @ ones) - ones).abs().max())


@pytest.mark.parametrize("label", ["kerdock(k=2)", "mub(p=5)", "delsarte-goethals(m=3,t=0)", "paley(q=9)"])
def test_signs_leave_no_common_direction(label: str) -> None:
    form = catalog.from_label(label)
    for n in (form.own_n, form.own_n - 1):
        assert distance_to_a_common_direction(Padded(form, n, form.own_d, signed=True).rows(0, n)) > 0.5
    few = Padded(form, form.own_d // 2, form.own_d, signed=True)
    assert distance_to_a_common_direction(few.rows(0, few.n)) < 1e-6  # independent rows have one, whatever the signs


def test_kerdocks_first_rows_have_one_without_signs() -> None:
    form = catalog.from_label("kerdock(k=2)")
    assert distance_to_a_common_direction(form.rows(0, 100)) < 1e-6


def test_a_request_is_of_version_2_and_version_1_stays() -> None:
    new = protogen.resolve("ebv", d=17, n=100, start="closed-form")
    old = Spec.of("ebv", 1, d=17, n=100, seed=0, params=new.options)
    assert new.version == 2
    form = catalog.from_label("kerdock(k=2)")
    assert torch.equal(protogen.generate(old).tensor, Padded(form, 100, 17).rows(0, 100))
    made = protogen.generate(new)
    assert torch.equal(made.tensor, Padded(form, 100, 17, signed=True).rows(0, 100))
    assert made.tensor[made.tensor == 0].signbit().sum() == 0
    assert made.stats is not None
    assert made.stats.coherence.value == pytest.approx(0.25, abs=1e-6)
    assert type(method_of(old)).version == 1


def test_an_extension_has_the_signs_of_what_it_extends(tmp_path: Path) -> None:
    options = {"start": "closed-form:kerdock(k=2)"}
    for version in (1, 2):
        before = Spec.of("ebv", version, d=17, n=100, seed=0, params=options)
        path = protogen.ensure(before, store=tmp_path).path
        after = protogen.resolve("ebv", d=17, n=120, extends=str(path))
        assert after.version == version
        assert torch.equal(protogen.generate(after).tensor[:100], protogen.load(path).tensor)


@pytest.mark.slow
@pytest.mark.parametrize("version", [1, 2])
def test_structured_prototypes_fold_the_signs_in(version: int, tmp_path: Path) -> None:
    spec = Spec.of("ebv", version, d=17, n=100, seed=0, params={"start": "closed-form:kerdock(k=2)"})
    made = protogen.ensure(spec, store=tmp_path)
    rows = made.tensor.double()
    features = torch.randn(3, 17, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    for source in (made, made.path):
        fast = as_prototypes(source)
        assert isinstance(fast, StructuredPrototypes)
        assert torch.equal(fast.rows(0, 100), made.tensor)
        torch.testing.assert_close(fast.product(features), features @ rows.T)
        torch.testing.assert_close(fast.product(features, 5, 50), features @ rows[5:50].T)
        torch.testing.assert_close(fast.combine(torch.ones(2, 100).double()), rows.sum(0).expand(2, 17))
        assert torch.autograd.gradcheck(fast.product, features)
