"""What to begin with, for n classes in d dimensions: the set, its places, the head, and the lines of Python."""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from protogen.bounds import coherence_bound
from protogen.catalog import label
from protogen.methods import resolve
from protogen.methods.start import ORBITS, Start, descent_promise
from protogen.spec import Spec

if TYPE_CHECKING:
    import torch

WIDE = 4096  # units before the features that few networks have more of
APART = 0.65  # coherence that codes are pushed apart to, at which they keep nearly all (tests/demo/SCIENCE.md)
ROOMY = 0.8  # a lower bound of at most this share of APART leaves the codes room to be pushed apart so far
TIMED_PRODUCTS, TIMES = 2e8, 4  # multiplications of a product of a step that is timed, and how often


@dataclass(frozen=True)
class Advice:
    """What to begin with.

    - `spec`: what `protogen ebv` makes at this size; `start`: from what, in a word; `form`: its closed form, or None.
    - `coherence`: what the form guarantees, or about what a descent gets to; `certain` says which of the two.
    - `bound`, `bound_name`: the lower bound of the coherence, and `ratio` of the two, None where the bound is 0.
    - `file_bytes`: size of the file.
    - `hidden`: units before the features above which random places do; `fits`: whether rows should fit the classes.
    - `temperature`: of a cosine softmax to begin with; `loss`: of features at random places at this temperature, and
      `least_loss` of perfect ones.
    """

    spec: Spec
    start: str
    form: str | None
    coherence: float
    certain: bool
    bound: float
    bound_name: str
    file_bytes: int
    hidden: int
    temperature: float
    loss: float
    least_loss: float

    @property
    def ratio(self) -> float | None:
        """The coherence over its lower bound."""
        return self.coherence / self.bound if self.bound > 0 else None

    @property
    def fits(self) -> bool:
        """Whether rows should fit the classes, or be placed by them, where there are samples."""
        return self.hidden > WIDE

    @property
    def python(self) -> list[str]:
        """The lines of Python to paste: a simplex, rows that fit the classes, or those of `protogen ebv`."""
        d, n = self.spec.d, self.spec.n
        if n <= d + 1:
            made = f'rows = protogen.ensure("simplex", d={d}, n={n}).path'
        elif not self.fits:
            made = f'rows = protogen.ensure("ebv", d={d}, n={n}).path'
        else:
            apart = f", alpha={APART}" if self.bound <= ROOMY * APART else ""
            made = f"rows = protogen.fit(features, labels, d={d}{apart})  # (samples, width) and (samples,)"
        return [
            "import torch, protogen",
            "from protogen.nn import CosineHead",
            "",
            made,
            f"head = CosineHead(rows, {self.temperature:.3g}, learn_scale=True)",
            f"model = torch.nn.Sequential(backbone, torch.nn.BatchNorm1d({d}, affine=False))",
            "loss = head.loss(model(x), y)  # head(model(x)) are the logits",
        ]

    def to_dict(self) -> dict[str, Any]:
        """The advice as plain JSON values."""
        plain = {name: value for name, value in asdict(self).items() if name != "spec"}
        derived = {"ratio": self.ratio, "fits": self.fits, "python": self.python}
        return {"spec": self.spec.to_dict(), **plain, **derived}


def least_hidden(n: int, d: int) -> int:
    """Return how many units before the features n classes at random places in R^d need, by rule of thumb.

    Hidden units times d is about 2 n ln n, as measured in tests/demo/SCIENCE.md.
    """
    return math.ceil(2 * n * math.log(n) / d)


def advise(d: int, n: int) -> Advice:
    """Say what to begin with for n classes in R^d. Raises BadRequest on sizes that no set has."""
    from protogen.nn.temperature import fitting_temperature, least_loss, random_loss

    spec = resolve("ebv", d=d, n=n)
    start = Start.parse(str(spec.options["start"]))
    form = None if start.word == ORBITS else start.closed_form  # what orbits are made beside is no better than these
    certain = form is not None
    coherence = form.cosine if form is not None else descent_promise(d, n)
    bound = coherence_bound(d, n)
    tau = fitting_temperature(n, d, coherence)
    return Advice(
        spec=spec,
        start=start.word,
        form=None if form is None else label(form),
        coherence=coherence,
        certain=certain,
        bound=bound.value,
        bound_name=bound.name,
        file_bytes=4 * n * d,
        hidden=least_hidden(n, d),
        temperature=tau,
        loss=random_loss(n, d, tau),
        least_loss=least_loss(n, d, tau, coherence),
    )


def step_seconds(advice: Advice, ranks: int, batch: int, device: str, dtype: str) -> dict[str, float | None]:
    """Time a training step of the last layer here; return seconds of one rank by the kind of its rows.

    `held`, `formula` (None where the set's form has no fast product) and `learned`, with Adam. A step is timed on as
    many classes as take a moment, and its time scaled to n / ranks of them. `device` and `dtype` are torch's names.
    Raises BadRequest on a device that is not there.
    """
    import torch

    from protogen.measuring.geometry import pick_device
    from protogen.nn import CosineHead, StructuredPrototypes, as_prototypes

    d, n, gathered = advice.spec.d, advice.spec.n, ranks * batch
    where, kind = pick_device(device), getattr(torch, dtype)
    few = max(2, min(n, int(TIMED_PRODUCTS / (d * gathered))))
    scale = max(1.0, n / ranks / few)
    drawn = torch.Generator().manual_seed(0)
    rows, features = (torch.randn(size, d, generator=drawn).to(where) for size in (few, gathered))
    features = features.to(kind)
    labels = torch.arange(gathered, device=where) % few
    features.requires_grad_()

    def fixed(head: CosineHead) -> float:
        return scale * _least_time(lambda: head.loss(features, labels).backward(), where)

    learned = torch.nn.Linear(d, few, bias=False, device=where, dtype=kind)
    optimizer = torch.optim.Adam(learned.parameters())

    def step() -> None:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(learned(features), labels).backward()
        optimizer.step()

    formula = None if advice.form is None else as_prototypes(advice.form, n=few, d=d)
    return {
        "held": fixed(CosineHead(as_prototypes(torch.nn.functional.normalize(rows), dtype=kind))),
        "formula": fixed(CosineHead(formula.to(where))) if isinstance(formula, StructuredPrototypes) else None,
        "learned": scale * _least_time(step, where),
    }


def _least_time(step: Callable[[], None], where: "torch.device") -> float:
    """Return the seconds of the fastest of some steps, after one that sets up."""
    import torch

    def timed() -> float:
        began = time.perf_counter()
        step()
        if where.type == "cuda":
            torch.cuda.synchronize(where)
        return time.perf_counter() - began

    return min([timed() for _ in range(TIMES)][1:])
