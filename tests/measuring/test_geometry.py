"""Angles of all pairs, against their definition."""

import itertools
import math

import pytest
import torch

from protogen.measuring.geometry import mean_angle_deg, random_rows


def test_the_mean_angle_is_that_of_every_pair() -> None:
    rows = random_rows(1, 7, 3, 0)
    angles = [math.acos(float(u.double() @ v.double())) for u, v in itertools.combinations(rows, 2)]
    assert mean_angle_deg(rows) == pytest.approx(math.degrees(sum(angles) / 21), abs=1e-4)


def test_the_mean_angle_does_not_tell_two_poles_from_an_orthoplex() -> None:
    """With each row its opposite, the angles of any row to both make 180 degrees: 90 n / (n - 1) in the mean."""
    poles = torch.eye(1, 5).repeat(10, 1)
    poles[::2] *= -1
    orthoplex = torch.cat([torch.eye(5), -torch.eye(5)])
    for rows in (poles, orthoplex):
        assert mean_angle_deg(rows) == pytest.approx(90 * 10 / 9, abs=1e-4)
    # The simplex, which is the best set of ten points there is, has less.
    simplex = torch.nn.functional.normalize(torch.eye(10) - 0.1, dim=1)
    assert mean_angle_deg(simplex) == pytest.approx(math.degrees(math.acos(-1 / 9)), abs=1e-4)
    assert mean_angle_deg(simplex) < 90 * 10 / 9 - 1
