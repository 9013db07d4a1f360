"""Lines among the orbits of a cyclic group, by a Spec."""

import dataclasses

import pytest

from protogen import Run, Spec, catalog, generate, resolve
from protogen.errors import BadRequest
from protogen.methods import method_of
from protogen.methods.start import IMPROVED, ORBITS, Start, best_word, parts_of_orbits


def checked(asked: Spec) -> None:
    """Check a Spec as one that may be made."""
    method_of(asked).check(asked.d, asked.n, asked.seed)


def spec(start: str = "orbits:cyclic(20)", d: int = 12, n: int = 399, **params: int) -> Spec:
    return Spec.of("ebv", 2, d=d, n=n, seed=1, params={"start": start, "steps": 60, "restarts": 1, **params})


@pytest.mark.parametrize(("d", "n"), [(32, 4000), (48, 10_000), (128, 20_000), (192, 20_000), (192, 100_000)])
def test_large_sizes_where_closed_forms_are_worse_go_by_orbits(d: int, n: int) -> None:
    asked = resolve("ebv", d=d, n=n)
    order, form = parts_of_orbits(Start.parse(str(asked.options["start"])), d, n)
    assert order == n // 200
    assert form == catalog.label(catalog.seek(d, n))
    assert asked.options == {"start": f"orbits:cyclic({order})/{form}", "steps": 5000, "restarts": 1}
    checked(asked)


def test_groups_are_small_where_few_vectors_move_and_no_form_is_needed() -> None:
    assert resolve("ebv", d=48, n=2304).options["start"] == "orbits:cyclic(20)/phases(p=23,degree=3)"
    assert resolve("ebv", d=48, n=1152).options["start"].startswith("orbits:cyclic(11)/")
    assert resolve("ebv", d=64, n=1024).options["start"].startswith("closed-form:")
    assert resolve("ebv", d=16, n=1024).options["start"].startswith("closed-form")
    assert catalog.seek(12, 1000) is None
    assert resolve("ebv", d=12, n=1000).options["start"] == "orbits:cyclic(10)"
    assert resolve("ebv", d=9, n=300, start="orbits").options["start"] == "orbits:cyclic(3)"
    with pytest.raises(BadRequest, match="start is orbits with alpha"):
        resolve("ebv", d=12, n=1000, start="orbits", alpha=0.9)


def test_a_closed_form_that_is_as_good_is_the_solution() -> None:
    made = generate(spec("orbits:cyclic(2)/kerdock(k=2)", d=16, n=144), Run(time_limit=0))
    assert made.facts.closed_form is not None
    assert made.stats is not None
    assert made.stats.coherence.value == pytest.approx(0.25, abs=1e-6)
    assert made.provenance.status == "time limit"


def test_a_target_or_the_update_of_the_paper_does_not_go_by_orbits() -> None:
    assert best_word(192, 20_000, None, 0.212, combined=True) == ORBITS
    assert best_word(192, 20_000, 0.2, 0.212, combined=True) != ORBITS
    assert best_word(192, 20_000, None, 0.212, combined=False) != ORBITS


def test_a_form_in_all_dimensions_is_improved_where_a_descent_from_it_ends_lower() -> None:
    assert best_word(64, 4096, None, 0.25, combined=True, padded=False) == IMPROVED
    assert best_word(64, 4096, None, 0.25, combined=True) == ORBITS
    assert best_word(64, 3072, None, 0.25, combined=True, padded=False) == ORBITS
    assert best_word(64, 4097, None, 0.25, combined=True, padded=False) == ORBITS  # a pass costs too much


def test_a_set_is_made_measured_and_says_its_group() -> None:
    seen: list[float] = []
    made = generate(spec(), Run(report=lambda at: seen.append(at.best)))
    assert (made.n, made.d) == (399, 12)
    assert made.stats is not None
    assert made.stats.coherence.value == pytest.approx(seen[-1], abs=1e-5)
    assert made.stats.coherence.value < seen[0] - 0.1
    assert made.facts.orbits is not None
    assert (made.facts.orbits.order, len(made.facts.orbits.frequencies)) == (20, 6)
    assert made.facts.outdone is None
    assert (made.provenance.steps, made.provenance.status) == (60, "step limit")


def test_the_end_of_the_time_and_an_interruption_keep_the_best() -> None:
    assert generate(spec(), Run(time_limit=0)).provenance.status == "time limit"

    def stop(at: object) -> None:
        raise KeyboardInterrupt

    assert generate(spec(), Run(report=stop)).provenance.steps == 1
    seen: list[object] = []

    def stop_later(at: object) -> None:
        seen.append(at)
        if len(seen) == 3:
            raise KeyboardInterrupt

    made = generate(spec(), Run(report=stop_later))
    assert made.provenance.status == "interrupted"
    assert "ended" in made.spec.options


def test_the_outdone_form_is_a_fact() -> None:
    form = "phases(p=5,degree=3)"
    made = generate(spec(f"orbits:cyclic(10)/{form}", d=12, n=200), Run())
    assert made.facts.outdone == form


@pytest.mark.parametrize("start", ["orbits", "orbits:cyclic(1)", "orbits:cyclic(400)", "orbits:dihedral(5)"])
def test_other_groups_are_refused(start: str) -> None:
    with pytest.raises(BadRequest, match=r"allowed is orbits:cyclic\(<order>\), of an order from 2 to 399"):
        checked(spec(start))


@pytest.mark.parametrize(("d", "n"), [(2, 4), (2, 5), (2, 250), (3, 250), (4, 450)])
def test_few_dimensions_have_orbits_too(d: int, n: int) -> None:
    made = generate(resolve("ebv", d=d, n=n, start="orbits", steps=3))
    assert made.tensor.shape == (n, d)
    assert made.provenance.steps > 0  # some orbits descended, whether or not a closed form is better


def test_orbits_extend_nothing() -> None:
    asked = dataclasses.replace(spec(), params=(*spec().params, ("extends", "0" * 64)))
    with pytest.raises(BadRequest, match="with extends"):
        checked(asked)


@pytest.mark.parametrize("d", [100, 350, 400, 768, 950])
def test_a_few_times_as_many_vectors_descend_from_a_closed_form(d: int) -> None:
    assert str(resolve("ebv", d=d, n=1000).options["start"]).startswith("closed-form+descent:")
