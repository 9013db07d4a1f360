"""The commands about sizes: bounds, closed forms, and how many lines fit."""

import math
import re
import sys
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from protogen import report
from protogen.bounds import line_bounds, point_bounds
from protogen.capacity.capacity import STEPS, sweep
from protogen.ranks.plan import PARTIAL
from protogen.ranks.plan import plan as planned
from protogen.report.plot import check_png, save_capacity

from .options import (
    INTERRUPTED,
    Device,
    Dimension,
    Json,
    Number,
    Points,
    StoreOption,
    Tile,
    number,
    print_result,
    run_of,
    tell,
    values,
    whole,
)

app = typer.Typer()


@app.command()
def bounds(
    d: Dimension,
    n: Number,
    points: Points = False,
    json: Json = False,
) -> None:
    """List the lower bounds for n vectors in R^d, with sources.

    The best comes first.
    """
    found = [asdict(bound) for bound in (point_bounds(d, n) if points else line_bounds(d, n))]
    print_result({"d": d, "n": n, "points": points, "bounds": found}, lambda _: report.bound_lines(found), json)


@app.command()
def catalog(
    d: Dimension,
    n: Number,
    points: Points = False,
    signs: Annotated[bool, typer.Option("--signs", help="Of rows of 1/sqrt(d) and -1/sqrt(d) alone.")] = False,
    json: Json = False,
) -> None:
    """List the closed forms that reach n vectors in R^d, best first.

    The best guarantees the lowest cosine. Nothing is built.
    """
    print_result(report.listing(d, n, points, signs), report.listing_lines, json)


@app.command()
def capacity(
    d: Annotated[str, typer.Option("--d", help="Dimension, at least 2; 50,100 or 50:200:50 for a table.")],
    alpha: Annotated[str, typer.Option("--alpha", help="Largest |cos|: 0.1, 1/3, 1/sqrt5; 0.1:0.3:0.05 for a table.")],
    max_n: Annotated[
        int | None, typer.Option("--max-n", help="Try no more lines; else what a descent manages.", parser=whole)
    ] = None,
    steps: Annotated[
        int, typer.Option("--steps", help="The most passes over all pairs of one descent.", parser=whole)
    ] = STEPS,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the new vectors.", parser=whole)] = 0,
    save: Annotated[bool, typer.Option("--save", help="Write the file also where a formula gives the set.")] = False,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", help="Write n against alpha as a picture; needs the extra `plot`.", readable=False),
    ] = None,
    time_limit: Annotated[
        float | None, typer.Option("--time-limit", help="Seconds for each d and alpha.", parser=number)
    ] = None,
    device: Device = "cpu",
    tile: Tile = None,
    store: StoreOption = None,
    json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print the numbers of lines alone.")] = False,
) -> None:
    """Search how many lines of a coherence fit into R^d.

    Starts from the catalogue, then probes with descents. Every probe is kept in the store: the same
    command goes on after the last one, and answers at once when all is done.
    """
    from protogen.report.progress import Display

    def say(line: str) -> None:
        if not quiet:
            tell(line)

    run = run_of(device, tile, time_limit=time_limit)
    run = replace(run, report=lambda at: display.step(at), measuring=lambda share: display.measuring(share))
    dimensions, alphas = values("d", d, int), values("alpha", alpha, _cosine)
    one = len(dimensions) * len(alphas) == 1
    if plot is not None:
        check_png(plot)
    records: list[dict[str, Any]] = []
    cells = sweep(dimensions, alphas, max_n=max_n, steps=steps, seed=seed, run=run, store=store, save=save, say=say)
    try:
        while len(records) < len(dimensions) * len(alphas):
            with Display(quiet) as display:
                records.append(next(cells).to_dict())
            if not json:
                print_result(
                    records[-1], partial(report.capacity_lines, head=len(records) == 1, probes=one), False, quiet, "n"
                )
    except KeyboardInterrupt:
        tell("interrupted: the same command goes on after the last finished probe")
        sys.exit(INTERRUPTED)
    if json:
        print_result({"cells": records}, lambda _: [], json)
    if plot is not None:
        save_capacity(records, plot)


def _cosine(text: str) -> float:
    """A number, or a quotient like 1/3 or 1/sqrt5. Raises ValueError."""
    quotient = re.fullmatch(r"(\d+)/(sqrt)?(\d+)", text)
    if quotient is None or int(quotient[3]) == 0:
        return float(text)
    below = int(quotient[3])
    return int(quotient[1]) / (math.sqrt(below) if quotient[2] else below)


@app.command()
def plan(
    d: Dimension,
    n: Number,
    ranks: Annotated[int, typer.Option("--ranks", help="Processes that share the classes.", parser=whole)] = 1,
    batch: Annotated[int, typer.Option("--batch", help="Features of each process in a step.", parser=whole)] = 128,
    sampled: Annotated[
        float, typer.Option("--sampled", help="Share of the classes that PartialFC samples.", parser=number)
    ] = PARTIAL,
    device: Device = "cpu",
    dtype: Annotated[
        str, typer.Option("--dtype", help="Of rows and features: float32, bfloat16 or float16.")
    ] = "float32",
    json: Json = False,
) -> None:
    """Say which set, head and temperature to begin with, and their cost.

    A step of the last layer is timed on this machine for a moment, on as many classes as that allows.
    """
    from protogen.advice import advise, step_seconds

    costs, advice = planned(d, n, ranks, batch, sampled, dtype), advise(d, n)
    seconds = step_seconds(advice, ranks, batch, device, dtype)
    print_result({**costs.to_dict(), "seconds": seconds, "advice": advice.to_dict()}, report.plan_lines, json)
