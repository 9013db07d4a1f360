"""Prototypes that are orbits: products by Fourier transforms against their own rows, and the choice by a fact."""

import copy
import pickle
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from draws import draw
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

import protogen
from protogen.descent.turned import Orbits, orbits_in
from protogen.errors import BadRequest
from protogen.files.facts import Turns
from protogen.nn import (
    CosineHead,
    FrozenPrototypes,
    StructuredPrototypes,
    as_prototypes,
    chunked_cross_entropy,
    transforms,
)
from protogen.spec import Spec

# Orders that are odd and even; planes of one frequency, of its mirror image, of none and of half the order.
GROUPS = {6: Turns(7, (1, 6, 3)), 9: Turns(8, (4, 3, 0, 5))}


def orbits(d: int = 6, n: int = 19) -> Orbits:
    turns = GROUPS[d]
    vectors = normalize(draw(-(-n // turns.order), d, seed=2), dim=1).float()
    return Orbits(vectors, turns, n)


@pytest.mark.parametrize("d", GROUPS)
@pytest.mark.parametrize("chunk", [1, 1 << 18], ids=["block by block", "at once"])
def test_product_and_its_gradient_are_those_of_the_rows(d: int, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transforms, "CPU_CHUNK", chunk)
    own = orbits(d)
    prototypes, rows = StructuredPrototypes(own), own.rows(0, 19).double()
    assert (prototypes.n, prototypes.d) == (19, d)
    features = draw(3, d).requires_grad_()
    for start, stop in pairwise((0, 4, 9, 18, 19)):
        found, weights = prototypes.product(features, start, stop), draw(3, stop - start, seed=1)
        torch.testing.assert_close(found, features @ rows[start:stop].T, rtol=0, atol=1e-6)
        (gradient,) = torch.autograd.grad(found, features, weights)
        torch.testing.assert_close(gradient, weights @ rows[start:stop], rtol=0, atol=1e-6)
        part = prototypes.part(start, stop)
        assert torch.equal(part.product(features, start, stop), found)
        assert torch.equal(part.combine(weights, start, stop), prototypes.combine(weights, start, stop))


def test_gradients_against_finite_differences() -> None:
    prototypes, features = StructuredPrototypes(orbits(9, 10)), draw(1, 9).requires_grad_()
    assert torch.autograd.gradcheck(prototypes.product, features, fast_mode=True)
    assert torch.autograd.gradgradcheck(prototypes.product, features, fast_mode=True)


def test_float32_cosines_of_a_large_set_are_good_to_1e_6() -> None:
    d, order, n = 64, 100, 1950
    turns = Turns(order, tuple(1 + plane % 49 for plane in range(d // 2)))
    own = Orbits(normalize(draw(20, d), dim=1).float(), turns, n)
    features, rows = normalize(draw(5, d, seed=1), dim=1), own.rows(0, n).double()
    assert (StructuredPrototypes(own).product(features.float()) - features @ rows.T).abs().max() < 1e-6


def test_rows_and_vectors_are_the_rows() -> None:
    own = orbits()
    prototypes = StructuredPrototypes(own)
    assert torch.equal(prototypes.rows(3, 17), own.rows(3, 17))
    classes = torch.tensor([[18, 0], [0, 7]])
    assert torch.equal(prototypes.vectors(classes), own.rows(0, 19)[classes])
    assert repr(prototypes).startswith("StructuredPrototypes(\n  orbits of cyclic(7), n=19, d=6")


def test_a_head_learns_as_with_the_rows() -> None:
    own = orbits()
    stored = FrozenPrototypes(own.rows(0, 19))
    labels, losses, gradients = torch.tensor([0, 7, 18]), [], []
    for prototypes in (StructuredPrototypes(own), stored):
        features = draw(3, 6).float().requires_grad_()
        loss = CosineHead(prototypes).loss(features, labels)
        loss.backward()
        losses.append(loss.detach())
        gradients.append(features.grad)
    torch.testing.assert_close(*losses)
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-6)
    features = draw(3, 6).float()
    chunked = chunked_cross_entropy(features, StructuredPrototypes(own), labels)
    torch.testing.assert_close(chunked, cross_entropy(features @ stored.rows(0, 19).T, labels))
    best = StructuredPrototypes(own).topk(features, 4)
    torch.testing.assert_close(best, tuple(stored.product(features).topk(4)))


# torch compiles its own forward derivatives, and warns of its compiler.
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_torch_func_copies_and_pickles_go_through_the_transform() -> None:
    prototypes, features = StructuredPrototypes(orbits()), draw(3, 6).float()
    expected = prototypes.product(features)
    for same in (copy.deepcopy(prototypes), pickle.loads(pickle.dumps(prototypes)), prototypes.half()):
        assert torch.equal(same.product(features), expected)
    each = torch.func.vmap(prototypes.product)(features)
    torch.testing.assert_close(each, expected)
    tangent = torch.func.jvp(prototypes.product, (features,), (features.flip(0),))[1]
    torch.testing.assert_close(tangent, expected.flip(0))


def test_checkpoints_load_between_orbits_and_their_rows() -> None:
    own = orbits()
    fast, stored = CosineHead(StructuredPrototypes(own)), CosineHead(FrozenPrototypes(own.rows(0, 19)))
    fast.load_state_dict(stored.state_dict())
    stored.load_state_dict(fast.state_dict())
    first = CosineHead(StructuredPrototypes(own, 8))
    fast.load_state_dict(first.state_dict())
    with pytest.raises(BadRequest, match="the checkpoint was trained with"):
        first.load_state_dict(fast.state_dict())


# The choice


def made(store: Path) -> protogen.Prototypes:
    params = {"start": "orbits:cyclic(40)", "steps": 30, "restarts": 1}
    return protogen.ensure(Spec.of("ebv", 2, d=9, n=130, seed=0, params=params), store=store)


def test_a_file_of_orbits_gives_a_fast_product(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = made(tmp_path)
    features = draw(4, 9).float()
    for fill in (2**22, 200):
        monkeypatch.setattr("protogen.descent.turned.FILL", fill)
        for source in (record, record.path, str(record.path)):
            chosen = as_prototypes(source)
            assert isinstance(chosen, StructuredPrototypes)
            assert torch.equal(chosen.rows(0, 130), record.tensor)
            assert chosen.fingerprint == FrozenPrototypes(record).fingerprint
            torch.testing.assert_close(chosen.product(features), features @ record.tensor.T, rtol=0, atol=1e-6)
    assert isinstance(as_prototypes(record, dtype=torch.float64), FrozenPrototypes)


def test_rows_that_are_not_what_the_fact_says_are_held(tmp_path: Path) -> None:
    record = made(tmp_path)
    assert record.facts.orbits is not None
    moved = record.tensor.clone()
    moved[77] = moved[76]

    def rows(start: int, stop: int) -> Tensor:
        return moved[start:stop]

    assert orbits_in(rows, (130, 9), record.facts.orbits) is None
    short = replace(record, facts=replace(record.facts, orbits=Turns(41, record.facts.orbits.frequencies)))
    assert isinstance(as_prototypes(short), FrozenPrototypes)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: StructuredPrototypes(orbits(), 20), r"n, d is 20, None; allowed is n from 1 to 19 and d 6; these are"),
        (lambda: StructuredPrototypes(orbits(), 5, 7), "n, d is 5, 7; allowed is n from 1 to 19 and d 6"),
        (lambda: StructuredPrototypes(orbits(), signed=True), "n, d is 19, None, signed; allowed is"),
    ],
)
def test_wrong_input_is_refused_in_one_line(ask: Callable[[], object], message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        ask()


def test_a_part_of_orbits_has_the_products_of_its_rows() -> None:
    whole = StructuredPrototypes(orbits())
    start, stop = 8, 17  # in the second orbit and in the third
    part, features, weights = whole.part(start, stop), draw(3, whole.d), draw(2, stop - start)
    torch.testing.assert_close(part.product(features, start, stop), whole.product(features, start, stop))
    torch.testing.assert_close(part.combine(weights, start, stop), whole.combine(weights, start, stop))
    assert part.transform.get_buffer("spectra").numel() < whole.transform.get_buffer("spectra").numel()
