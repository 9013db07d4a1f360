"""Sets that come from elsewhere: the vectors of a matrix in a file of another program."""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, ClassVar

from protogen.checks import check_flag, check_kind
from protogen.errors import BadRequest
from protogen.files.facts import Facts
from protogen.files.foreign import Matrix, advice
from protogen.files.tensors import NORM_TOLERANCE
from protogen.measuring.stats import AngleStats
from protogen.rows import InMemory, pieces
from protogen.solution import Solution, Status
from protogen.spec import DIGEST, Spec

from .method import Method, option
from .task import Task

if TYPE_CHECKING:
    from torch import Tensor

CLOSE = 1e-4  # how far a norm may lie from one in float32 and float64; in a narrower dtype twice its spacing at one


@dataclass(frozen=True)
class Import(Method):
    """Keep the vectors of a matrix that another program wrote.

    The Spec names the whole file by the sha256 of its bytes, whatever its name. Vectors of length one stay bit for
    bit; those whose length their dtype has rounded are scaled in float64; others alone where asked for.
    """

    name: ClassVar[str] = "import"
    version: ClassVar[int] = 1
    figure: ClassVar[str] = "coherence"
    takes: ClassVar[tuple[str, ...]] = ()
    from_options: ClassVar[bool] = False
    uses: ClassVar[Mapping[str, tuple[str, ...]]] = {"source": ()}
    again: ClassVar[str] = "import the file once more: `protogen import FILE`"

    source: str | None = option(None, "Digest of the file.")
    tensor: str | None = option(None, "Which tensor; else prototypes, or the only matrix.")
    transpose: bool = option(False, "The columns of the matrix are the vectors.")
    normalize: bool = option(False, "Scale vectors of any length to length one.")

    def _resolve(self, d: int, n: int, seed: int) -> Spec:
        self._check(d, n)
        return Spec.of(self.name, self.version, d=d, n=n, seed=0, params=asdict(self))

    def _check(self, d: int, n: int) -> None:
        if not isinstance(self.source, str) or not DIGEST.fullmatch(self.source):
            raise BadRequest(f"source is {self.source!r}; allowed is the digest of a file, 64 hex digits", self.again)
        check_kind("tensor", self.tensor, str)
        if self.tensor is not None and DIGEST.fullmatch(self.tensor):
            raise BadRequest(f"tensor is {self.tensor!r}, which reads like a digest; give the tensor another name")
        check_flag("transpose", self.transpose)
        check_flag("normalize", self.normalize)

    def solve(self, task: Task) -> Solution:
        """Raise BadRequest: nothing but the file has the vectors, which `solution_of` takes."""
        raise BadRequest(f"n={task.n}, d={task.d}: no Spec alone gives the vectors of a file", self.again)

    def solution_of(self, matrix: Matrix) -> Solution:
        """Take the vectors of the matrix. Raises BadRequest where their lengths are not allowed."""
        # A name that is no text has no place in JSON; where the file lay is nobody's business.
        name = os.fsencode(matrix.path.name).decode(errors="replace")
        facts = Facts(more={"imported_from": name})
        return Solution(InMemory(unit_rows(matrix, self.normalize)), Status.IMPORTED, "statistical", facts=facts)

    def peak_bytes(self, d: int, n: int) -> int:
        return 8 * n * d + 2**28

    @classmethod
    def rank(cls, stats: AngleStats | None, facts: Facts) -> float:
        """The coherence."""
        return stats.coherence.value if stats else 1.0


def unit_rows(matrix: Matrix, normalize: bool = False) -> "Tensor":
    """The vectors of a matrix with norm 1, (n, d) float32: those that have it bit for bit, the others scaled.

    Raises BadRequest where a norm lies further from one than the rounding of the dtype, unless `normalize`, and
    where a vector has no length.
    """
    import torch

    rows = torch.empty(matrix.shape, dtype=torch.float32, device="cpu")
    close = max(CLOSE, 2 * torch.finfo(matrix.tensor[:1].dtype).eps)
    for start, stop in pieces(matrix.shape):
        scaled, norms = matrix.scaled(start, stop)
        off = (norms - 1).abs()
        if not normalize and off.max() > close:
            row = int(off.argmax())
            other, norm = advice(matrix), norms[row].item()
            raise BadRequest(
                f"{matrix.path}: vector {start + row} has norm {norm:.6g}; allowed is 1 within {close:.2g}",
                other.removeprefix("note: ") if other else "--normalize, in Python normalize=True, scales all to 1",
            )
        rows[start:stop] = matrix.block(start, stop).where(off <= NORM_TOLERANCE / 2, scaled)
    return rows
