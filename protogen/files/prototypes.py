"""The result: prototypes with all that is known of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from protogen.bounds import coherence_bound, max_cos_bound
from protogen.errors import BadRequest
from protogen.measuring.charts import charts, of_lines, of_points
from protogen.measuring.picture import COLUMNS, picture
from protogen.measuring.stats import AngleStats
from protogen.rows import Rows
from protogen.spec import Spec

from .facts import Facts
from .provenance import Provenance

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Prototypes:
    """A set of n prototypes in R^d, float32, and all that is known of it.

    `tensors` are what the method made beside the rows, by name; `stats` are None where nothing was
    measured. `path`, `version` and `digest` (sha256 of the content) are None until it lies in a file.
    `part` says which rows of the file these are where they are not all: `n`, `tensor`, `rows` and `tensors`
    are then of the part, and everything else is of the whole.

    >>> import protogen
    >>> made = protogen.generate("simplex", n=4)
    >>> made
    Prototypes(simplex, n=4, d=3, coherence=0.333333)
    >>> made.tensor.shape, made.spec.method, made.stats.max_cos.j
    (torch.Size([4, 3]), 'simplex', 1)
    """

    spec: Spec
    source: Rows
    stats: AngleStats | None
    provenance: Provenance
    facts: Facts = field(default_factory=Facts)
    tensors: Mapping[str, "Tensor"] = field(default_factory=dict)
    path: Path | None = None
    version: int | None = None
    digest: str | None = None
    part: range | None = None

    def __repr__(self) -> str:
        """Say in one line what the set is and where it lies, without a number of its rows."""
        cosine = f", coherence={self.stats.coherence.value:.6f}" if self.stats else ""
        part = f", rows {self.part.start} to {self.part.stop - 1}" if self.part else ""
        place = f", {self.path}" if self.path else ""
        return f"Prototypes({self.spec.method}, n={self.n}, d={self.d}{cosine}{part}{place})"

    def plot(self) -> "Figure":
        """Draw the histogram of all angles with the bounds marked: `kept.plot().savefig("angles.png")`.

        A notebook shows the picture. Raises BadRequest where nothing was measured, and without matplotlib.
        """
        if self.stats is None:
            raise BadRequest(
                f"{self.path or self.spec.method}: nothing was measured, so there is no histogram; make the set with "
                "Run(stats='exact')"
            )
        d, n = self.d, self.spec.n
        bounds = of_lines(coherence_bound(d, n)), of_points(max_cos_bound(d, n))
        drawn = charts(self.stats, self.facts.within_class, bounds, COLUMNS)
        return picture(f"{self.spec.method}  d {d}  n {n}", drawn)

    @property
    def n(self) -> int:
        """The number of prototypes (of classes, where each has several)."""
        return self.source.shape[0]

    @property
    def d(self) -> int:
        """The dimension."""
        return self.spec.d

    @property
    def tensor(self) -> "Tensor":
        """All rows, (n, d) or (n, s, d), float32, on the CPU."""
        return self.source.rows(0, self.n)

    def rows(self, start: int, stop: int) -> "Tensor":
        """Rows start to stop - 1, (stop - start, d) or (stop - start, s, d)."""
        return self.source.rows(start, stop)
