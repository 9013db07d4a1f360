"""What every method has: options that become a Spec, and a solver."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Self, get_args

from protogen.bounds import LARGEST
from protogen.checks import check_kind, check_names, check_whole
from protogen.descent.effort import EFFORTS
from protogen.errors import BadRequest
from protogen.files.facts import Facts
from protogen.files.header import read_header
from protogen.measuring.stats import AngleStats
from protogen.rows import FILL, HELD
from protogen.solution import Solution
from protogen.spec import DIGEST, Spec, Value

from .start import CAPACITY
from .task import Task

MAX_SEED = 2**63 - 1
EXTRA = ("from", "max_n")  # of a search for the most lines, in its Spec beside the parameters of the method


STEPS = 5000
RESTARTS = "So many random starts descend at once, by steps; the best is kept."
EFFORT = f"How much a search may cost: {', '.join(EFFORTS)}; left out: default. It is counted in multiplications."


# L-BFGS keeps so many steps twice: fewer for sets that fill the memory.
HISTORY, SHORT_HISTORY, LONG_SET = 10, 3, 2**24


def option(default: Value, help: str) -> Any:
    """A method's parameter: its default and the sentence that the command line shows."""
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True)
class Method(ABC):
    """The parameters of one generator, as given; `resolve` turns them into a Spec, `solve` works.

    A method is a frozen dataclass: its fields are the command's options. `version` goes up when the
    same parameters begin to mean another set.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    group: ClassVar[str | None] = None  # the word before its own on the command line
    figure: ClassVar[str] = "max_cos"  # the cosine that counts: of points the largest, of lines "coherence"
    takes: ClassVar[tuple[str, ...]] = ("seed", "time_limit", "strict")  # options that it shares with others
    from_options: ClassVar[bool] = True  # whether its command is made of its fields alone
    again: ClassVar[str] = ""  # what to do where a set is to be made, and what the run should hold for it is not given
    uses: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """The parameters that name what a set builds on, a file by its path in a request, by its digest in a Spec.

    With each stand the tensors of the file that serve: the first of them that the file has. Where none stands, what
    is named is no file, but something that the run holds.
    """

    def resolve(self, d: int | None, n: int, seed: int = 0) -> Spec:
        """Check a request and resolve its defaults. Raises BadRequest on what cannot be met."""
        check_whole("n", n, 2, LARGEST)
        if d is None:
            d = self.least_d(n)
            if d is None:
                raise BadRequest(f"d is missing; {self.name} needs the dimension, a whole number, at least 2")
        self._check_size(d, n, seed)
        return self._resolve(d, n, seed)

    def check(self, d: int, n: int, seed: int) -> None:
        """Raise BadRequest unless a Spec of this size with these parameters could come of a request."""
        self._check_size(d, n, seed)
        self._check(d, n)
        for name in self.uses:
            value = getattr(self, name)
            if value is not None and not DIGEST.fullmatch(value):
                raise BadRequest(f"{name} is {value!r} in a Spec; allowed is a digest, 64 hex digits")

    def _check_size(self, d: int, n: int, seed: int) -> None:
        check_whole("n", n, 2, LARGEST)
        check_whole("seed", seed, 0, MAX_SEED)
        least = self.least_d(n)
        check_whole("d" if least is None else f"d for n={n}", d, least or 2, LARGEST)

    def _check(self, d: int, n: int) -> None:  # noqa: B027  # not abstract: a polytope has no parameters
        """Raise BadRequest on parameters that no Spec has."""

    @classmethod
    def least_d(cls, n: int) -> int | None:
        """The smallest d that n vectors fit into, taken where d is left out; None: d must be given."""
        return None

    def _resolve(self, d: int, n: int, seed: int) -> Spec:
        return Spec.of(self.name, self.version, d=d, n=n, seed=seed, params=asdict(self))

    @classmethod
    def of(cls, spec: Spec) -> Self:
        """The method with the parameters of a Spec; those that the Spec leaves out do not apply.

        Raises BadRequest where one is unknown, or of another type than its own, and on a run that was ended early.
        """
        known = {f.name: f.type for f in fields(cls)}
        if "ended" in spec.options:
            raise BadRequest(f"{spec.key} is a run that was {spec.options['ended']}; ask for the whole of it")
        extra = EXTRA if spec.options.get("start") == CAPACITY else ()
        check_names(cls.name, spec.options.keys() - {*extra}, list(known))
        given = {name: value for name, value in spec.params if name in known}
        for name, value in given.items():
            check_kind(name, value, known[name])
            if value is None and type(None) not in get_args(known[name]):
                raise BadRequest(f"{name} is None in a Spec; allowed is a value of its kind")
        return cls(**given)

    @abstractmethod
    def solve(self, task: Task) -> Solution:
        """Make the set of a resolved Spec."""

    @abstractmethod
    def peak_bytes(self, d: int, n: int) -> int:
        """The memory that `solve` needs at its peak, estimated, beside the interpreter."""

    def file_bytes(self, d: int, n: int) -> int:
        """The size of the tensors in the file."""
        return 4 * n * d

    def files(self) -> tuple[Path, ...]:
        """The artifacts that the options name by their paths, and the Spec by their digests."""
        given = (getattr(self, name) for name, serving in self.uses.items() if serving)
        return tuple(Path(value) for value in given if value is not None)

    def target(self) -> float | None:
        """The coherence that was asked for, or None."""
        return None

    @classmethod
    @abstractmethod
    def rank(cls, stats: AngleStats | None, facts: Facts) -> float:
        """The figure by which artifacts of one size compare; lower is better."""

    @classmethod
    def cosine(cls, stats: AngleStats | None, facts: Facts) -> float | None:
        """The cosine that counts, as measured; as guaranteed where nothing was measured; or None."""
        if cls.figure == "coherence":
            return stats.coherence.value if stats else facts.guaranteed_coherence
        return stats.max_cos.value if stats else facts.guaranteed_max_cos

    @classmethod
    def admits(cls, spec: Spec, stats: AngleStats | None, facts: Facts, wanted: Mapping[str, Value]) -> bool:
        """Whether an artifact is one that was asked for.

        A parameter that its Spec leaves out did not apply. An artifact that it builds on is wanted by the path of
        a file, and stands in the Spec by its digest.
        """
        paths = {name: str(wanted[name]) for name, serving in cls.uses.items() if serving and wanted.get(name)}
        digests = {name: read_header(path).digest for name, path in paths.items()}
        return all(spec.options.get(name, value) == value for name, value in {**wanted, **digests}.items())


def history(numbers: int) -> int:
    """How many steps L-BFGS remembers for so many numbers."""
    return HISTORY if numbers <= LONG_SET else SHORT_HISTORY


def descent_bytes(numbers: int) -> int:
    """The memory of a descent on so many numbers: rows, gradients, directions, and the steps remembered.

    A checkpoint holds on to a step that is forgotten until the next one.
    """
    return 4 * numbers * (14 + 2 * history(numbers)) + 2**28


def formula_bytes(d: int, n: int) -> int:
    """The memory for the rows of a formula: all as long as they are held, and a piece in the making.

    Each number of that is worked out in a few whole numbers or complex ones of 8 to 16 bytes.
    """
    size = 4 * n * d
    return (size if size <= HELD else 0) + 64 * min(n * d, FILL) + 2**28
