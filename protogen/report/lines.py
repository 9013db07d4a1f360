"""The same records in lines for people."""

import math
from collections.abc import Mapping
from typing import Any

from protogen.files.facts import Facts
from protogen.files.verify import GUARANTEES
from protogen.measuring.stats import AngleStats

from .record import Artifact, Beside, Compared


def artifact_lines(shown: Artifact) -> list[str]:
    """An artifact in lines: what it is, what was measured, how far from the bound, where it came from."""
    header, spec, made = shown.header, shown.header.spec, shown.header.provenance
    options = ", ".join(f"{name} {value}" for name, value in spec.params if value is not None)
    return [
        f"{spec.method}  d {spec.d}  n {spec.n}  seed {spec.seed}  {options}",
        f"  status      {made.status}, {made.steps} steps, {made.seconds:.1f} s on {made.device}, "
        f"{made.created}, {made.reproducible}",
        *fact_lines(header.facts, spec.inputs.get("source", "")),
        *stats_lines(header.stats, shown.bounds),
        *_class_lines(header.facts),
        f"  file        {shown.path}  {header.file_bytes / 1e6:,.1f} MB  digest {header.digest[:12]}",
    ]


def fact_lines(facts: Facts, source: str) -> list[str]:
    """What a formula guarantees, where a set comes from, how jammed it is, and what a polytope is."""
    lines = []
    for name, (words, _) in GUARANTEES.items():
        guaranteed = getattr(facts, name)
        if guaranteed is not None and facts.closed_form is not None:
            lines.append(f"  guaranteed  {words} {guaranteed:.6f} by {facts.closed_form}")
    if facts.outdone is not None:
        lines.append(f"  outdone     coherence {facts.guaranteed_coherence:.6f}, guaranteed by {facts.outdone}")
    if facts.group is not None:
        lines.append(f"  group       {facts.group}")
    if facts.jammed is not None:
        jammed = facts.jammed
        lines.append(
            f"  jammed      {jammed.active_pairs:,} pairs within {jammed.within:g} of the largest; "
            f"no small moves lower it by more than {jammed.slope:.1g} of their length, to first order"
        )
    if "kept_mean" in facts.more:
        kept, least, seen = (facts.more[name] for name in ("kept_mean", "kept_least", "classes_seen"))
        lines.append(f"  kept        of the codes: mean cosine {kept:.4f}, least {least:.4f}, of {seen:,} classes seen")
    if "imported_from" in facts.more:
        lines.append(f"  imported    from {facts.more['imported_from']}, sha256 {source[:12]}")
    if facts.phi is not None:
        code = f"; code: {facts.construction}" if facts.construction is not None else ""
        lines.append(f"  polytope    own d {facts.own_d}, phi {facts.phi_deg:.4f} deg{code}")
    return lines


def _class_lines(facts: Facts) -> list[str]:
    """What is known of the pairs within a class and of norms, where there are any."""
    lines = []
    if facts.within_class is not None:
        stats = facts.within_class
        high, low = stats.max_cos, stats.min_cos
        lines.append(
            f"  in a class  largest cos {high.value:.6f} at ({high.i}, {high.j}), smallest {low.value:.6f} "
            f"at ({low.i}, {low.j}), mean {stats.mean_cos:.6f} over {stats.pairs:,} pairs"
        )
    for norms, words in ((facts.center_norms, "centers"), (facts.subcenter_norms, "sub-centers")):
        if norms is not None:
            lines.append(f"  norms       {words} as drawn {norms.min:.4f} to {norms.max:.4f}, mean {norms.mean:.4f}")
    return lines


def stats_lines(stats: AngleStats | None, bounds: Compared) -> list[str]:
    """Statistics in lines, with the bounds beside them."""
    if stats is None:
        return ["  measured    nothing yet: run `protogen stats FILE`"]
    high, low, both = stats.max_cos, stats.min_cos, stats.coherence
    kind = "pairs" if stats.frame_potential is not None else "pairs of different classes"
    return [
        f"  coherence   {both.value:.6f} at ({both.i}, {both.j}) over all {stats.pairs:,} {kind}"
        f"{_beside(bounds.lines)}",
        f"  cosines     largest {high.value:.6f} at ({high.i}, {high.j})"
        f"{_beside(bounds.points)}, smallest {low.value:.6f} at ({low.i}, {low.j})",
        f"  angles      smallest {stats.min_angle_lines_deg:.4f} deg between lines, "
        f"{stats.min_angle_points_deg:.4f} deg between points; mean deviation from 90 deg "
        f"{stats.mean_deviation_deg:.4f}",
        f"  spread      mean cos {stats.mean_cos:.3e}, std {stats.std_cos:.6f}; nearest neighbour "
        f"{stats.mean_nearest_cos_lines:.6f} (lines), {stats.mean_nearest_cos_points:.6f} (points)",
        f"  potential   {_frame(stats)}uniformity_t2 {stats.uniformity_t2:.6f}",
        f"  twins       {stats.duplicate_pairs} duplicate, {stats.antipodal_pairs} antipodal pairs; "
        f"float32 leaves {stats.error_bound:.1e} open",
    ]


def _frame(stats: AngleStats) -> str:
    if stats.frame_potential is None:
        return ""
    return f"frame {stats.frame_potential:,.2f} of at least {stats.frame_potential_min:,.2f}; "


def _beside(bounds: Beside) -> str:
    best = bounds.lower[0]
    ratio = f"{bounds.ratio:.3f} times" if bounds.ratio is not None else f"{bounds.gap_deg:.4f} deg from"
    return f", {ratio} the lower bound {best.value:.6f} ({best.name})"


def bound_lines(bounds: list[dict[str, Any]]) -> list[str]:
    """Bounds in lines, the best first and marked."""
    return [
        f"{bound['value']:10.7f}  {math.degrees(math.acos(bound['value'])):8.4f} deg  {bound['name']:<16}"
        f"{bound['validity']:<46}{bound['source']}{'' if index else '  <- best'}"
        for index, bound in enumerate(bounds)
    ]


def listing_lines(listed: Mapping[str, Any]) -> list[str]:
    """A listing of closed forms in lines; `ratio` is guaranteed over the best lower bound."""
    bound, forms, descent = listed["bound"], listed["forms"], listed["descent"]
    signs = "signs" in listed
    head = (
        f"{'guaranteed':>10}{'ratio':>8}{'own d':>8}{'own n':>16}{'distance' if signs else 'tables':>10}  closed form"
    )
    lines = [head] if forms else []
    for form in forms:
        ratio = "-" if form["ratio"] is None else f"{form['ratio']:.3f}"
        tables = f"{form['held_bytes'] / 1e6:,.0f} MB" if form["held_bytes"] else "-"
        sizes = f"{form['own_d']:>8}{form['own_n']:>16,}{form['distance'] if signs else tables:>10}"
        lines.append(f"{form['guaranteed']:10.6f}{ratio:>8}{sizes}  {_shortened(form['closed_form'])}")
    if signs:
        way = f"protogen ebv --d {listed['d']} --n {listed['n']} --signs"
        none = f"no closed form has n={listed['n']} rows of signs in exactly d={listed['d']} coordinates"
        last = f"lower bound {bound['value']:.6f} ({bound['name']}); distance: the smallest of two rows, or of one and "
        return [*lines, f"{last}another's negative; make them with `{way}`" if forms else none]
    if not forms:
        lines.append(f"no closed form reaches n={listed['n']} in d={listed['d']}")
    method = "uniform" if listed["points"] else "ebv"
    way = f"protogen {method} --d {listed['d']} --n {listed['n']} --start random"
    outlook = "goes as low as it can" if descent is None else f"gets to about {descent:.6f}"
    return [*lines, f"lower bound {bound['value']:.6f} ({bound['name']}); a descent, `{way}`, {outlook}"]


def capacity_lines(cell: Mapping[str, Any], head: bool, probes: bool) -> list[str]:
    """The most lines found for one d and alpha as a row of a table, below its head, above its probes."""
    limit, tries = cell["limit"], cell["probes"]
    most, name = (f"{limit['n']:,}", limit["name"]) if limit else ("-", "none to 10^12")
    by = f"closed form {_shortened(cell['closed_form'])}" if cell["closed_form"] else "descent"
    effort = f", {len(tries)} probes, {cell['seconds']:.1f} s" if tries else ""
    lines = [f"{'d':>7}  {'alpha':<11}{'lines':>16}{'at most':>18}  {'bound':<16} outcome"] if head else []
    lines.append(
        f"{cell['d']:>7}  {cell['alpha']:<11.7g}{cell['n']:>16,}{most:>18}  {name:<16} {cell['end']}; by {by}{effort}"
    )
    if probes:
        lines += [
            f"  probe {index:>2}  n {probe['n']:>9,}  {probe['outcome']:<8}coherence {probe['coherence']:.6f}, "
            f"kept {probe['kept']:,}, {probe['steps']} steps, {probe['seconds']:.1f} s"
            for index, probe in enumerate(tries, 1)
        ]
    return [*lines, *([f"  file  {cell['path']}"] if probes and cell["path"] else [])]


def _shortened(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."


def entry_lines(rows: list[dict[str, Any]]) -> list[str]:
    """A store's listing in lines; `ratio` is the cosine that counts over its lower bound."""
    if not rows:
        return ["no artifacts"]
    head = f"{'method':<11}{'d':>6}{'n':>10}  {'version':<17}{'coherence':>10}{'ratio':>7}{'size':>12}  "
    lines = [f"{head}{'created':<26}status"]
    for row in rows:
        version = f"v{row['version']}-{row['key']}"
        start = f"{row['method']:<11}{row['d']:>6}{row['n']:>10}  {version:<17}"
        if "error" in row:
            lines.append(f"{start}{row['fault']}: {row['error']}")
            continue
        coherence = "-" if row["coherence"] is None else f"{row['coherence']:.6f}"
        ratio = "-" if row["ratio"] is None else f"{row['ratio']:.3f}"
        lines.append(
            f"{start}{coherence:>10}{ratio:>7}{megabytes(row['bytes']):>12}  {row['created']:<26}{row['status']}"
        )
    return lines


def megabytes(size: int) -> str:
    """Write a size in bytes as MB."""
    return f"{size / 1e6:,.2f} MB"
