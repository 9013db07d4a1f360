"""Progress: a live line on a terminal, a bar in a notebook, a plain line on stderr every ten seconds elsewhere."""

import contextlib
import html
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Self

from protogen.errors import printable
from protogen.run import Progress, Run

if TYPE_CHECKING:
    from rich.live import Live

PLAIN_EVERY_S = 10.0
LIVE_EVERY_S = 0.1
BAR_EVERY_S = 0.5  # in a notebook, which each one is sent to


@contextmanager
def show_progress(run: Run | None = None) -> Iterator[Run]:
    """Give a run whose progress is shown: a bar in a notebook, a line on a terminal, and few lines on stderr elsewhere.

    `run` says how to compute otherwise; where it has a `report`, `measuring` or `say` of its own, that stays.

    >>> import protogen
    >>> with protogen.show_progress() as run:
    ...     protogen.ensure("simplex", run, n=4)
    Prototypes(simplex, n=4, d=3, coherence=0.333333, store/simplex/d3-n4/v1-...safetensors)
    """
    given = Run.given(run)
    with Display(quiet=False) as display:
        report, measuring, say = given.report or display.step, given.measuring or display.measuring, display.say
        yield replace(given, report=report, measuring=measuring, say=given.say or say)


class Display:
    """Show the steps of a descent and the share of the statistics that is done."""

    def __init__(self, quiet: bool, bounds: Mapping[str, float] | None = None) -> None:
        """`bounds` are the lower bounds of figures by their names."""
        self._quiet, self._bounds = quiet, bounds or {}
        self._terminal = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._live: Live | None = None
        self._bar = Bar() if not quiet and in_notebook() else None
        self._shown = self._began = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()
        if self._bar and kind is None:
            self._bar.fill()

    def step(self, at: Progress) -> None:
        """Show one step: the figure now, the best, the target and the bound if any, steps and time left."""
        left = at.seconds / at.step * (at.steps - at.step)
        marks = {"best": at.best, "target": at.target, "bound": self._bounds.get(at.figure)}
        shown = "  ".join(f"{name} {value:.6f}" for name, value in marks.items() if value is not None)
        done = (
            f"step {at.step}/{at.steps}" if at.phase is None else f"{at.phase}  {at.step / at.steps:.0%} of the effort"
        )
        self._show(f"{at.figure} {at.value:.6f}  {shown}  {done}  at most {_clock(left)} left", at.step / at.steps)

    def measuring(self, share: float) -> None:
        """Show how much of the statistics is done."""
        self._show(f"statistics over all pairs  {share:.0%}", share)

    def passing(self, share: float) -> None:
        """Show how much of the pass over some data is done."""
        self._show(f"pass over the features  {share:.0%}", share)

    def training(self, name: str, step: int, steps: int, loss: float) -> None:
        """Show one step of a network's training."""
        left = (time.monotonic() - self._began) / step * (steps - step)
        self._show(f"{name}  loss {loss:.4f}  step {step}/{steps}  {_clock(left)} left", step / steps)

    def say(self, line: str) -> None:
        """Show a line that stays."""
        if not self._quiet:
            with contextlib.suppress(OSError):
                print(printable(line), file=sys.stderr, flush=True)

    def _show(self, text: str, share: float) -> None:
        now = time.monotonic()
        every = BAR_EVERY_S if self._bar else LIVE_EVERY_S if self._terminal else PLAIN_EVERY_S
        if self._quiet or now - self._shown < every:
            return
        self._shown = now
        if self._bar:
            self._bar.show(text, share)
            return
        if not self._terminal:
            # Whoever read the progress may be gone; the work goes on.
            with contextlib.suppress(OSError):
                print(f"[{_clock(now - self._began)}] {text}", file=sys.stderr, flush=True)
            return
        if self._live is None:
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(stderr=True), transient=True)
            self._live.start()
        self._live.update(text, refresh=True)


class Bar:
    """A progress bar in a notebook with a line of text beside it; each one is drawn over the one before."""

    def __init__(self) -> None:
        self._text, self._id = "", f"protogen-{time.monotonic_ns()}"

    def show(self, text: str, share: float) -> None:
        """Draw the bar up to a share of its width, 0 to 1, and the text."""
        from IPython.display import display

        words = html.escape(printable(text))
        drawn = f'<progress value="{min(1.0, max(0.0, share)):.4f}" max="1"></progress> <code>{words}</code>'
        display({"text/plain": text, "text/html": drawn}, raw=True, display_id=self._id, update=bool(self._text))
        self._text = text

    def fill(self) -> None:
        """Draw all of the bar, where there is one: what it shows is done."""
        if self._text:
            self.show(self._text, 1.0)


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return hasattr(shell, "kernel")


def _clock(seconds: float) -> str:
    """Write a time as hours:minutes:seconds."""
    minutes, second = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{second:02}"
