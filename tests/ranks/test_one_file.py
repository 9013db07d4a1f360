"""What a few ranks have nothing to share of: rank 0 makes it alone, and the file is that of one process."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from processes import on_ranks
from torch import distributed

from protogen import Run, Spec, generate, resolve
from protogen.capacity.capacity import Capacity, capacity
from protogen.descent import effort, sharded

SEARCHED = {"d": 11, "alpha": 0.45, "max_n": 130, "steps": 20}


@pytest.mark.slow
def test_searches_orbits_and_formulas_are_those_of_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(effort.BUDGETS, "low", 1e7)
    torch.set_num_threads(1)
    specs = [
        resolve("ebv", d=3, n=7, effort="low"),
        Spec.of("ebv", 2, d=8, n=60, seed=1, params={"start": "orbits:cyclic(6)", "steps": 10}),
        resolve("ebv", d=16, n=100, start="closed-form"),
    ]
    alone = [generate(spec) for spec in specs]
    for found in on_ranks(2, tmp_path / "meeting", lambda rank: [generate(spec) for spec in specs]):
        for ours, theirs in zip(found, alone, strict=True):
            assert torch.equal(ours.tensor, theirs.tensor)
            assert (ours.spec, ours.stats, ours.facts) == (theirs.spec, theirs.stats, theirs.facts)


@pytest.mark.slow
def test_ranks_probe_as_many_lines_as_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharded, "WORTH_IT", 0)  # so that the ranks share each probe's descents

    def probed(place: Path) -> Capacity:
        group: Any = distributed.group.WORLD if distributed.is_initialized() else None
        return capacity(**SEARCHED, run=Run(group=group), store=tmp_path / place)  # type: ignore[arg-type]

    alone = probed(Path("alone"))
    assert len(alone.probes) > 1
    for found in on_ranks(2, tmp_path / "meeting", lambda rank: probed(Path("ours"))):
        assert (found.n, found.end) == (alone.n, alone.end)
        pairs = zip(found.probes, alone.probes, strict=True)
        assert all(replace(ours, seconds=0, coherence=0) == replace(its, seconds=0, coherence=0) for ours, its in pairs)
