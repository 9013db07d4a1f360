"""What ranks cost: formulas in known cases, and what a group of processes really sends."""

from pathlib import Path
from typing import Any

import pytest
import torch
from commands import Command, done, one_error
from peak import Peak
from processes import on_ranks
from torch import Tensor, distributed

from protogen import plan
from protogen.nn import CosineHead, StructuredPrototypes


def test_one_rank_sends_nothing_and_halves_hold_half() -> None:
    one, two = plan(64, 1000, 1), plan(64, 1000, 2)
    assert {cost.sent_bytes for cost in (*one.costs, one.descent, one.ring)} == {0}
    assert plan(64, 1000, 8).ring.sent_bytes == two.ring.sent_bytes == 4 * 64 * 1000
    for alone, half in zip(one.costs, two.costs, strict=True):
        assert half.held_bytes == pytest.approx(alone.held_bytes / 2, rel=0.01)
        assert half.multiplications == pytest.approx(alone.multiplications, rel=0.01)  # of twice the batch
    held, formula, adam, sampled = one.costs
    assert (held.held_bytes, formula.held_bytes) == (4 * 64 * 1000, 4 * 1000)
    assert adam.held_bytes == 4 * held.held_bytes
    assert sampled.multiplications == pytest.approx(adam.multiplications / 10)


def test_the_command_prints_the_plan(run: Command) -> None:
    asked = ("plan", "--d", 512, "--n", 10_000_000, "--ranks", 64)
    document = run(*asked, "--json").document
    costs = plan(512, 10_000_000, 64).to_dict()
    assert {name: document[name] for name in costs} == costs
    assert document["costs"][0]["held_bytes"] == 4 * 512 * 156_250
    lines = done(run(*asked)).splitlines()
    first = next(at for at, line in enumerate(lines) if "products" in line)
    named = [line.split("  ")[1] for line in lines[first + 1 : first + 7]]
    assert named == [
        *(cost["name"] for cost in document["costs"]),
        "descent, a step",
        "descent by a ring, a step",
    ]
    assert f"    {document['advice']['python'][0]}" in lines
    one_error(run("plan", "--d", 512, "--n", 100, "--ranks", 0), 2, "ranks is 0")


@pytest.mark.slow
@pytest.mark.parametrize("world", [2, 3])
def test_a_training_step_sends_what_the_plan_says(tmp_path: Path, world: int) -> None:
    d, n, batch = 32, 400, 64
    rows = torch.nn.functional.normalize(torch.randn(n, d, generator=torch.Generator().manual_seed(0)))

    def work(rank: int) -> float:
        sent = 0.0

        def counted(name: str, times: Any) -> None:
            exchange = getattr(distributed, name)

            def exchanged(first: Any, *arguments: Any) -> Any:
                nonlocal sent
                one: Tensor = first if isinstance(first, Tensor) else arguments[0]
                sent += one.nbytes * times
                return exchange(first, *arguments)

            setattr(distributed, name, exchanged)

        counted("all_reduce", 2 * (world - 1) / world)
        counted("all_gather", world - 1)
        head = CosineHead(rows, group=distributed.group.WORLD)
        features = torch.randn(batch, d, requires_grad=True)
        head.loss(features, torch.randint(n, (batch,))).backward()
        return sent

    for sent in on_ranks(world, tmp_path / "meeting", work):
        assert sent == pytest.approx(plan(d, n, world, batch).costs[0].sent_bytes, rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("formula", [False, True])
def test_a_rank_holds_what_the_plan_says(tmp_path: Path, formula: bool) -> None:
    d, n, batch, label = 64, 40_000, 64, "delsarte-goethals(m=6,t=2)"
    source: Any = StructuredPrototypes(label, n) if formula else torch.nn.functional.normalize(torch.ones(n, d))

    def work(rank: int) -> tuple[int, int]:
        head = CosineHead(source, group=distributed.group.WORLD)
        features, labels = torch.randn(batch, d, requires_grad=True), torch.randint(n, (batch,))
        with Peak() as peak:
            head.loss(features, labels).backward()
        return sum(buffer.nbytes for buffer in head.buffers()), peak.most

    told = plan(d, n, 2, batch).costs[int(formula)]
    for held, step in on_ranks(2, tmp_path / "meeting", work):
        assert held == pytest.approx(told.held_bytes, rel=0.2)
        assert step == pytest.approx(told.step_bytes, rel=0.2)
