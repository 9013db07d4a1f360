"""The prepared script of a GPU runs small on a CPU, so that it is whole where a GPU is lent."""

import bench_gpu
import pytest


@pytest.mark.slow
@pytest.mark.parametrize("part", bench_gpu.PARTS)
def test_each_part_runs(part: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench_gpu.main(["--small", part]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) >= 3
    assert all(line.startswith(f"{part}: ") for line in lines[1:])


def test_a_part_that_fails_is_told_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(bench: bench_gpu.Bench) -> None:
        raise RuntimeError("no such kernel")

    monkeypatch.setitem(bench_gpu.PARTS, "heads", fail)
    assert bench_gpu.main(["--small", "heads", "losses"]) == 1
    told = capsys.readouterr().out
    assert "no such kernel" in told
    assert "losses: by chunks" in told


def test_no_part_begins_once_the_time_is_up(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench_gpu, "ALL_S", 0.0)
    assert bench_gpu.main(["--small", "losses"]) == 1
    assert "losses: no time left" in capsys.readouterr().out
