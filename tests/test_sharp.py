"""Sharp and other sporadic sets: known distances, strongly regular graphs, and every optimal value of the literature."""

import hashlib
import math
import time

import pytest
import torch
from forms import check

from protogen.bounds import coherence_bound, max_cos_bound
from protogen.catalog import LINES, POINTS, ClosedForm, choose, label
from protogen.catalog.blowup import BlowUp
from protogen.catalog.family import merit
from protogen.catalog.leech import golay, leech
from protogen.catalog.quadric import QuadricPoints
from protogen.catalog.sharp import OCTAD, SharpLines, SharpPoints
from protogen.catalog.simplices import Simplices
from protogen.errors import BadRequest

PHI = (1 + math.sqrt(5)) / 2

# (d, n), the cosines, the largest first, and how many others a point has at each
POINT_SETS: dict[tuple[int, int], tuple[list[float], list[int]]] = {
    (4, 10): ([1 / 6, -2 / 3], [6, 3]),
    (4, 120): ([PHI / 2, 1 / 2, 1 / PHI / 2, 0, -1 / PHI / 2, -1 / 2, -PHI / 2, -1], [12, 20, 12, 30, 12, 20, 12, 1]),
    (5, 16): ([1 / 5, -3 / 5], [10, 5]),
    (5, 40): ([1 / 2, 0, -1 / 2, -1], [12, 14, 12, 1]),
    (6, 72): ([1 / 2, 0, -1 / 2, -1], [20, 30, 20, 1]),
    (7, 126): ([1 / 2, 0, -1 / 2, -1], [32, 60, 32, 1]),
    (8, 240): ([1 / 2, 0, -1 / 2, -1], [56, 126, 56, 1]),
    (16, 4320): ([1 / 2, 1 / 4, 0, -1 / 4, -1 / 2, -1], [280, 1024, 1710, 1024, 280, 1]),
    (21, 162): ([1 / 7, -2 / 7], [105, 56]),
    (21, 336): ([1 / 5, -1 / 5, -3 / 5], [170, 160, 5]),
    (22, 100): ([1 / 11, -4 / 11], [77, 22]),
    (22, 275): ([1 / 6, -1 / 4], [162, 112]),
    (22, 352): ([1 / 5, -1 / 5, -1], [175, 175, 1]),
    (22, 891): ([1 / 4, -1 / 8, -1 / 2], [336, 512, 42]),
    (22, 49896): ([1 / 2, 1 / 4, 0, -1 / 4, -1 / 2, -1], [1, 1, 1, 1, 1, 1]),
    (23, 552): ([1 / 5, -1 / 5, -1], [275, 275, 1]),
    (23, 4600): ([1 / 3, 0, -1 / 3, -1], [891, 2816, 891, 1]),
    (23, 93150): ([1 / 2, 1 / 4, 0, -1 / 4, -1 / 2, -1], [1, 1, 1, 1, 1, 1]),
    (24, 196560): ([1 / 2, 1 / 4, 0, -1 / 4, -1 / 2, -1], [4600, 47104, 93150, 47104, 4600, 1]),
}
ANTIPODAL = [size for size, (cosines, _) in POINT_SETS.items() if cosines[-1] == -1]


@pytest.mark.parametrize(("d", "n"), POINT_SETS)
def test_distances(d: int, n: int) -> None:
    rows = SharpPoints(d, n).rows(0, n)
    cosines, counts = POINT_SETS[d, n]
    some = rows[:: -(-n // 400)]
    t=time.time()
    gram = some @ rows.T
    found = torch.zeros_like(gram, dtype=torch.int8)
    for cosine, count in zip([1, *cosines], [1, *counts]):
        near = (gram - cosine).abs() < 1e-6
        print(d,n,cosine, near.sum(1).unique())
    print(time.time()-t)
