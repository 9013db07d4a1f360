"""Labels, Specs, locks and headers that were changed at random are refused in one line and little memory, or sound."""

import tracemalloc
from pathlib import Path

import pytest
from artifacts import MADE
from draws import unit_rows
from mutations import cases, refusal

from protogen.files.prototypes import Prototypes
from protogen.methods import resolve
from protogen.rows import InMemory
from protogen.store.store import Store

MOST = 100_000_000  # bytes of memory


@pytest.mark.slow
def test_what_was_changed_is_refused_in_one_line_or_sound(tmp_path: Path) -> None:
    spec = resolve("ebv", d=16, n=64, start="random")
    made = Store(tmp_path / "store").publish(Prototypes(spec, InMemory(unit_rows(64, 16)), None, MADE))
    said: dict[str, set[str]] = {}
    tracemalloc.start()
    try:
        for case in cases(tmp_path, made, seed=1, count=400):
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            if message := refusal(case):
                said.setdefault(case.kind, set()).add(message)
            assert tracemalloc.get_traced_memory()[1] - before < MOST, case.what
    finally:
        tracemalloc.stop()
    assert {kind: len(messages) > 10 for kind, messages in said.items()} == dict.fromkeys(
        ("label", "spec", "lock", "header"), True
    )
