"""The lines that `protogen show` prints of facts."""

from protogen.files.facts import Facts, Jammed
from protogen.report.lines import fact_lines


def test_a_set_of_a_search_says_its_group_and_how_jammed_it_is() -> None:
    facts = Facts(group="cyclic(5); irreducible parts 0.0.1.1.2.2; 8 orbits", jammed=Jammed(1316, 1e-7, 3e-9))
    assert fact_lines(facts, "") == [
        "  group       cyclic(5); irreducible parts 0.0.1.1.2.2; 8 orbits",
        "  jammed      1,316 pairs within 1e-07 of the largest; "
        "no small moves lower it by more than 3e-09 of their length, to first order",
    ]
    assert fact_lines(Facts(), "") == []
