"""What to begin with and what it costs, in lines."""

from typing import Any

UNITS = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def plan_lines(document: dict[str, Any]) -> list[str]:
    """The advice for a size, the costs of a step of each rank, one a line, and the lines of Python."""
    ranks, batch, seconds = document["ranks"], document["batch"], document["seconds"]
    advice = document["advice"]
    lines = [
        *_advice_lines(advice),
        f"  a step      on {ranks} ranks of {batch} features each, of one rank; timed here",
        f"  {'':<38}{'products':>10}{'time':>10}{'held':>11}{'beside':>11}{'sent':>11}",
    ]
    for cost in (*document["costs"], document["descent"], document["ring"]):
        held, step, sent = (f"{_short(cost[name])}B" for name in ("held_bytes", "step_bytes", "sent_bytes"))
        products, taken = _short(cost["multiplications"]), _seconds(seconds.get(cost["kind"]))
        lines.append(f"  {cost['name']:<38}{products:>10}{taken:>10}{held:>11}{step:>11}{sent:>11}")
    return [*lines, "  to paste", *(f"    {line}".rstrip() for line in advice["python"])]


def _advice_lines(advice: dict[str, Any]) -> list[str]:
    spec = advice["spec"]
    ratio = "" if advice["ratio"] is None else f", {advice['ratio']:.3f} times"
    word = "guaranteed by" if advice["certain"] else "about, by"
    beside = "samples say which: protogen fit, or place()" if advice["fits"] else "random places do"
    return [
        f"d {spec['d']}  n {spec['n']:,}",
        f"  set         protogen ebv --d {spec['d']} --n {spec['n']}: {advice['start']}, a file of "
        f"{_short(advice['file_bytes'])}B",
        f"  coherence   {advice['coherence']:.6f} {word} {advice['form'] or 'descent'}{ratio} the lower bound "
        f"{advice['bound']:.6f} ({advice['bound_name']})",
        f"  places      at random they need about {advice['hidden']:,} units before the features: {beside}",
        f"  temperature {advice['temperature']:.3g}, to learn from there: loss {advice['loss']:.2f} at random "
        f"features, {advice['least_loss']:.3f} at perfect ones",
    ]


def _seconds(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value * 1e3:,.1f} ms" if value < 1 else f"{value:,.1f} s"


def _short(value: float) -> str:
    for unit, letter in UNITS:
        if value >= unit:
            return f"{value / unit:,.1f} {letter}"
    return f"{value:,.0f} "
