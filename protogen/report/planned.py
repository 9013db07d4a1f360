"""What several ranks cost, in lines."""

from typing import Any

UNITS = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def plan_lines(document: dict[str, Any]) -> list[str]:
    """The costs of a plan, one a line: products of a step, memory and traffic of each rank."""
    ranks, batch = document["ranks"], document["batch"]
    lines = [
        f"d {document['d']}  n {document['n']:,}  {ranks} ranks of {batch} features each: of one rank, in a step",
        f"  {'':<38}{'products':>10}{'held':>11}{'beside':>11}{'sent':>11}",
    ]
    for cost in (*document["costs"], document["descent"]):
        held, step, sent = (f"{_short(cost[name])}B" for name in ("held_bytes", "step_bytes", "sent_bytes"))
        lines.append(f"  {cost['name']:<38}{_short(cost['multiplications']):>10}{held:>11}{step:>11}{sent:>11}")
    return lines


def _short(value: float) -> str:
    for unit, letter in UNITS:
        if value >= unit:
            return f"{value / unit:,.1f} {letter}"
    return f"{value:,} "
