"""Rows that fit the classes: codes from statistics of their features, pushed apart to a coherence."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from protogen.bounds import TOLERANCE, coherence_bound
from protogen.checks import check_between, check_kind, check_whole
from protogen.errors import BadRequest
from protogen.files.facts import Facts
from protogen.files.header import Header, read_header
from protogen.measuring.stats import AngleStats
from protogen.rows import InMemory
from protogen.solution import Solution, Status
from protogen.spec import DIGEST, Spec, Value

from .method import Method, descent_bytes, option
from .task import Task

if TYPE_CHECKING:
    from torch import Tensor

    from protogen.fitting.statistics import ClassStatistics

RIDGE = 0.05
REMEDY = "give the same features and labels once more: `protogen fit`, protogen.fit, or Run(held=statistics.held)"


@dataclass(frozen=True)
class Fit(Method):
    """Make a code for each class from one pass over features, and push the codes apart where asked.

    The codes are the class means in the d directions that tell the classes apart best; see `class_codes`.
    """

    name: ClassVar[str] = "fit"
    figure: ClassVar[str] = "coherence"
    version: ClassVar[int] = 1
    from_options: ClassVar[bool] = False
    again: ClassVar[str] = REMEDY
    uses: ClassVar[Mapping[str, tuple[str, ...]]] = {"statistics": (), "extends": ("prototypes",)}

    statistics: str | None = option(None, "Digest of the class statistics.")
    alpha: float | None = option(None, "Push codes apart to this coherence, 0 < alpha < 1; left out: as they are.")
    power: float = option(1.0, "Power that each direction's scale is raised to: 1 keeps it, 0 makes all alike.")
    ridge: float = option(RIDGE, "Share of the mean variance within classes, added to each feature's.")
    steps: int = option(5000, "The most steps that a push may take.")
    extends: str | None = option(None, "Artifact of `fit` whose rows come first, untouched; later classes join them.")

    def _resolve(self, d: int, n: int, seed: int) -> Spec:
        self._check(d, n)
        before = None if self.extends is None else self._before(d, n)
        if self.alpha is not None:
            self._check_alpha(d, n, before)
        params: dict[str, Value] = {
            "statistics": self.statistics,
            "alpha": None if self.alpha is None else float(self.alpha),
            "power": float(self.power),
            "ridge": float(self.ridge),
            "steps": self.steps,
            "extends": None if before is None else before.digest,
        }
        return Spec.of(self.name, self.version, d=d, n=n, seed=seed, params=params)

    def _check(self, d: int, n: int) -> None:
        if not isinstance(self.statistics, str) or not DIGEST.fullmatch(self.statistics):
            raise BadRequest(
                f"statistics is {self.statistics!r}; allowed is the digest of class statistics, 64 hex digits",
                REMEDY,
            )
        check_whole("steps", self.steps, 1)
        check_between("ridge", self.ridge, 0, 1e9)
        check_between("power", self.power, -1e-9, 10)
        check_kind("extends", self.extends, str)

    def _before(self, d: int, n: int) -> Header:
        """The header of the artifact that is extended. Raises BadRequest where it does not serve."""
        header = read_header(str(self.extends))
        spec = header.spec
        if spec.method != self.name or spec.d != d or spec.n >= n:
            raise BadRequest(
                f"{self.extends}: is of {spec.method} with d={spec.d}, n={spec.n}, asked for are d={d}, n={n}; "
                "extends takes an artifact of fit, the same d and a larger n"
            )
        return header

    def _check_alpha(self, d: int, n: int, before: Header | None) -> None:
        check_between("alpha", self.alpha, 0, 1)
        assert self.alpha is not None
        bound = coherence_bound(d, n)
        if self.alpha < bound.value - TOLERANCE:
            raise BadRequest(
                f"alpha is {self.alpha!r}, the lower bound ({bound.name}) for d={d}, n={n} is {bound.value:.6f}; "
                "no set can be better: raise alpha or d, or lower n"
            )
        coherence = before.stats.coherence.value if before is not None and before.stats else 0.0
        if self.alpha < coherence - TOLERANCE:
            raise BadRequest(
                f"alpha is {self.alpha!r}, the vectors of {self.extends} have coherence {coherence:.6f} and stay; "
                "raise alpha to that or more"
            )

    def solve(self, task: Task) -> Solution:
        """Make the codes of the statistics among the task's inputs, and push them apart.

        Beside the rows: `projection` (width, d) and `mean` (width,), by which later classes find their places.
        """
        from protogen.fitting.codes import class_codes, later_codes
        from protogen.fitting.statistics import ClassStatistics

        statistics = ClassStatistics.from_tensors(task.inputs, "statistics.")
        if statistics.classes != task.n:
            raise BadRequest(f"statistics are of {statistics.classes} classes, asked for are n={task.n}")
        if self.extends is None:
            codes = class_codes(statistics, task.d, power=self.power, ridge=self.ridge, seed=task.seed)
            return self._apart(task, statistics, codes.rows, codes.projection, codes.mean, codes.rows[:0])
        first = task.inputs["extends"]
        projection, mean = task.inputs["extends.projection"], task.inputs["extends.mean"]
        later = statistics.part(len(first), task.n)
        return self._apart(task, later, later_codes(later, projection, mean, task.seed), projection, mean, first)

    def _apart(
        self,
        task: Task,
        statistics: "ClassStatistics",
        codes: "Tensor",
        projection: "Tensor",
        mean: "Tensor",
        first: "Tensor",
    ) -> Solution:
        """Push codes apart, and away from the first rows, and say how much of them was kept."""
        import torch

        from protogen.fitting.apart import push_apart

        seen = statistics.seen.cpu()
        rows, status, steps = codes, Status.FITTED, 0
        if self.alpha is not None:
            found = push_apart(
                codes,
                self.alpha,
                free=~seen,
                beside=first,
                steps=self.steps,
                run=task.run,
                checkpoint=task.checkpoint,
            )
            rows, status, steps = found.rows, found.status, found.steps
        kept = (codes.double() * rows.double()).sum(1)[seen]
        more = {"kept_mean": kept.mean().item(), "kept_least": kept.min().item()} if len(kept) else {}
        return Solution(
            InMemory(torch.cat((first, rows))),
            status,
            "statistical",
            steps=steps,
            facts=Facts(extended_n=len(first) or None, more={**more, "classes_seen": int(seen.sum())}),
            tensors={"projection": projection, "mean": mean},
        )

    def peak_bytes(self, d: int, n: int) -> int:
        codes = 24 * n * d  # in float64, and the parts of a product
        return codes + (descent_bytes(n * d) if self.alpha is not None else 2**28)

    def target(self) -> float | None:
        return self.alpha

    @classmethod
    def rank(cls, stats: AngleStats | None, facts: Facts) -> float:
        """The coherence."""
        return stats.coherence.value if stats else math.inf

    @classmethod
    def admits(cls, spec: Spec, stats: AngleStats | None, facts: Facts, wanted: Mapping[str, Value]) -> bool:
        """As asked; `alpha` admits every set of that coherence or less."""
        rest = {name: value for name, value in wanted.items() if name != "alpha"}
        alpha = wanted.get("alpha")
        within = alpha is None or cls.rank(stats, facts) <= float(alpha) + TOLERANCE
        return within and super().admits(spec, stats, facts, rest)
