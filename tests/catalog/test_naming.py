"""Labels from outside: read in linear time or refused in one line, whatever they say."""

import random
import string
from contextlib import suppress

import pytest

from protogen.catalog import FAMILIES, build, from_label, label
from protogen.errors import BadRequest

LABELS = [
    "kerdock(k=3)",
    "net(levels=[13.13.5;4.3.4;1.1.4],order=16)",
    "cyclic(v=6,blocks=[0.1;0.2;0.3;0;0],order=8)",
    "antipodes(form=projection(form=paley(q=101)))",
    "simplex-labels(form=kerdock(k=3),count=7)",
    "blow-up(form=space(k=2,q=2,infinity=1,order=4),size=28,n=28)",
    "punctured(form=delsarte-goethals(m=9,t=0),drop=12)",
    "phases(p=251,degree=3)",
    "triples(v=7,simplex=0)",
    "design(v=91,k=7,order=16)",
    "space(k=3,q=3,infinity=1,order=12)",
]
HUGE = 10**12
HOSTILE = [
    "kerdock(k=1000000007)",
    f"kerdock(k={HUGE})",
    f"z4-kerdock(m={HUGE})",
    f"delsarte-goethals(m={HUGE - 1},t=0)",
    f"bent(m={HUGE},value=0)",
    f"ternary-mub(m={HUGE - 1})",
    "mub(p=999999999989)",
    f"mub(p={HUGE})",
    "phases(p=999999999989,degree=999999)",
    f"space(k={HUGE},q=2,infinity=0,order=2)",
    "space(k=20,q=999999999989,infinity=1,order=4)",
    f"design(v={HUGE - 1},k=7,order=4)",
    f"design(v={HUGE},k={HUGE - 1},order=4)",
    f"triples(v={HUGE - 1},simplex=1)",
    "unitary(q=999999999989)",
    "quadric-points(q=999999999989)",
    f"simplices(n=5,k={HUGE})",
    "simplices(n=5,k=-3)",
    f"net(levels=[{HUGE}.1.1],order=2)",
    f"net(levels=[999999999989.3.3;1.1.{HUGE}],order=4)",
    f"net(levels=[{';'.join(['1.1000000.1'] * 700)}],order=4)",
    f"cyclic(v={HUGE},blocks=[{'.'.join(map(str, range(0, 4000)))[:9000]}],order=4)",
    f"cyclic(v={HUGE},blocks=[{'.'.join(map(str, range(511)))}],order=512)",
    "(" * 5000,
    "antipodes(form=" * 500,
    "antipodes(form=" * 600 + "mub(p=5)" + ")" * 600,
    "antipodes(form=" * 30 + "mub(p=5)" + ")" * 30,
    "kerdock(k=" + "9" * 5000 + ")",
    "kerdock(k=3)" * 10_000,
    "net(levels=[" + "1" * 9000,
    "net(levels=[" + "1." * 4000,
    "",
    "\x00",
    "kerdock(k=3\n)",
    "kerdock(k=kerdock(k=3))",
    "labels(form=5,count=2,cut=0)",
    "net(levels=5,order=4)",
    "net(levels=mub(p=5),order=4)",
    "cyclic(v=7,blocks=5,order=4)",
    "mub(p=[5])",
    "antipodes(form=simplices(n=4,k=1))",
    "cyclic(v=7,blocks=[],order=4)",
]


@pytest.mark.parametrize("text", LABELS)
def test_labels_are_read_back(text: str) -> None:
    assert label(from_label(text)) == text


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: text[:40])
def test_hostile_labels_are_refused_in_one_line(text: str) -> None:
    with pytest.raises(BadRequest) as caught:
        from_label(text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 20_000


def mutated(text: str, drawn: random.Random) -> str:
    for _ in range(drawn.randint(1, 4)):
        place = drawn.randint(0, len(text))
        match drawn.randrange(6):
            case 0:
                text = text[:place] + text[place + drawn.randint(1, 5) :]
            case 1:
                text = text[:place] + drawn.choice(string.printable) + text[place:]
            case 2:
                text = text[:place] + str(drawn.choice((0, 1, 2, 4, 7, 10**6, 10**12, 10**13))) + text[place:]
            case 3:
                text = text[:place] + text[drawn.randint(0, len(text)) :]
            case 4:
                text = text[:place] + drawn.choice(LABELS) + text[place:]
            case 5:
                text = text[:place] + drawn.choice("()[],;.=") * drawn.randint(1, 2000) + text[place:]
    return text


def test_mutated_labels_are_read_or_refused() -> None:
    drawn, taken = random.Random(0), 0
    for _ in range(1000):
        text = mutated(drawn.choice(LABELS), drawn)
        with suppress(BadRequest):
            form = from_label(text)
            taken += 1
            assert label(form) == text
            assert 1 <= form.own_d <= HUGE
    assert 0 < taken < 200


def test_the_deepest_label_that_is_made_is_read() -> None:
    assert len(FAMILIES) > 20
    text = "antipodes(form=projection(form=space(k=2,q=7,infinity=0,order=8)))"
    assert label(from_label(text)) == text


def test_no_more_rows_are_built_than_a_set_has() -> None:
    with pytest.raises(BadRequest, match="has 36 vectors in 6 dimensions"):
        build("sharp-lines(d=6,n=36)", 900, 6)
    with pytest.raises(BadRequest, match="has 36 vectors in 6 dimensions"):
        build("sharp-lines(d=6,n=36)", 20, 5)
