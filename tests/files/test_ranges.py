"""One file by several processes: the bytes that one process writes."""

from pathlib import Path

import pytest
from processes import on_ranks
from torch import distributed

from protogen import generating
from protogen.files import ranges, writing
from protogen.files.verify import verify
from protogen.methods import resolve
from protogen.run import Run
from protogen.store.access import ensure_path


@pytest.mark.slow
@pytest.mark.parametrize("n", [5000, 9001])
def test_ranks_write_the_bytes_of_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n: int) -> None:
    monkeypatch.setattr(ranges, "FEW", 0)
    monkeypatch.setattr(generating, "HELD", 0)  # the rows stay a formula
    spec = resolve("ebv", d=256, n=n)
    alone = ensure_path(spec, Run(stats="certificate"), store=tmp_path / "alone")

    def work(rank: int) -> Path:
        writing._chunks = None  # type: ignore[assignment]  # by which one process alone would write
        run = Run(stats="certificate", group=distributed.group.WORLD)
        return ensure_path(spec, run, store=tmp_path / "together")

    path, other = on_ranks(2, tmp_path / "meeting", work)
    assert path == other
    ours, theirs = path.read_bytes(), alone.read_bytes()
    begin = 8 + int.from_bytes(ours[:8], "little")
    assert ours[begin:] == theirs[8 + int.from_bytes(theirs[:8], "little") :]
    assert len(ours) - begin == 4 * 256 * n
    assert verify(path).digest == verify(alone).digest
