"""Kerdock, Delsarte-Goethals and Z4-Kerdock sets, whole and without some coordinates."""

import math
from collections.abc import Callable, Iterator
from itertools import combinations

import pytest
import torch
from forms import check
from torch import Tensor

from protogen.catalog import ClosedForm, from_label, label
from protogen.catalog.algebra.fields import field
from protogen.catalog.algebra.quadratic import QuadraticBases, kerdock_exponents
from protogen.catalog.derived.punctured import Punctured
from protogen.catalog.direct.delsarte_goethals import DelsarteGoethals
from protogen.catalog.direct.kerdock import Kerdock
from protogen.catalog.direct.kerdock_off_flat import FLATS, KerdockOffFlat
from protogen.catalog.direct.z4_kerdock import Z4Kerdock
from protogen.errors import BadRequest

BASES: list[QuadraticBases] = [
    *map(Kerdock, (1, 2, 3)),
    *map(Z4Kerdock, (1, 2, 3, 4, 5)),
    DelsarteGoethals(3, 0),
    DelsarteGoethals(5, 0),
    DelsarteGoethals(4, 1),
]


def largest(form: ClosedForm, picked: list[int]) -> float:
    """The largest |cos| of these rows with all others."""
    rows = torch.cat([form.rows(index, index + 1) for index in picked])
    found = 0.0
    for start in range(0, form.own_n, 4096):
        stop = min(form.own_n, start + 4096)
        gram = (rows @ form.rows(start, stop).T).abs()
        for place, index in enumerate(picked):
            if start <= index < stop:
                gram[place, index - start] = 0
        found = max(found, gram.max().item())
    return found


def heads(form: ClosedForm, size: int) -> list[int]:
    """The first row of each basis: a row b of another and a row c have the inner product that b + c and 0 have."""
    return [*range(0, form.own_n, size)]


@pytest.mark.parametrize("form", BASES, ids=label)
def test_bases_keep_what_they_guarantee(form: QuadraticBases) -> None:
    check(form, tight=True)
    d = form.own_d
    bases = form.rows(0, form.own_n).double().view(-1, d, d)
    assert (bases @ bases.mT - torch.eye(d).double()).abs().max() < 1e-6
    assert len(bases) == form.flat + 1
    assert (bases[:-1].abs() - 1 / math.sqrt(d)).abs().max() < 1e-7
    assert torch.equal(bases[-1], torch.eye(d).double())


@pytest.mark.parametrize(
    ("form", "d", "n", "cosine"),
    [
        (Kerdock(3), 64, 2112, 1 / 8),
        (Kerdock(4), 256, 33024, 1 / 16),
        (Z4Kerdock(6), 128, 8320, 1 / 8),
        (DelsarteGoethals(5, 0), 32, 1056, 1 / 4),
        (DelsarteGoethals(7, 0), 128, 16512, 1 / 8),
        (DelsarteGoethals(5, 1), 32, 32800, 1 / 2),
        (DelsarteGoethals(6, 1), 64, 65600, 1 / 4),
    ],
)
def test_published_sizes(form: QuadraticBases, d: int, n: int, cosine: float) -> None:
    assert (form.own_d, form.own_n, form.cosine) == (d, n, cosine)
    assert abs(largest(form, heads(form, d)[-300:]) - cosine) < 1e-6


@pytest.mark.slow
def test_gold_of_512() -> None:
    form = DelsarteGoethals(9, 0)
    assert (form.own_d, form.own_n, form.cosine) == (512, 262656, 1 / 16)
    picked = torch.randint(form.own_n, (300,), generator=torch.Generator().manual_seed(0)).unique().tolist()
    assert abs(largest(form, picked) - 1 / 16) < 1e-6


@pytest.mark.parametrize(("k", "n"), [(5, 525312), (6, 4096 * 2049)])
def test_large_kerdock_sets(k: int, n: int) -> None:
    form = Kerdock(k)
    assert form.own_n == n
    rows = torch.cat([form.rows(start, start + 64) for start in (0, n // 3, n // 2, n - form.own_d - 64, n - 64)])
    gram = (rows @ rows.T).fill_diagonal_(0).abs()
    assert abs(gram.max() - form.cosine) < 1e-6


@pytest.mark.parametrize("m", [1, 2, 3, 4])
def test_z4_kerdock_is_as_defined(m: int) -> None:
    numbers = field(2**m)
    x = torch.arange(2**m)
    u = numbers.multiply(x[:, None], x)
    q = torch.zeros_like(u)
    for i, j in combinations(range(m), 2):
        q ^= numbers.power(u, 2**i + 2**j)
    turns = numbers.trace[u][:, None] + 2 * q[:, None] + 2 * numbers.trace[u]  # a, b, x
    form = Z4Kerdock(m)
    expected = set()
    for times in (0.5, 1.5):
        phase = (turns.double() + times) * (math.pi / 2)
        expected |= lines(torch.cat((phase.sin(), phase.cos()), 2).view(-1, form.own_d))
    assert lines(form.rows(0, form.flat * form.own_d)) == expected
    if m % 2:
        assert torch.equal(form.rows(0, form.own_n), Kerdock((m + 1) // 2).rows(0, form.own_n))


def lines(rows: Tensor) -> set[tuple[float, ...]]:
    """Rows of signs, each with the first coordinate positive."""
    return {tuple(row) for row in (rows.sign() * rows[:, :1].sign()).tolist()}


def test_the_first_of_a_delsarte_goethals_set_is_a_smaller_one() -> None:
    gold = DelsarteGoethals(5, 0)
    assert torch.equal(DelsarteGoethals(5, 1).rows(0, 1024), gold.rows(0, 1024))
    assert torch.equal(DelsarteGoethals(4, 1).rows(0, 128), Kerdock(2).rows(0, 128))
    numbers = field(32)  # tr(a x^3)
    cube = numbers.power(torch.arange(32), 3)
    bits = numbers.trace[numbers.multiply(torch.tensor([[7]]), cube)]
    assert torch.equal(gold.rows(7 * 32, 7 * 32 + 1).sign(), 1.0 - 2 * bits)


def test_rows_beyond_64_bits() -> None:
    form = DelsarteGoethals(13, 5)
    d, n = form.own_d, form.own_n
    assert n == 2**91 + 2**13
    rows = form.rows(n - d - 1, n - d + 2)
    assert (rows[0].abs() - 1 / math.sqrt(d)).abs().max() < 1e-8
    assert torch.equal(rows[1:], torch.eye(2, d))
    rows = torch.cat((rows[:1], form.rows(2**90 - 1, 2**90 + 2), form.rows(2**65 - 2, 2**65)))
    assert (rows @ rows.T).fill_diagonal_(0).abs().max() <= form.cosine
    assert len(lines(rows)) == 6


@pytest.mark.parametrize(("k", "r"), FLATS)
def test_alternating_forms_differ_on_the_flat(k: int, r: int) -> None:
    count = 2 ** (r * (r - 1) // 2)
    signs = kerdock_exponents(2 * k - 1, range(count))
    bits = [1 << bit for bit in FLATS[k, r]]
    assert len(bits) == r
    forms = torch.stack([signs[:, u ^ v] ^ signs[:, u] ^ signs[:, v] for u, v in combinations(bits, 2)], 1)
    assert len(forms.unique(dim=0)) == count == 2 ** forms.shape[1]


@pytest.mark.slow
def test_kerdock_off_flat_keeps_what_it_guarantees() -> None:
    check(KerdockOffFlat(3, 3), tight=True)
    form = KerdockOffFlat(5, 4)
    assert (form.own_d, form.own_n, form.cosine) == (1008, 65536, 40 / 1008)
    assert abs(largest(form, heads(form, 1024)) - 40 / 1008) < 1e-6
    for form, d, n, cosine in [
        (KerdockOffFlat(6, 4), 4080, 262144, 72 / 4080),
        (KerdockOffFlat(6, 5), 4064, 4194304, 80 / 4064),
    ]:
        assert (form.own_d, form.own_n, form.cosine) == (d, n, cosine)
        rows = torch.cat([form.rows(start, start + 8) for start in range(0, n, n // 32)])
        assert (rows @ rows.T).fill_diagonal_(0).abs().max() <= cosine + 1e-6


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "drop", "peak"),
    [
        (Kerdock(2), 1, 5),
        (Kerdock(2), 4, 6),
        (Kerdock(3), 3, 11),
        (Kerdock(3), 6, 14),
        (Kerdock(3), 8, 12),
        (Kerdock(3), 11, 15),
        (Kerdock(4), 16, 24),
        (DelsarteGoethals(5, 0), 2, 10),
        (DelsarteGoethals(5, 0), 8, 12),
        (DelsarteGoethals(7, 0), 16, 24),
        (DelsarteGoethals(4, 1), 3, 11),
        (Z4Kerdock(4), 8, 12),
    ],
)
def test_punctured_sets_attain_what_they_guarantee(form: QuadraticBases, drop: int, peak: int) -> None:
    size = form.own_d
    punctured = Punctured(form, drop)
    assert (punctured.own_d, punctured.own_n) == (size - drop, form.own_n - size)
    assert punctured.cosine == peak / (size - drop)
    if punctured.own_n <= 2048:
        check(punctured, tight=True)
    else:
        assert abs(largest(punctured, heads(punctured, size)) - punctured.cosine) < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("form", [Kerdock(2), Kerdock(3), DelsarteGoethals(5, 0), Z4Kerdock(2)], ids=label)
def test_no_punctured_set_exceeds_its_guarantee(form: QuadraticBases) -> None:
    kept = 0
    for drop in range(1, form.own_d):
        try:
            punctured = Punctured(form, drop)
        except BadRequest:
            continue
        kept += 1
        assert largest(punctured, heads(punctured, form.own_d)) <= punctured.cosine + 1e-6
        assert punctured.cosine < 1
    assert kept >= 1


Size = tuple[float, int, int, int]  # coherence, d, n, and the size before puncturing


def kerdock_sizes() -> Iterator[Size]:
    yield from ((1 / math.sqrt(d), d, d * (d // 2 + 1), 0) for d in (4, 16, 64, 256, 1024, 4096))


def z4_kerdock_sizes() -> Iterator[Size]:
    for m in range(1, 13):
        d = 2 ** (m + 1)
        yield (1 / math.sqrt(d) if m % 2 else math.sqrt(2 / d)), d, d * (d // 2 + 1), 0


def delsarte_goethals_sizes() -> Iterator[Size]:
    for m in range(3, 14):
        d = 2**m
        if m % 2:
            yield from ((2**t * math.sqrt(2 / d), d, d * d ** (1 + t) + d, 0) for t in range((m - 3) // 2 + 1))
        else:
            yield from ((2**t / math.sqrt(d), d, d * (d // 2) ** (t + 1) + d, 0) for t in range(1, (m - 2) // 2 + 1))


def kerdock_off_flat_sizes() -> Iterator[Size]:
    yield from [(12 / 56, 56, 512, 0), (40 / 1008, 1008, 65536, 0)]
    yield from [(72 / 4080, 4080, 262144, 0), (80 / 4064, 4064, 4194304, 0)]


def punctured_sizes() -> Iterator[Size]:
    for sizes in (kerdock_sizes, delsarte_goethals_sizes):
        for cosine, size, n, _ in sizes():
            whole = round(cosine * size)
            for drop in range(1, size // 2 + 1 if size <= 1024 else 1):
                peak = drop + whole // (1 if drop < whole else 2)
                if peak < size - drop:
                    yield peak / (size - drop), size - drop, n - size, size


@pytest.mark.parametrize(
    ("family", "sizes"),
    [
        (Kerdock, kerdock_sizes),
        (Z4Kerdock, z4_kerdock_sizes),
        (DelsarteGoethals, delsarte_goethals_sizes),
        (KerdockOffFlat, kerdock_off_flat_sizes),
        (Punctured, punctured_sizes),
    ],
)
def test_reach_finds_the_best_member(family: type[ClosedForm], sizes: Callable[[], Iterator[Size]]) -> None:
    members = list(sizes())
    reached = 0
    for d in (*range(1, 70, 3), 13, 15, 30, 60, 256, 480, 496, 500, 503, 512, 1000, 1008, 1020, 1024):
        for n in (2, 12, 13, 72, 73, 500, 2112, 2113, 30000, 10**5, 525312, 10**7, 10**8):
            # Puncturing takes a set of at most twice the dimension.
            enough = [m for m in members if m[1] <= d and m[2] >= n and m[3] <= 2 * d]
            form = family.reach(d, n)
            if not enough:
                assert form is None, (d, n)
                continue
            assert form is not None, (d, n)
            assert form.own_d <= d
            assert form.own_n >= n
            cosine = min(m[0] for m in enough)
            assert form.cosine == pytest.approx(cosine, abs=1e-12), (d, n)
            assert form.own_d == min(m[1] for m in enough if abs(m[0] - cosine) < 1e-12), (d, n)
            reached += 1
    assert reached > 10


def test_sized_yields_all_members() -> None:
    assert list(Kerdock.sized(4, 64)) == [Kerdock(1), Kerdock(2), Kerdock(3)]
    assert list(Kerdock.sized(5, 63)) == [Kerdock(2)]
    assert list(Z4Kerdock.sized(3, 16)) == [Z4Kerdock(1), Z4Kerdock(2), Z4Kerdock(3)]
    assert list(DelsarteGoethals.sized(9, 64)) == [
        DelsarteGoethals(m, t) for m, t in [(4, 1), (5, 0), (5, 1), (6, 1), (6, 2)]
    ]


@pytest.mark.parametrize(
    "text",
    [
        "kerdock(k=0)",
        "z4-kerdock(m=0)",
        "delsarte-goethals(m=1,t=0)",
        "delsarte-goethals(m=2,t=0)",
        "delsarte-goethals(m=4,t=0)",  # Kerdock's
        "delsarte-goethals(m=5,t=2)",
        "delsarte-goethals(m=6,t=3)",
        "delsarte-goethals(m=7,t=-1)",
        "kerdock-off-flat(k=5,r=3)",
        "punctured(form=kerdock(k=3),drop=0)",
        "punctured(form=kerdock(k=3),drop=30)",
        "punctured(form=kerdock(k=3),drop=64)",
        "punctured(form=kerdock(k=1),drop=1)",
        "punctured(form=orthonormal(k=3),drop=1)",
        "punctured(form=3,drop=1)",
        "punctured(form=kerdock(k=3),drop=kerdock(k=3))",
    ],
)
def test_no_member_has_other_parameters(text: str) -> None:
    with pytest.raises(BadRequest) as caught:
        from_label(text)
    assert "\n" not in str(caught.value)


def test_labels_are_golden() -> None:
    assert label(Punctured(Kerdock(5), 4)) == "punctured(form=kerdock(k=5),drop=4)"
    assert from_label("punctured(form=delsarte-goethals(m=9,t=0),drop=12)") == Punctured(DelsarteGoethals(9, 0), 12)
