"""A store as a page: what is on it, that it stands alone, and that nothing in a file speaks HTML to it."""

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from artifacts import MADE
from commands import Command, done, one_error
from draws import draw, unit_rows
from pages import Page

import protogen
from protogen.bounds import coherence_bound
from protogen.files.facts import Facts
from protogen.files.prototypes import Prototypes
from protogen.methods import METHODS
from protogen.nn import Head
from protogen.report.gallery import COSINE, HEADS, write_gallery
from protogen.report.page import MARK
from protogen.rows import InMemory
from protogen.spec import Spec
from protogen.store.store import Store

pytestmark = pytest.mark.usefixtures("store")
UNTRUSTED = "<script src='http://x.example/a.js'></script>\"'&amp;\x1b[2J<img src=x onerror=y>"


def page_of(**options: Any) -> Page:
    return Page.of(write_gallery(**options).path.read_text())


def kept(name: str, **options: Any) -> Prototypes:
    return protogen.ensure(name, **options)


def test_a_set_has_its_figures() -> None:
    made = kept("ebv", d=6, n=20, start="random", steps=20)
    assert made.stats
    page = page_of()
    (card,) = page.texts("article")
    bound = coherence_bound(6, 20)
    cosine = made.stats.coherence.value
    for said in (
        "20 in R6",
        f"{cosine:.6f} coherence",
        f"{cosine / bound.value:.3f} times the bound {bound.value:.6f} ({bound.name})",
        f"smallest angle {made.stats.min_angle_lines_deg:.2f}° of at most",
        "190 pairs",
        made.provenance.status,
        made.spec.key,
        str(made.path),
    ):
        assert said in card
    assert "1 sets, 0.01 MB, in store" in page.texts("p")[0]


def test_the_columns_of_a_histogram_stand_where_its_angles_are() -> None:
    kept("simplex", n=10)  # all 45 angles are acos(-1/9) = 96.38 degrees, and so is the bound
    paths = [each.attributes for each in page_of().named("path")]
    assert [each["d"] for each in paths] == ["M0 40v-40.0h1V40z", "M0.5 0V40"]
    assert [each["class"] for each in paths] == ["fill", "mark"]


def test_a_column_that_has_a_pair_is_seen() -> None:
    kept("ebv", d=6, n=40, start="random", steps=20)
    drawn = next(each.attributes["d"] for each in page_of().named("path"))
    columns = re.findall(r"M(\d+) 40v-([\d.]+)h1V40z", drawn)
    assert 20 < len(columns) == drawn.count("M") <= 120
    assert [int(at) for at, _ in columns] == sorted({int(at) for at, _ in columns})
    heights = [float(height) for _, height in columns]
    assert (max(heights), min(heights) >= 1) == (40, True)


@pytest.mark.parametrize("name", [name for name in METHODS if name != "import"])
def test_what_trains_on_a_set_is_a_line_that_runs(name: str) -> None:
    if name == "fit":
        made = protogen.fit(draw(30, 5).float(), draw(30).abs().argsort() % 6, d=4)
    else:
        made = kept(name, d={"cube": 6}.get(name, 8), n=9, **({"start": "closed-form"} if name == "ebv" else {}))
    (code,) = page_of().texts("code")
    names: dict[str, Any] = {}
    exec(code, names)
    head = names["head"]
    assert isinstance(head, Head)
    assert head(unit_rows(2, made.d)).shape == (2, made.n)


def test_each_method_has_its_head() -> None:
    assert HEADS.keys() == METHODS.keys()
    assert HEADS["import"] == COSINE


def test_pins_are_on_their_sets() -> None:
    first, other = kept("simplex", n=4), kept("simplex", n=5)
    assert first.path
    assert other.path
    protogen.pin("backbone", first.path)
    protogen.pin("second", first.path)
    protogen.pin("away", other.path)
    other.path.unlink()
    page = page_of()
    assert page.texts("span", "pin") == ["backbone", "second"]
    assert 'head = MarginHead(protogen.pinned("backbone"))' in page.texts("code")[0]
    assert page.texts("p", "note") == ["The lock asks for what is not here: away; `protogen sync` brings it."]
    # Of another store `protogen.pinned` knows nothing.
    os.rename("store", "other")
    page = page_of(store="other")
    assert page.texts("span", "pin") == ["backbone", "second"]
    assert 'MarginHead("other/simplex/' in page.texts("code")[0]


def test_what_is_not_measured_is_said() -> None:
    spec = Spec.of("ebv", 1, d=3, n=5, seed=0, params={})
    facts = Facts(closed_form="a form", guaranteed_coherence=0.75)
    for n, known in ((5, facts), (6, Facts())):
        rows = unit_rows(n, 3)
        Store(Path("store")).publish(Prototypes(replace(spec, n=n), InMemory(rows), None, MADE, facts=known))
    page = page_of()
    guaranteed, unknown = page.texts("article")
    assert "0.750000 coherence, guaranteed" in guaranteed
    assert "coherence not measured" in unknown
    assert not [each.attributes for each in page.named("figure")]


def test_sub_centers_have_two_histograms() -> None:
    kept("subcenters", d=8, n=6, per_class=3)
    axes = page_of().texts("div", "axis")
    assert ["135 pairs of different classes" in axes[0], "18 pairs within a class" in axes[1]] == [True, True]


def test_a_file_that_cannot_be_read_is_on_the_page(run: Command) -> None:
    made = kept("simplex", n=4)
    assert made.path
    os.truncate(made.path, 100)
    kept("simplex", n=5)
    assert done(run("gallery")).startswith("gallery.html: 2 sets, 1 of which cannot be read, 0.0")
    page = Page.of(Path("gallery.html").read_text())
    (faulty,) = page.texts("article", "faulty")
    assert "damaged: " in faulty
    assert str(made.path) in faulty


@pytest.fixture
def untrusted(tmp_path: Path) -> Path:
    """A store under an evil name with a file whose facts are evil."""
    root = tmp_path / "<b onclick='x'>\u202e&\udcff"
    rows = unit_rows(5, 3)
    evil = replace(MADE, status=UNTRUSTED, created=UNTRUSTED, device=UNTRUSTED)
    facts = Facts(closed_form=UNTRUSTED, guaranteed_coherence=0.75)
    spec = Spec.of("ebv", 1, d=3, n=5, seed=0, params={})
    Store(root).publish(Prototypes(spec, InMemory(rows), None, evil, facts=facts))
    return root


def test_nothing_in_a_file_or_a_name_is_html(untrusted: Path) -> None:
    page = page_of(store=untrusted)
    allowed = "html head meta title style body div h1 p nav a main section h2 span article header h3 sup svg rect path"
    assert {each.name for each in page.elements} <= {
        *allowed.split(),
        "figure",
        "dl",
        "dt",
        "dd",
        "pre",
        "code",
        "footer",
        "strong",
    }
    assert "<script src=" in page.texts("dd")[0]
    assert "\\x1b[2J" in page.texts("dd")[0]
    content = Path("gallery.html").read_text()
    assert "\x1b" not in content
    assert "\u202e" not in content
    names: dict[str, Any] = {}
    exec(page.texts("code")[0], names)  # the path comes through, whatever is in it
    assert names["head"].prototypes.n == 5


def test_the_page_asks_for_nothing_from_outside(untrusted: Path) -> None:
    kept("simplex", n=4)
    for page in (page_of(), page_of(store=untrusted)):
        links = [each["href"] for each in [each.attributes for each in page.named("a")]]
        assert links
        assert all(link.startswith("#") for link in links)
        assert {link[1:] for link in links} == {
            each["id"] for each in [each.attributes for each in page.named("section")]
        }
        found = {name for each in page.elements for name in each.attributes}
        assert not found & {"src", "srcset", "data", "action", "style", "background", "poster"}
        assert not {name for name in found if name.startswith("on")}
        (style,) = page.texts("style")
        assert "url(" not in style
        assert "@import" not in style
        (policy,) = [each for each in [each.attributes for each in page.named("meta")] if "http-equiv" in each]
        assert policy["content"].startswith("default-src 'none'; style-src 'unsafe-inline';")


def test_the_check_of_pages_sees_wrong_nesting() -> None:
    Page.of(f"{MARK}<html><p>a</p></html>")
    for wrong in ("<p><b></p></b>", "<p>", "</p>", "<div><p></div>"):
        with pytest.raises(AssertionError):
            Page.of(wrong)


def test_only_such_a_page_is_replaced(run: Command, tmp_path: Path) -> None:
    kept("simplex", n=4)
    assert done(run("gallery", "--out", "a.html", "--quiet")) == "a.html"
    before = Path("a.html").read_bytes()
    kept("simplex", n=5)
    assert run("gallery", "--out", "a.html", "--json").document == {
        "path": "a.html",
        "sets": 2,
        "faulty": 0,
        "bytes": len(Path("a.html").read_bytes()),
    }
    assert Path("a.html").read_bytes() != before
    Path("mine.html").write_text("<!doctype html><p>mine")
    one_error(run("gallery", "--out", "mine.html"), 2, "mine.html: is there, and no page of a gallery", "--out")
    assert Path("mine.html").read_text() == "<!doctype html><p>mine"
    one_error(run("gallery", "--out", "a.txt"), 2, "out is 'a.txt'; allowed is a file name that ends in .html")
    one_error(run("gallery", "--out", "none/a.html"), 4, "No such file or directory")
    Path("folder.html").mkdir()
    one_error(run("gallery", "--out", "folder.html"), 4, "folder.html", "--out")
    assert {each.name for each in tmp_path.iterdir()} == {"store", "a.html", "mine.html", "folder.html"}


def test_a_store_and_a_lock_that_are_named_are_there(run: Command) -> None:
    one_error(run("gallery"), 3, "store: no such store")
    Path("store").mkdir()
    assert "0 sets" in done(run("gallery"))
    assert "no artifacts" in Path("gallery.html").read_text()
    one_error(run("gallery", "--lock", "none.lock"), 3, "none.lock: no such lock")
    Path("protogen.lock").write_text("{}")
    one_error(run("gallery"), 5, "no lock that protogen wrote")
