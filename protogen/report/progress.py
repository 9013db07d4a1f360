"""Progress on stderr: a live line on a terminal, a plain line every ten seconds elsewhere."""

import contextlib
import os
import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Self

from protogen.errors import printable
from protogen.run import Progress

if TYPE_CHECKING:
    from rich.live import Live

PLAIN_EVERY_S = 10.0
LIVE_EVERY_S = 0.1


class Display:
    """Show the steps of a descent and the share of the statistics that is done."""

    def __init__(self, quiet: bool, bounds: Mapping[str, float] | None = None) -> None:
        """`bounds` are the lower bounds of figures by their names."""
        self._quiet, self._bounds = quiet, bounds or {}
        self._terminal = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._live: Live | None = None
        self._shown = self._began = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def step(self, at: Progress) -> None:
        """Show one step: the figure now, the best, the target and the bound if any, steps and time left."""
        left = at.seconds / at.step * (at.steps - at.step)
        marks = {"best": at.best, "target": at.target, "bound": self._bounds.get(at.figure)}
        shown = "  ".join(f"{name} {value:.6f}" for name, value in marks.items() if value is not None)
        done = (
            f"step {at.step}/{at.steps}" if at.phase is None else f"{at.phase}  {at.step / at.steps:.0%} of the effort"
        )
        self._show(f"{at.figure} {at.value:.6f}  {shown}  {done}  at most {_clock(left)} left")

    def measuring(self, share: float) -> None:
        """Show how much of the statistics is done."""
        self._show(f"statistics over all pairs  {share:.0%}")

    def passing(self, share: float) -> None:
        """Show how much of the pass over some data is done."""
        self._show(f"pass over the features  {share:.0%}")

    def training(self, name: str, step: int, steps: int, loss: float) -> None:
        """Show one step of a network's training."""
        left = (time.monotonic() - self._began) / step * (steps - step)
        self._show(f"{name}  loss {loss:.4f}  step {step}/{steps}  {_clock(left)} left")

    def say(self, line: str) -> None:
        """Show a line that stays."""
        if not self._quiet:
            with contextlib.suppress(OSError):
                print(printable(line), file=sys.stderr, flush=True)

    def _show(self, text: str) -> None:
        now = time.monotonic()
        if self._quiet or now - self._shown < (LIVE_EVERY_S if self._terminal else PLAIN_EVERY_S):
            return
        self._shown = now
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


def _clock(seconds: float) -> str:
    """Write a time as hours:minutes:seconds."""
    minutes, second = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{second:02}"
