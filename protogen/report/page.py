"""One HTML page that stands alone: its style and pictures are in it, and it asks for nothing from outside."""

import html
from collections.abc import Mapping

from protogen.errors import printable
from protogen.measuring.charts import Chart

MARK = "<!doctype html><!-- protogen gallery -->"
HEIGHT = 40  # of a histogram, whose columns are one wide
# Nothing is loaded and nothing runs, whatever a name in the page looks like.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
STYLE = """
:root { color-scheme: light dark; --ground: #f6f7f9; --card: #fff; --ink: #1b2330; --soft: #5a6675; --line: #dde2e8;
  --fill: #3567b3; --bound: #c05a00; --pin: #e4efe0; --pin-ink: #22591a; --fault: #a31515; }
@media (prefers-color-scheme: dark) { :root { --ground: #12161c; --card: #1b2129; --ink: #e6eaf0; --soft: #9aa7b6;
  --line: #313a46; --fill: #6ea2ec; --bound: #ffa14a; --pin: #23402a; --pin-ink: #b6e3b4;
  --fault: #ff8f8f; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink); font: 16px/1.45 system-ui, sans-serif; }
main, .top { max-width: 84rem; margin: 0 auto; padding: 0 1.25rem; }
.top { padding-top: 1.5rem; }
h1 { margin: 0; font-size: 1.6rem; } h2 { margin: 2rem 0 .75rem; font-size: 1.15rem; }
h2 span { font-weight: 400; font-size: .9rem; color: var(--soft); margin-left: .5rem; }
p, h3, pre, dl, dd { margin: 0; }
.about, .beside, dt, footer { color: var(--soft); } .about, .path, dd { overflow-wrap: anywhere; }
.beside, dl, .axis, footer, .path { font-size: .85rem; }
nav { display: flex; flex-wrap: wrap; gap: .5rem; margin-top: 1rem; }
nav a { color: inherit; text-decoration: none; border: 1px solid var(--line); border-radius: 1rem;
  padding: .2rem .8rem; background: var(--card); }
nav a:hover, nav a:focus-visible { border-color: var(--fill); }
.top .beside { margin-top: .4rem; max-width: 50rem; }
.note { margin-top: 1rem; color: var(--bound); overflow-wrap: anywhere; }
.sets { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 22rem), 1fr)); gap: 1rem;
  align-items: start; }
article { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: 1rem; min-width: 0;
  display: grid; gap: .5rem; grid-template-columns: minmax(0, 1fr); }
article.faulty { border-color: var(--fault); } .fault { color: var(--fault); overflow-wrap: anywhere; }
header { display: flex; flex-wrap: wrap; gap: .4rem; align-items: baseline; }
h3 { font-size: 1.15rem; margin-right: auto; } h3 span { font-weight: 400; color: var(--soft); }
sup { line-height: 0; font-size: .65em; }
.pin { background: var(--pin); color: var(--pin-ink); border-radius: 1rem; padding: .05rem .6rem; font-size: .85rem;
  max-width: 100%; overflow-wrap: anywhere; }
.figure strong { font-size: 1.35rem; font-variant-numeric: tabular-nums; }
svg { display: block; width: 100%; } .bar { height: .5rem; } .chart { height: 5rem; }
.track { fill: var(--line); } .fill { fill: var(--fill); }
.mark { stroke: var(--bound); stroke-width: 1.5; vector-effect: non-scaling-stroke; stroke-dasharray: 4 3; }
figure { margin: .25rem 0 0; } .axis { display: flex; justify-content: space-between; color: var(--soft);
  border-top: 1px solid var(--line); }
dl { display: grid; grid-template-columns: auto minmax(0, 1fr); gap: .1rem .75rem; }
pre { background: var(--ground); border-radius: .4rem; padding: .6rem;
  white-space: pre-wrap; overflow-wrap: anywhere; font-size: .8rem; }
code { user-select: all; }
footer { padding: 2rem 0; }
"""


def text(said: str, keep: str = "") -> str:
    """Write words that come from anywhere as text of HTML; control characters as Python writes them, but for `keep`."""
    return html.escape("".join(each if each in keep else printable(each) for each in said))


def element(name: str, inside: str, cls: str | None = None, **attributes: str) -> str:
    """Write an element with what is inside it, which is HTML already, and its attributes, which are words."""
    given = {**({"class": cls} if cls else {}), **attributes}
    words = "".join(f' {key}="{text(value)}"' for key, value in given.items())
    return f"<{name}{words}>{inside}</{name}>"


def details(said: Mapping[str, str]) -> str:
    """Write words with what they stand for."""
    return element("dl", "".join(element("dt", text(key)) + element("dd", text(value)) for key, value in said.items()))


def bar(share: float, label: str) -> str:
    """Draw a share, 0 to 1, of a whole."""
    whole = '<rect class="track" width="100" height="1"/>'
    drawn = f'{whole}<rect class="fill" width="{100 * share:.2f}" height="1"/>'
    return _svg("bar", "0 0 100 1", label, drawn)


def histogram(chart: Chart) -> str:
    """Draw a histogram of angles with the bounds as dashed lines."""
    full, columns = max(chart.counts), len(chart.counts)
    bars = "".join(
        f"M{at} {HEIGHT}v-{max(1.0, HEIGHT * count / full):.1f}h1V{HEIGHT}z"  # what occurs at all is seen
        for at, count in enumerate(chart.counts)
        if count
    )
    marks = "".join(
        f'<path class="mark" d="M{chart.column(mark) + 0.5} 0V{HEIGHT}"/>'
        for bound in chart.bounds
        for mark in bound.marks_deg
    )
    ends = f"{chart.edge_deg(0):.1f}°", f"{sum(chart.counts):,} {chart.title}", f"{chart.edge_deg(columns):.1f}°"
    label = f"histogram of the angles of {ends[1]}, from {ends[0]} to {ends[2]}"
    drawn = _svg("chart", f"0 0 {columns} {HEIGHT}", label, f'<path class="fill" d="{bars}"/>{marks}')
    axis = element("div", "".join(element("span", text(end)) for end in ends), cls="axis")
    return element("figure", drawn + axis)


def _svg(cls: str, box: str, label: str, inside: str) -> str:
    shape = {"viewBox": box, "preserveAspectRatio": "none", "role": "img", "aria-label": label}
    return element("svg", inside, cls=cls, **shape)


def page(title: str, head: str, body: str) -> str:
    """Write a page of what stands at its top and what follows."""
    meta = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    policy = f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
    top = f"{meta}{policy}{element('title', text(title))}<style>{STYLE}</style>"
    foot = element("footer", text("Made by protogen from the headers of the files."))
    whole = element("div", head, cls="top") + element("main", body + foot)
    return f'{MARK}\n<html lang="en"><head>{top}</head><body>{whole}</body></html>\n'
