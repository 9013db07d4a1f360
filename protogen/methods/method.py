"""What every method has: options that become a Spec, and a solver."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar, Self

from ..errors import BadRequest
from ..solution import Run, Solution
from ..spec import Spec, Value

MAX_SEED = 2**63 - 1


def option(default: Value, help: str) -> Any:
    """A method's parameter: its default and the sentence that the command line shows."""
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True)
class Method:
    """The parameters of one generator, as given; `resolve` turns them into a Spec, `solve` works.

    A method is a frozen dataclass: its fields are the command's options. `version` goes up when the
    same parameters begin to mean another set.
    """

    name: ClassVar[str]
    version: ClassVar[int]

    def resolve(self, d: int, n: int, seed: int = 0) -> Spec:
        """Check a request and resolve its defaults. Raises BadRequest on what cannot be met."""
        check_whole("d", d, 2)
        check_whole("n", n, 2)
        check_whole("seed", seed, 0, MAX_SEED)
        return self._resolve(d, n, seed)

    def _resolve(self, d: int, n: int, seed: int) -> Spec:
        return Spec.of(self.name, self.version, d=d, n=n, seed=seed, params=asdict(self))

    @classmethod
    def of(cls, spec: Spec) -> Self:
        """The method with the parameters of a Spec; those that the Spec leaves out do not apply."""
        known = {f.name for f in fields(cls)}
        return cls(**{name: value for name, value in spec.params if name in known})

    def solve(self, d: int, n: int, seed: int, run: Run) -> Solution:
        """Make the set of a resolved Spec."""
        raise NotImplementedError

    def peak_bytes(self, d: int, n: int) -> int:
        """The memory that `solve` needs at its peak, estimated, beside the interpreter."""
        raise NotImplementedError

    def file_bytes(self, d: int, n: int) -> int:
        """The size of the tensors in the file."""
        return 4 * n * d

    def target(self) -> float | None:
        """The coherence that was asked for, or None."""
        return None

    @classmethod
    def rank(cls, stats: Mapping[str, Any], facts: Mapping[str, Any]) -> float:
        """The figure by which artifacts of one size compare; lower is better."""
        raise NotImplementedError

    @classmethod
    def admits(
        cls, spec: Spec, stats: Mapping[str, Any], facts: Mapping[str, Any], wanted: Mapping[str, Value]
    ) -> bool:
        """Whether an artifact is one that was asked for by these parameters."""
        return all(name in spec.options and spec.options[name] == value for name, value in wanted.items())


def check_whole(name: str, value: object, least: int, most: int | None = None) -> None:
    """Raise BadRequest unless value is a whole number from least to most."""
    allowed = f"a whole number, at least {least}" + (f" and at most {most}" if most is not None else "")
    if not isinstance(value, int) or isinstance(value, bool) or value < least or (most is not None and value > most):
        raise BadRequest(f"{name} is {value!r}; allowed is {allowed}")


def check_between(name: str, value: object, low: float, high: float) -> None:
    """Raise BadRequest unless value is a number strictly between low and high."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not low < value < high:
        raise BadRequest(f"{name} is {value!r}; allowed is a number above {low:g} and below {high:g}")


def check_word(name: str, value: object, allowed: tuple[str, ...]) -> None:
    """Raise BadRequest unless value is one of the allowed words."""
    if value not in allowed:
        raise BadRequest(f"{name} is {value!r}; allowed are {', '.join(allowed)}")
