"""The rows of the demo: planned, kept in a file as they come, and compared."""

import json
import math
import os
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from protogen.advice import least_hidden
from protogen.errors import BadRequest, IntegrityError
from protogen.files.disk import disk_error

from .contestants import ABLATIONS, HEADS, LEARNED, canonical, spec_of
from .data import TEST, Task
from .training import HIDDEN, Row, Trial
from .variants import varied

CUT = b" (cut off)\n"  # ends a line that a full disk or a lost machine left without its end


def plan(
    task: Task,
    heads: Sequence[str] | None,
    against: str,
    dimensions: Sequence[int],
    seeds: int,
    epochs: int,
    imbalance: float,
    hidden: int = HIDDEN,
    part: str = TEST,
    settings: Sequence[str] = (),
) -> list[Trial]:
    """List the trials: every head with every seed, one d after the other.

    - `heads`: those that are trained; None: all that exist for a d and the classes, but the ablations.
    - `against`: the head that the others are compared with, which is always among them.
    - `imbalance`: how many times the samples of the last class the first one has.
    - `hidden`: the units of the network's hidden layer.
    - `part`: the set that is measured.
    - `settings`: `head.name=value,value`; a variant for each choice of values takes the place of the head.

    Raises BadRequest where a head that was asked for does not exist for a d, or has no such setting.
    """
    found = []
    against = str(canonical(against))
    chosen = [str(canonical(head)) for head in varied(heads or HEADS, settings)]
    if heads is None:
        varying = {setting.partition(".")[0].strip() for setting in settings}
        chosen = [head for head in chosen if head.partition("(")[0] in varying or head not in ABLATIONS]
    for d in dimensions:
        keys = {}
        for head in dict.fromkeys((against, *chosen)):
            try:
                spec = spec_of(head, d, task.classes)
            except BadRequest:
                if heads is not None or head == against:
                    raise
                continue
            keys[head] = None if spec is None else spec.key
        for seed in range(seeds):
            for head, key in keys.items():
                named = Trial(task.name, task.classes, task.digest, imbalance, head, key, d, seed, epochs)
                found.append(replace(named, hidden=hidden, part=part))
    return found


def warnings_of(trials: Sequence[Trial]) -> list[str]:
    """Say in a line for each head and d where classes have random places that the network is too small for.

    As measured in SCIENCE.md, these need about hidden x d > 2 n ln n.
    """
    found = {}
    for trial in trials:
        needed = least_hidden(trial.classes, trial.hidden)  # the same of d, for this many units
        if trial.prototypes is not None and "placed" not in trial.head and trial.d < needed:
            found[trial.head, trial.d] = (
                f"{trial.head} gives {trial.classes:,} classes random places, which with {trial.hidden} hidden units "
                f"needs d of about {needed:,.0f} or more, not {trial.d}; ebv-placed and codes choose them by the data"
            )
    return list(found.values())


@dataclass(frozen=True)
class RowFile:
    """A file with one row a line, as JSON; it need not exist. It only grows, so that several demos can add to it."""

    path: Path

    def rows(self) -> dict[Trial, Row]:
        """Read the rows, by what was asked for. A line that was cut off is none.

        Raises DiskError, and IntegrityError where a line is no row.
        """
        try:
            lines = self.path.read_bytes().splitlines(keepends=True)
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise disk_error(self.path, error, "by --rows") from error
        found = {}
        for number, line in enumerate(lines, 1):
            if line.endswith(CUT) or not line.endswith(b"\n"):
                continue
            try:
                row = Row.from_dict(json.loads(line))
            except (ValueError, TypeError, LookupError, RecursionError) as error:
                raise IntegrityError(f"{self.path}: line {number} is no row of the demo; delete the line") from error
            found[row.trial] = row
        return found

    def check(self) -> None:
        """Try whether a row could be added, before any is trained. Raises DiskError."""
        try:
            with self.path.open("ab"):
                pass
        except OSError as error:
            raise disk_error(self.path, error, "by --rows") from error

    def add(self, row: Row) -> None:
        """Bring one row to the disk, on a line of its own. Raises DiskError."""
        line = json.dumps(row.to_dict(), allow_nan=False).encode() + b"\n"
        try:
            with self.path.open("a+b") as file:
                end = file.seek(0, os.SEEK_END)
                file.seek(max(end - 1, 0))
                last = file.read() or b"\n"
                # A line that another process is adding may look cut off; it is whole before this one is added.
                file.write(line if last.endswith(b"\n") else CUT + line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise disk_error(self.path, error, "by --rows") from error


@dataclass(frozen=True)
class Comparison:
    """One head at one d over its seeds: means, and the deviation of the accuracy.

    - `difference`: the accuracy less that of `against`, paired by seed.
    - `interval`: half the width of the 95% confidence interval of the difference (Student's t).
    - `validation`, `validation_difference`, `validation_interval`: the same of the validation set.

    - `recall_at_1`: the share of features whose nearest other one is of their class, in percent.

    A figure that cannot be known is None.
    """

    head: str
    against: str
    d: int
    seeds: int
    accuracy: float
    deviation: float | None
    difference: float | None
    interval: float | None
    validation: float | None
    validation_difference: float | None
    validation_interval: float | None
    trained: int
    head_trained: int
    head_bytes: int
    seconds_per_epoch: float
    own_angle_deg: float
    means_angle_deg: float
    recall_at_1: float | None

    def to_dict(self) -> dict[str, Any]:
        """The comparison as plain JSON values."""
        return asdict(self)


def compare(rows: Sequence[Row], against: str = LEARNED) -> list[Comparison]:
    """Compare the heads of a plan's rows, which differ in head, d and seed alone, with one of them."""
    groups: dict[tuple[int, str], dict[int, Row]] = {}
    for row in rows:
        groups.setdefault((row.trial.d, row.trial.head), {})[row.trial.seed] = row
    return [_compared(mine, groups.get((d, against), {}), against) for (d, _), mine in groups.items()]


def _compared(mine: dict[int, Row], others: dict[int, Row], against: str) -> Comparison:
    rows = list(mine.values())
    accuracy = {seed: row.accuracy for seed, row in mine.items()}
    validation = {seed: row.validation for seed, row in mine.items() if row.validation is not None}
    if rows[0].trial.head == against:
        others = {}
    difference, interval = _paired(accuracy, {seed: row.accuracy for seed, row in others.items()})
    apart = _paired(validation, {seed: row.validation for seed, row in others.items() if row.validation is not None})
    firsts = [row.recall[0] for row in rows if row.recall]
    return Comparison(
        head=rows[0].trial.head,
        against=against,
        d=rows[0].trial.d,
        seeds=len(rows),
        accuracy=statistics.mean(accuracy.values()),
        deviation=statistics.stdev(accuracy.values()) if len(rows) > 1 else None,
        difference=difference,
        interval=interval,
        validation=statistics.mean(validation.values()) if validation else None,
        validation_difference=apart[0],
        validation_interval=apart[1],
        trained=rows[0].trained,
        head_trained=rows[0].head_trained,
        head_bytes=rows[0].head_bytes,
        seconds_per_epoch=statistics.mean(row.seconds_per_epoch for row in rows),
        own_angle_deg=statistics.mean(row.own_angle_deg for row in rows),
        means_angle_deg=statistics.mean(row.means_angle_deg for row in rows),
        recall_at_1=statistics.mean(firsts) if len(firsts) == len(rows) else None,
    )


def _paired(mine: dict[int, float], others: dict[int, float]) -> tuple[float | None, float | None]:
    """Compute the mean difference over the seeds that both have, and half of its interval; None where it has none."""
    apart = [value - others[seed] for seed, value in mine.items() if seed in others]
    return statistics.mean(apart) if apart else None, half_interval(apart) if len(apart) > 1 else None


def half_interval(values: Sequence[float]) -> float:
    """Compute half the width of the 95% confidence interval of the mean of at least two values (Student's t)."""
    from scipy.special import stdtrit

    quantile = float(stdtrit(len(values) - 1, 0.975))
    return quantile * statistics.stdev(values) / math.sqrt(len(values))


COLUMNS = (
    *("head", "d", "validation", "to {}", "95%", "accuracy", "dev", "to {}", "95%"),
    *("trained", "head MB", "s/epoch", "own deg", "means deg"),
)


def table_lines(found: Sequence[Comparison]) -> list[str]:
    """Lay at least one comparison out in lines."""

    def number(value: float | None, form: str) -> str:
        return "-" if value is None else format(value, form)

    cells = [
        (
            one.head,
            str(one.d),
            number(one.validation, ".2f"),
            number(one.validation_difference, "+.2f"),
            number(one.validation_interval, ".2f"),
            f"{one.accuracy:.2f}",
            number(one.deviation, ".2f"),
            number(one.difference, "+.2f"),
            number(one.interval, ".2f"),
            f"{one.trained:,}",
            f"{one.head_bytes / 1e6:.2f}",
            f"{one.seconds_per_epoch:.2f}",
            f"{one.own_angle_deg:.1f}",
            f"{one.means_angle_deg:.1f}",
        )
        for one in found
    ]
    titles = tuple(title.format(found[0].against) for title in COLUMNS)
    widths = [max(map(len, column)) for column in zip(titles, *cells, strict=True)]
    return [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in (titles, *cells)
    ]
