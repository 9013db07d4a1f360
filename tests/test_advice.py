"""What is advised for a size: known sets, rules of thumb, and lines of Python that run as they stand."""

import math
from pathlib import Path

import pytest
import torch

from protogen.advice import APART, advise, least_hidden, step_seconds
from protogen.errors import BadRequest


def test_a_known_set_is_named_with_what_it_guarantees() -> None:
    advice = advise(64, 1000)
    assert (advice.start, advice.form) == ("closed-form", "kerdock(k=3)")
    assert advice.certain
    assert advice.coherence == 1 / 8
    assert advice.ratio == pytest.approx(math.sqrt(64 * 999 / (1000 - 64)) / 8)
    assert advice.file_bytes == 256_000


def test_where_no_formula_reaches_the_figure_is_about() -> None:
    advice = advise(16, 100_000)
    assert (advice.form, advice.certain, advice.start) == (None, False, "orbits")
    assert advice.bound < advice.coherence < 1


@pytest.mark.parametrize(("d", "n"), [(16, 1000), (64, 1000), (48, 3000)])
def test_random_places_need_units_by_the_rule(d: int, n: int) -> None:
    assert least_hidden(n, d) * d == pytest.approx(2 * n * math.log(n), abs=d)


@pytest.mark.parametrize(
    ("d", "n", "made"),
    [
        (4, 5, 'protogen.ensure("simplex", d=4, n=5)'),
        (8, 36, 'protogen.ensure("ebv", d=8, n=36)'),
        (4, 1500, "protogen.fit(features, labels, d=4)"),
        (16, 5000, f"protogen.fit(features, labels, d=16, alpha={APART})"),
    ],
)
def test_the_lines_of_python(d: int, n: int, made: str) -> None:
    assert sum(made in line for line in advise(d, n).python) == 1


@pytest.mark.parametrize(("d", "n"), [(4, 5), (7, 28), (3, 1200)])
def test_the_lines_of_python_run(d: int, n: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROTOGEN_STORE", str(tmp_path))
    labels = torch.arange(2 * n) % n
    features = torch.randn(2 * n, 6, generator=torch.Generator().manual_seed(0))
    given = {"features": features, "labels": labels, "backbone": torch.nn.Linear(6, d), "x": features[:9]}
    names = {**given, "y": labels[:9]}
    exec("\n".join(advise(d, n).python), names)
    names["loss"].backward()
    assert names["backbone"].weight.grad.norm() > 0
    assert names["head"].n == n


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_step_is_timed_by_kind(dtype: str) -> None:
    seconds = step_seconds(advise(64, 1000), 1, 4, "cpu", dtype)
    assert list(seconds) == ["held", "formula", "learned"]
    assert all(each is not None and 0 < each < 60 for each in seconds.values())
    assert step_seconds(advise(9, 10), 1, 4, "cpu", dtype)["formula"] is None


def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(BadRequest, match="device is 'tpu'"):
        step_seconds(advise(8, 9), 1, 4, "tpu", "float32")
