"""From a Spec to Prototypes: what is recorded, how a run ends, and what is refused before any work."""

import math
import platform
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch

from protogen import generating
from protogen.catalog import Padded
from protogen.catalog.direct.delsarte_goethals import DelsarteGoethals
from protogen.errors import BadRequest, Interrupted
from protogen.files import foreign
from protogen.files.facts import Facts
from protogen.files.foreign import read_matrix
from protogen.files.reading import read
from protogen.files.schemas import SCHEMAS
from protogen.generating import generate
from protogen.measuring.geometry import pick_device
from protogen.measuring.measure import measure
from protogen.methods import resolve
from protogen.methods.ebv import EBV
from protogen.rows import InMemory
from protogen.run import Progress, Run
from protogen.solution import Status
from protogen.spec import Spec
from protogen.store.access import ensure, ensure_path

# All of the mutually unbiased bases of C^3.
EXACT = Spec.of("ebv", 1, d=6, n=24, seed=0, params={"start": "closed-form:mub(p=3)"})
DESCENT = resolve("ebv", d=8, n=30, alpha=0.42, start="random")
LONG = resolve("ebv", d=8, n=30, start="random")


def interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def refused(spec: Spec, run: Run | None = None) -> str:
    with pytest.raises(BadRequest) as caught:
        generate(spec, run)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_closed_form_is_recorded_as_exact() -> None:
    made = generate(EXACT)
    assert made.spec is EXACT
    assert (made.d, made.n) == (6, 24)
    assert made.facts == Facts(closed_form="mub(p=3)", guaranteed_coherence=1 / math.sqrt(3))
    assert made.stats is not None
    assert made.stats.coherence.value == pytest.approx(1 / math.sqrt(3), abs=1e-6)
    assert made.provenance.reproducible == "exact"
    assert made.provenance.status == Status.FORMULA == "built by formula"
    assert made.provenance.steps == 0
    assert (made.path, made.version, made.digest) == (None, None, None)


def test_a_descent_is_recorded_as_statistical() -> None:
    seen: list[Progress] = []
    before = datetime.now(UTC)
    made = generate(DESCENT, Run(report=seen.append))
    provenance = made.provenance
    assert made.spec is DESCENT
    assert provenance.reproducible == "statistical"
    assert provenance.status == Status.REACHED == "target reached"
    assert provenance.steps == len(seen) == seen[-1].step
    assert provenance.protogen == version("protogen-codes")
    assert provenance.torch == torch.__version__
    assert provenance.python == platform.python_version()
    assert provenance.device == "cpu"
    assert provenance.threads == torch.get_num_threads()
    assert provenance.seconds > 0
    created = datetime.fromisoformat(provenance.created)
    assert created.tzinfo == UTC
    assert before - timedelta(seconds=1) <= created <= datetime.now(UTC)
    assert SCHEMAS[1].read_provenance(provenance.to_dict()) == provenance

    rows = made.tensor
    assert rows.shape == (30, 8)
    assert rows.dtype == torch.float32
    assert rows.is_contiguous()
    assert rows.device.type == "cpu"
    assert (rows.double().norm(dim=1) - 1).abs().max() < 1e-6
    assert made.stats == measure(made.source)
    assert made.stats is not None
    assert made.stats.coherence.value <= 0.42 + 1e-6


def test_a_step_limit_is_part_of_what_was_asked() -> None:
    spec = resolve("ebv", d=8, n=30, start="random", steps=3)
    made = generate(spec)
    assert made.spec is spec
    assert made.provenance.status == Status.STEP_LIMIT == "step limit"
    assert made.provenance.steps == 3


def test_a_time_limit_gives_another_spec() -> None:
    made = generate(LONG, Run(time_limit=1e-9))
    assert made.provenance.status == Status.TIME_LIMIT == "time limit"
    assert made.spec.options == {**LONG.options, "ended": "time limit at step 1"}
    assert replace(made.spec, params=LONG.params) == LONG
    assert made.spec.key != LONG.key
    assert made.stats == measure(made.source)


def test_an_interrupted_descent_is_kept_and_measured() -> None:
    seen: list[Progress] = []

    def third(at: Progress) -> None:
        seen.append(at)
        if at.step == 3:
            raise KeyboardInterrupt

    made = generate(LONG, Run(report=third))
    assert made.provenance.status == Status.INTERRUPTED == "interrupted"
    assert made.provenance.steps == 3
    assert made.spec.options["ended"] == "interrupted at step 3"
    assert made.stats is not None
    assert made.stats.coherence.value == pytest.approx(min(at.value for at in seen), abs=1e-6)


@pytest.mark.parametrize(("run", "step"), [(Run(), None), (Run(time_limit=1e-9), 1)])
def test_interrupted_statistics_keep_a_descent_unmeasured(run: Run, step: int | None) -> None:
    made = generate(DESCENT, replace(run, measuring=interrupt))
    assert made.stats is None
    assert made.provenance.status == "interrupted"
    assert made.spec.options["ended"] == f"interrupted at step {step or made.provenance.steps}"
    assert made.tensor.shape == (30, 8)


def test_an_interrupted_request_ends_the_script_and_goes_on(tmp_path: Path) -> None:
    spec = resolve("ebv", d=8, n=30, start="random", steps=40)
    with pytest.raises(Interrupted, match="the same call goes on from there") as ended:
        ensure(spec, Run(report=interrupt), store=tmp_path)
    best = read(ended.value.path)
    assert str(ended.value.path) in str(ended.value)
    assert (best.provenance.status, best.spec != spec) == (Status.INTERRUPTED, True)
    whole = ensure(spec, store=tmp_path)
    assert (whole.spec, whole.tensor.equal(generate(spec).tensor)) == (spec, True)


@pytest.mark.parametrize("spec", [LONG, DESCENT])
def test_an_interruption_before_there_is_any_set_leaves_nothing_to_keep(
    spec: Spec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("protogen.descent.evaluate.gram_tile", interrupt)
    with pytest.raises(KeyboardInterrupt):
        generate(spec)


def test_interrupted_statistics_of_a_formula_leave_nothing_to_keep() -> None:
    with pytest.raises(KeyboardInterrupt):
        generate(EXACT, Run(measuring=interrupt))


def test_the_statistics_report_their_share() -> None:
    shares: list[float] = []
    generate(EXACT, Run(tile=10, measuring=shares.append))
    # Of 276 pairs, those that begin in the first 10 rows: 23 + ... + 14 = 185, in the next 10: 13 + ... + 4 = 85.
    assert shares == pytest.approx([185 / 276, 270 / 276, 1])


@pytest.mark.parametrize("spec", [EXACT, DESCENT, LONG], ids=["closed form", "alpha", "as low as it can"])
def test_the_same_spec_gives_the_same_bytes(spec: Spec) -> None:
    one, other = generate(spec), generate(spec)
    assert torch.equal(one.tensor, other.tensor)
    assert one.stats == other.stats
    assert one.provenance.steps == other.provenance.steps


@pytest.mark.slow
@pytest.mark.parametrize("spec", [EXACT, DESCENT], ids=["closed form", "alpha"])
@pytest.mark.parametrize("tile", [1, 7, 29, 30, 31])
def test_the_tile_changes_rounding_alone(spec: Spec, tile: int) -> None:
    one, other = generate(spec), generate(spec, Run(tile=tile))
    assert other.spec == one.spec
    assert (one.tensor - other.tensor).abs().max() < 1e-4
    assert one.stats is not None
    assert other.stats is not None
    assert other.stats.coherence.value == pytest.approx(one.stats.coherence.value, abs=1e-4)


def test_what_does_not_fit_memory_is_refused_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def solve(*_: Any) -> None:
        raise AssertionError("work was begun")

    monkeypatch.setattr(EBV, "solve", solve)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=1_200_000_000))

    def formula(p: int) -> Spec:
        start = f"closed-form:mub(p={p})"
        return Spec.of("ebv", 1, d=2 * p + 2, n=100_000, seed=0, params={"start": start})

    # 100,000 x 2,000 float32 are .8 GB once, for a formula, and .6 GB are kept for tiles and rows in the making; a
    # descent holds several such matrices. More than 1.07 GB of a formula are not held.
    message = refused(formula(999 - 2))
    assert "d=1996, n=100000" in message
    assert "1.4 GB" in message
    assert "1.2 GB" in message
    assert "larger machine" in message
    with pytest.raises(AssertionError, match="work was begun"):
        generate(formula(4999))
    assert "1.2 GB" in refused(resolve("ebv", d=1000, n=100_000, start="random"))
    # A tile of 20,000 x 20,000 takes 1.6 GB for its cosines alone, and several times that for what is made of them.
    small = resolve("ebv", d=20, n=20_000, start="random")
    assert "--tile" in refused(small, Run(tile=20_000))
    with pytest.raises(AssertionError, match="work was begun"):
        generate(small, Run(tile=1000))


@pytest.mark.parametrize("device", ["gpu", "", "CPU", "cpu:0", "mps", "cuda:99", "cuda:-1", "cuda:01"])
def test_an_unknown_device_is_refused(device: str) -> None:
    message = refused(DESCENT, Run(device=device))
    assert repr(device) in message
    assert "this machine has cpu" in message


def test_devices_go_by_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert pick_device("cpu") == torch.device("cpu")
    with pytest.raises(BadRequest, match=r"device is 'cuda'; this machine has cpu$"):
        pick_device("cuda")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert pick_device("cuda") == torch.device("cuda")
    assert pick_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(BadRequest, match=r"device is 'cuda:2'; this machine has cpu, cuda:0, cuda:1$"):
        pick_device("cuda:2")


@pytest.mark.parametrize("change", [{"version": 99}, {"method": "nothing"}])
def test_a_spec_of_another_program_is_refused(change: dict[str, Any]) -> None:
    assert "there are ebv 1" in refused(replace(EXACT, **change))


class TestWithoutMeasuring:
    """A formula's rows may stay one, and its certificate stand for the statistics."""

    SPEC = resolve("ebv", d=32, n=1056, start="closed-form")

    def test_the_certificate_alone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(generating, "HELD", 0)
        made = generate(self.SPEC, Run(stats="certificate"))
        assert made.stats is None
        assert made.facts.guaranteed_coherence == 0.25
        assert not isinstance(made.source, InMemory)
        assert torch.equal(
            made.rows(1000, 1056), Padded(DelsarteGoethals(5, 0), 1056, 32, signed=True).rows(1000, 1056)
        )
        assert EBV.rank(None, made.facts) == 0.25

    @pytest.mark.parametrize(("pairs", "measured"), [(1056 * 1055 // 2, True), (1056 * 1055 // 2 - 1, False)])
    def test_auto_measures_up_to_so_many_pairs(
        self, monkeypatch: pytest.MonkeyPatch, pairs: int, measured: bool
    ) -> None:
        monkeypatch.setattr(generating, "EXACT_PAIRS", pairs)
        assert (generate(self.SPEC).stats is not None) == measured
        assert generate(self.SPEC, Run(stats="exact")).stats is not None

    @pytest.mark.slow
    def test_a_formula_that_is_not_held_measures_the_same(self, monkeypatch: pytest.MonkeyPatch) -> None:
        held = generate(self.SPEC).stats
        monkeypatch.setattr(generating, "HELD", 0)
        assert generate(self.SPEC).stats == held

    def test_what_nothing_guarantees_is_measured(self) -> None:
        spec = resolve("ebv", d=5, n=12, start="random", steps=3)
        assert generate(spec, Run(stats="certificate")).stats is not None

    @pytest.mark.slow
    def test_stats_from_the_file_are_those_of_memory(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        path = ensure_path(self.SPEC, Run(stats="certificate"), store=tmp_path)
        before = path.read_bytes()
        in_memory = measure(read_matrix(path))
        monkeypatch.setattr(foreign, "HELD", 0)
        in_file = read_matrix(path)
        assert not isinstance(in_file, InMemory)
        assert measure(in_file, tile=100) == measure(InMemory.of(in_file), tile=100)
        assert measure(in_file).coherence == in_memory.coherence
        assert path.read_bytes() == before
