"""In a notebook: bars, a picture, a short line for a set, and Ctrl-C that saves."""

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

import protogen
from protogen.errors import BadRequest
from protogen.report import progress
from protogen.run import Progress, Run

CELLS = (
    """
import os
from pathlib import Path
import protogen
from protogen.report import progress
progress.BAR_EVERY_S = 0.0
with protogen.show_progress() as run:
    made = protogen.ensure("ebv", run, d=4, n=12, start="random", steps=30)
made
""",
    "made.plot()",
    """
def began(at):
    if at.step == 3:
        Path("began").write_text(str(os.getpid()))
        Path("began").rename("pid")
protogen.ensure("ebv", protogen.Run(report=began), d=16, n=100, start="random", alpha=0.24, steps=1000000)
""",
)


def interrupt(stop: threading.Event) -> None:
    """Send Ctrl-C to the kernel as soon as its descent has begun, as the notebook's button does."""
    while not stop.wait(0.01):
        if Path("pid").exists():
            os.kill(int(Path("pid").read_text()), signal.SIGINT)
            return


@pytest.mark.slow
@pytest.mark.usefixtures("store")
def test_a_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook: Any = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code.strip()) for code in CELLS])
    client = NotebookClient(notebook, timeout=60, kernel_name="python3", resources={"metadata": {"path": tmp_path}})
    stop = threading.Event()
    threading.Thread(target=interrupt, args=(stop,), daemon=True).start()
    try:
        with pytest.raises(CellExecutionError, match="the best set so far is"):
            client.execute()
    finally:
        stop.set()
    shown, picture, ended = (cell.outputs for cell in notebook.cells)
    bar, line = shown  # one bar, which was drawn over itself
    assert bar.data["text/html"].startswith('<progress value="1.0000" max="1"></progress> <code>')
    assert "statistics over all pairs  100%" in bar.data["text/plain"]
    (kept,) = protogen.artifacts(d=4)
    assert kept.stats
    says = f"Prototypes(ebv, n=12, d=4, coherence={kept.stats.coherence.value:.6f}, {kept.path})"
    assert line.data == {"text/plain": says}
    assert len(says) < 120
    assert picture[0].data["image/png"].startswith("iVBORw0KGgo")  # a PNG in base64
    (saved,) = protogen.artifacts(d=16)
    assert saved.spec
    assert str(saved.spec.options["ended"]).startswith("interrupted at step ")
    assert str(saved.path) in ended[-1].evalue
    assert ended[-1].ename == "Interrupted"


def test_progress_goes_where_it_is_seen(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert not progress.in_notebook()
    monkeypatch.setattr(progress, "PLAIN_EVERY_S", 0.0)
    with protogen.show_progress() as run:
        protogen.generate("ebv", run, d=3, n=5, start="random", steps=3)
    lines = capsys.readouterr().err.splitlines()
    assert "step 3/3" in lines[2]
    assert lines[-1].endswith("statistics over all pairs  100%")


def test_what_a_run_has_of_its_own_stays() -> None:
    def say(line: str) -> None: ...
    def report(at: Progress) -> None: ...

    with protogen.show_progress(Run(tile=7, say=say, report=report)) as run:
        assert (run.tile, run.say, run.report) == (7, say, report)
        assert run.measuring is not None
    with pytest.raises(BadRequest, match="run is 5"), protogen.show_progress(5):  # type: ignore[arg-type]
        pass


def test_a_bar_is_drawn_few_times_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[str, float]] = []
    clock = iter(range(1, 10_000))
    monkeypatch.setattr(progress, "in_notebook", lambda: True)
    monkeypatch.setattr(progress.Bar, "show", lambda bar, text, share: drawn.append((text, share)))
    monkeypatch.setattr(time, "monotonic", lambda: next(clock) / 100)
    with progress.Display(quiet=False) as display:
        for step in range(1, 501):
            display.measuring(step / 500)
    assert 5 <= len(drawn) <= 11  # 500 steps in five seconds
    assert all(text == f"statistics over all pairs  {share:.0%}" for text, share in drawn)
