"""How to compute, which never changes what is asked for."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from .checks import check_kind, check_paths, check_seconds, check_tile, check_word
from .errors import BadRequest

if TYPE_CHECKING:
    from torch import Tensor
    from torch.distributed import ProcessGroup

Stats = Literal["auto", "exact", "certificate"]

EXACT_PAIRS = 2 * 10**10  # so many pairs are measured where the run leaves the choice


@dataclass(frozen=True)
class Progress:
    """Report one step of a descent: the figure that it lowers, by name, now and at its best.

    Of a search for a stated effort, `step` and `steps` are millions of multiplications, and `phase` says what it is at.
    """

    step: int
    steps: int
    figure: str
    value: float
    best: float
    target: float | None
    seconds: float
    phase: str | None = None


@dataclass(frozen=True)
class Run:
    """Say how to compute.

    - `device`: cpu, cuda or cuda:<index>.
    - `tile`: the edge of a Gram tile in rows; None: chosen for the device.
    - `time_limit`: the seconds that the descents of this call may take, whatever calls before took. The
      statistics are not limited.
    - `report`: called after every step of a descent.
    - `measuring`: called with the share of the statistics that is done.
    - `stats`: whether all pairs are measured. `exact`: they are. `certificate`: only where no formula
      guarantees a cosine. `auto`: as `exact` up to EXACT_PAIRS pairs, as `certificate` above.
    - `files`: artifacts that serve where a Spec names one by its digest.
    - `held`: tensors by name that serve where a Spec names them by their digest, beside the files.
    - `folder`: where a descent keeps its state, so that the same call goes on after a kill; None: nowhere.
    - `say`: called with a line where there is something to tell.
    - `group`: a torch.distributed process group, whose ranks all make the same call and share its work. Rank 0's
      Spec and Run count, and it alone writes; all get the result. None: this process alone, but for `generate`,
      which takes the default group where torch has one.
    - `clock`: the seconds that have passed since some moment in the past.

    Raises BadRequest on a value that none of these can have. Whether the machine has the device is seen later.

    >>> import protogen
    >>> run = protogen.Run(tile=64, time_limit=60, report=lambda at: print(at.step, at.figure))
    >>> protogen.generate("ebv", run, d=3, n=5, start="random", steps=2).n
    1 coherence
    2 coherence
    5
    """

    device: str = "cpu"
    tile: int | None = None
    time_limit: float | None = None
    report: Callable[[Progress], None] | None = None
    measuring: Callable[[float], None] | None = None
    stats: Stats = "auto"
    files: tuple[Path, ...] = ()
    held: Mapping[str, Mapping[str, "Tensor"]] = field(default_factory=dict)
    folder: Path | None = None
    say: Callable[[str], None] | None = None
    clock: Callable[[], float] = time.monotonic
    group: "ProcessGroup | None" = None

    @classmethod
    def given(cls, run: "Run | None") -> "Run":
        """The run that is given, else one with all defaults. Raises BadRequest on what is no run."""
        if not isinstance(run, Run | None):
            raise BadRequest(f"run is {run!r}; allowed is a Run, as protogen.Run(device='cpu')")
        return run or cls()

    def __post_init__(self) -> None:
        if not isinstance(self.device, str):
            raise BadRequest(f"device is {self.device!r}; allowed are cpu, cuda and cuda:<index>")
        check_tile(self.tile)
        if self.time_limit != 0:  # nothing is left of it
            check_seconds("time_limit", self.time_limit)
        for name in ("report", "measuring", "say", "clock"):
            value = getattr(self, name)
            if not callable(value) and (value is not None or name == "clock"):
                raise BadRequest(f"{name} is {value!r}; allowed is a function")
        check_word("stats", self.stats, get_args(Stats))
        check_paths("files", self.files)
        if not isinstance(self.held, Mapping):
            raise BadRequest(f"held is {type(self.held).__name__}; allowed are tensors by name, by their digest")
        check_kind("folder", self.folder, Path)
        if self.group is not None and not hasattr(self.group, "group_name"):
            raise BadRequest(f"group is {self.group!r}; allowed is a process group, as torch.distributed.new_group()")
