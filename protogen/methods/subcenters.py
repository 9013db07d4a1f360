"""Fixed sub-centres: s vectors for each of n classes, drawn around its centre.

Zhang and Gong, The Fixed Sub-Center: A Better Way to Capture Data Complexity: Section 3.2, Eq. 4 and 5.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from protogen.checks import check_between, check_flag, check_kind, check_whole
from protogen.errors import BadRequest
from protogen.files.facts import Facts, Norms
from protogen.files.header import read_header
from protogen.measuring.stats import AngleStats
from protogen.rows import InMemory
from protogen.solution import Solution, Status
from protogen.spec import Spec, Value

from .method import Method, option
from .task import Task

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Subcenters(Method):
    """Draw fixed sub-centres around each of n class centres.

    Rows keep the norms that chance gives them. Centres are drawn by Kaiming's uniform rule, U(-sqrt(6/d), sqrt(6/d))
    in each coordinate (Eq. 4), or taken from an artifact; sub-centres from N(centre, variance) in each coordinate
    (Eq. 5).
    """

    name: ClassVar[str] = "subcenters"
    version: ClassVar[int] = 1
    takes: ClassVar[tuple[str, ...]] = ("seed",)
    uses: ClassVar[Mapping[str, tuple[str, ...]]] = {"centers": ("centers", "prototypes")}

    per_class: int = option(4, "Sub-centres of each class.")
    variance: float = option(1e-3, "Variance of a sub-centre's coordinates around its centre's; 0: all lie on it.")
    normalize: bool = option(False, "Scale centres and sub-centres to length one.")
    centers: str | None = option(None, "Artifact that has the centres, d and n its own; left out: they are drawn.")

    def _resolve(self, d: int, n: int, seed: int) -> Spec:
        """The artifact of the centres goes into the Spec by its digest, whatever its path."""
        self._check(d, n)
        digest = None
        for path in self.files():
            header = read_header(path)
            if (header.spec.d, header.spec.n) != (d, n):
                raise BadRequest(
                    f"{path}: has d={header.spec.d}, n={header.spec.n}, asked for are d={d}, n={n}; "
                    "centers are taken as they are: ask for their d and n"
                )
            digest = header.digest
        params: dict[str, Value] = {
            "per_class": self.per_class,
            "variance": float(self.variance),
            "normalize": self.normalize,
            "centers": digest,
        }
        return Spec.of(self.name, self.version, d=d, n=n, seed=seed, params=params)

    def _check(self, d: int, n: int) -> None:
        check_whole("per-class", self.per_class, 1)
        check_between("variance", self.variance, 0, 1e30, or_low=True)
        check_flag("normalize", self.normalize)
        check_kind("centers", self.centers, str)

    def solve(self, task: Task) -> Solution:
        """Draw `centers` (n, d), unless they are given, then rows (n, s, d), from one seeded generator on the CPU.

        Statistical, since torch promises the same draws on another version or processor to nobody.
        """
        import torch
        from torch.nn.functional import normalize

        generator = torch.Generator().manual_seed(task.seed)
        if self.centers is None:
            centers = torch.empty(task.n, task.d, dtype=torch.float32, device="cpu")
            torch.nn.init.kaiming_uniform_(centers, generator=generator)
        else:
            centers = task.inputs["centers"]
        noise = torch.randn(task.n, self.per_class, task.d, generator=generator, dtype=torch.float32, device="cpu")
        rows = noise.mul_(math.sqrt(self.variance)).add_(centers[:, None])
        facts = Facts(
            norms=None if self.normalize else "free", center_norms=_norms(centers), subcenter_norms=_norms(rows)
        )
        if self.normalize:
            centers, rows = normalize(centers, dim=-1), normalize(rows, dim=-1)
        return Solution(InMemory(rows), Status.DRAWN, "statistical", facts=facts, tensors={"centers": centers})

    def peak_bytes(self, d: int, n: int) -> int:
        # As drawn and, on the way, scaled.
        return 2 * self.file_bytes(d, n) + 2**28

    def file_bytes(self, d: int, n: int) -> int:
        return 4 * n * d * (1 + self.per_class)

    @classmethod
    def rank(cls, stats: AngleStats | None, facts: Facts) -> float:
        """The largest cosine of sub-centres of different classes."""
        return stats.max_cos.value if stats else math.inf


def _norms(vectors: "Tensor") -> Norms:
    import torch

    norms = torch.linalg.vector_norm(vectors, dim=-1, dtype=torch.float64)
    return Norms(min=norms.min().item(), mean=norms.mean().item(), max=norms.max().item())
