"""`protogen uniform`, by hand: python tests/benchmarks/bench_uniform.py [table7] [figure2] [race] [sharpen] [exact].

Every speed is a ratio to something timed in the same run.
"""

import math
import sys
import time
from collections.abc import Callable

import torch

from protogen import Run
from protogen.measuring.geometry import mean_angle_deg, random_rows
from protogen.measuring.measure import measure
from protogen.methods import Task, method_of, resolve
from protogen.run import Progress
from protogen.spec import Value


def make(method: str, d: int, n: int, seed: int = 0, **params: Value) -> tuple[torch.Tensor, float, int]:
    """Descend from a random start: rows (n, d), seconds, steps."""
    spec = resolve(method, d=d, n=n, seed=seed, start="random", **params)
    began = time.perf_counter()
    found = method_of(spec).solve(Task.of(spec))
    return found.source.rows(0, n), time.perf_counter() - began, found.steps


def table7() -> None:
    """Assignment paper's Table 7: 100 vectors, its largest and smallest cosine 0.0, -0.01 and 0.01, -1.0.

    By L-BFGS, and by plain gradient steps at the paper's rate and at a hundred times that; last a literal version.
    """
    procedures: dict[str, dict[str, Value]] = {
        "L-BFGS": {},
        "--update paper": {"update": "paper"},
        "--update paper --rate 10": {"update": "paper", "rate": 10.0},
    }
    for d in (100, 50):
        for name, params in procedures.items():
            show_cosines(f"table 7, d {d}, {name}", *make("uniform", d, 100, **params)[:2])
        began = time.perf_counter()
        show_cosines(f"table 7, d {d}, literal", literal(d, 100), time.perf_counter() - began)


def show_cosines(name: str, rows: torch.Tensor, seconds: float) -> None:
    """Print the largest and the smallest cosine of a set."""
    stats = measure_rows(rows)
    print(f"{name}: largest cos {stats.max_cos.value:.7f}, smallest {stats.min_cos.value:.6f}, {seconds:.2f} s")


def literal(d: int, n: int) -> torch.Tensor:
    """Section 4.1 as printed, by autograd: torch's SGD at rate 0.1 on Eq. 5, 1,000 steps, normalised after each."""
    rows = torch.randn(n, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rows = torch.nn.functional.normalize(rows, dim=1).requires_grad_()
    optimizer = torch.optim.SGD([rows], lr=0.1)
    for _ in range(1000):
        optimizer.zero_grad()
        squares = rows.square().sum(1)
        (torch.exp(-2 * (squares[:, None] + squares - 2 * rows @ rows.T)).sum() / n).log().backward()
        optimizer.step()
        with torch.no_grad():
            rows.copy_(torch.nn.functional.normalize(rows, dim=1))
    return rows.detach().float()


def figure2() -> None:
    """Assignment paper's Figure 2: 100 vectors, their mean angle over all pairs (APAD), and 1 - cos of near ones.

    Directions drawn from N(0, sigma I) at three sigma, 50 vectors on each of two poles, and optimised ones at two t.
    """
    n = 100
    for d in (3, 10, 50, 100):
        drawn = torch.randn(n, d, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        poles = torch.zeros(n, d, dtype=torch.float64)
        poles[::2, 0], poles[1::2, 0] = 1, -1
        sets = {f"drawn, sigma {sigma:g}": math.sqrt(sigma) * drawn for sigma in (0.01, 1, 100)}
        sets |= {
            "two poles": poles,
            **{f"optimised, t {t:g}": make("uniform", d, n, t=t)[0].double() for t in (2.0, 10.0)},
        }
        for name, rows in sets.items():
            rows = torch.nn.functional.normalize(rows, dim=1)
            nearest = (1 - rows @ rows.T).fill_diagonal_(2).min(1).values
            print(
                f"figure 2, d {d}, {name}: APAD {mean_angle_deg(rows):.4f} deg, "
                f"1 - cos to the nearest: mean {nearest.mean():.4f}, least {nearest.min():.4f}"
            )


def measure_rows(rows: torch.Tensor):
    from protogen.rows import InMemory

    return measure(InMemory(rows))


def eq5(rows: torch.Tensor, t: float = 2.0) -> float:
    """Eq. 5 in float64, its i = j terms included."""
    rows = torch.nn.functional.normalize(rows.double(), dim=1)
    return math.log(torch.exp(2 * t * (rows @ rows.T - 1)).sum().item() / len(rows))


class Enough(Exception):
    """The loss to be reached is reached."""


def race() -> None:
    """Our time to the Eq. 5 that the paper's SGD has after 1,000 steps, from the same start."""
    for d, n in ((50, 100), (64, 200), (128, 1000)):
        rows, theirs_s, _ = make("uniform", d, n, update="paper")
        theirs = eq5(rows)
        spec = resolve("uniform", d=d, n=n, start="random")
        # Eq. 5 = log(1 + 2 S / n) and the descent reports log S.
        log_s = math.log(math.expm1(theirs) * n / 2)
        reached: list[float] = []

        def report(at: Progress, log_s: float = log_s, reached: list[float] = reached) -> None:
            if at.best <= log_s and not reached:
                reached.append(at.seconds)

        began = time.perf_counter()
        found = method_of(spec).solve(Task.of(spec, Run(report=report)))
        seconds = time.perf_counter() - began
        ours = eq5(found.source.rows(0, n))
        when = (
            f"reached after {reached[0]:.3f} s, {theirs_s / reached[0]:.0f} times sooner" if reached else "NOT reached"
        )
        print(
            f"({d}, {n}) paper's SGD, 1000 steps: {theirs:.8f} in {theirs_s:.2f} s; {when}; "
            f"ours ends at {ours:.8f} in {seconds:.2f} s, {found.steps} steps"
        )


def sharpen() -> None:
    """The largest cosine between points."""
    for d, n in ((32, 100), (50, 200)):
        rows, seconds, steps = make("uniform", d, n, sharpen=True)
        print(
            f"({d}, {n}) --sharpen: largest cos {measure_rows(rows).max_cos.value:.5f}, {steps} steps, {seconds:.1f} s"
        )
    spec = resolve("uniform", d=512, n=1000, sharpen=True)
    began = time.perf_counter()
    stats = measure(method_of(spec).solve(Task.of(spec)).source)
    print(
        f"(512, 1000) --sharpen: largest cos {stats.max_cos.value} by {spec.options['start']}, "
        f"{time.perf_counter() - began:.1f} s"
    )


def exact() -> None:
    """Known optima from random starts, 10 seeds each."""
    began = time.perf_counter()
    worst = 0.0
    for method, d, n, best, params in (
        ("uniform", 3, 12, 5**-0.5, {}),
        ("uniform", 4, 10, 1 / 6, {"restarts": 8}),
        ("uniform", 5, 16, 1 / 5, {}),
        ("uniform", 6, 27, 1 / 4, {}),
        ("ebv", 3, 6, 5**-0.5, {}),
        ("ebv", 7, 28, 1 / 3, {"restarts": 8}),
    ):
        errors = []
        for seed in range(10):
            stats = measure_rows(make(method, d, n, seed, **params)[0])
            errors.append((stats.max_cos if method == "uniform" else stats.coherence).value - best)
        worst = max(worst, *errors)
        options = " ".join(f"--{name} {value}" for name, value in params.items())
        print(f"{method} ({d}, {n}) {options}: largest error over 10 seeds {max(errors):.1e}")
    print(f"all in {time.perf_counter() - began:.2f} s, largest error {worst:.1e}")


PARTS: dict[str, Callable[[], None]] = {
    "table7": table7,
    "figure2": figure2,
    "race": race,
    "sharpen": sharpen,
    "exact": exact,
}

if __name__ == "__main__":
    random_rows(1, 2, 2, 0)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    for part in sys.argv[1:] or PARTS:
        PARTS[part]()
