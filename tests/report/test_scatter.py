"""Scatter plots of features: every feature is in the picture, at its place."""

from pathlib import Path

import numpy as np
import pytest
import torch
from commands import Command, one_error
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imread

from protogen.errors import BadRequest, DiskError
from protogen.report import scatter
from protogen.report.scatter import MOST_COORDINATES, save_scatter


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are written, which are written all the same."""
    figures: list[Figure] = []
    real = scatter.write_figure

    def write(figure: Figure, path: Path) -> None:
        figures.append(figure)
        real(figure, path)

    monkeypatch.setattr(scatter, "write_figure", write)
    return figures


def points(axes: Axes) -> np.ndarray:
    (collection,) = axes.collections
    return np.asarray(collection.get_offsets())


@pytest.mark.parametrize("d", [2, 3])
def test_every_feature_is_drawn_at_its_place(d: int, drawn: list[Figure], tmp_path: Path) -> None:
    heads = {
        name: (3 * torch.randn(20, d, generator=torch.Generator().manual_seed(seed)), torch.arange(20) % 4)
        for seed, name in enumerate(("learned", "simplex-margin"))
    }
    save_scatter(heads, tmp_path / "a.png")
    height, width, _ = imread(tmp_path / "a.png").shape
    assert width == height > 0
    (figure,) = drawn
    parts = figure.subfigs  # the first line of the heads, then the second
    titles = ["learned", "simplex-margin", "learned, of length one", "simplex-margin, of length one"]
    assert [part._suptitle.get_text() for part in parts] == titles
    for index, part in enumerate(parts):
        features, labels = list(heads.values())[index % 2]
        features = features / torch.linalg.vector_norm(features, dim=1, keepdim=True) if index >= 2 else features
        pairs = [(0, 1)] if d == 2 else [(x, y) for y in range(d) for x in range(d)]
        assert len(part.axes) == len(pairs)
        for axes, (x, y) in zip(part.axes, pairs, strict=True):
            np.testing.assert_allclose(points(axes), features[:, [x, y]].numpy(), rtol=1e-5, atol=1e-6)
            assert axes.collections[0].get_array().tolist() == labels.tolist()


def test_of_many_features_the_first_are_drawn(
    drawn: list[Figure], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(scatter, "MOST_POINTS", 7)
    features = torch.randn(10, 2, generator=torch.Generator().manual_seed(0))
    save_scatter({"learned": (features, torch.arange(10))}, tmp_path / "a.png")
    np.testing.assert_allclose(points(drawn[0].subfigs[0].axes[0]), features[:7].numpy(), rtol=1e-6)


def test_the_command_draws_the_test_set(run: Command, drawn: list[Figure]) -> None:
    words = ("demo", "--task", "digits", "--d", 2, "--epochs", 1, "--seeds", 1, "--heads", "multicenter")
    ran = run(*words, "--scatter", "a.png", "--json")
    assert ran.code == 0
    assert imread("a.png").ndim == 3
    (figure,) = drawn
    assert [part._suptitle.get_text() for part in figure.subfigs][:2] == ["learned", "multicenter"]
    for part in figure.subfigs:
        assert len(points(part.axes[0])) == 898  # half of the 1,797 digits, and no more
    ones = points(figure.subfigs[3].axes[0])
    np.testing.assert_allclose(np.linalg.norm(ones, axis=1), 1, atol=1e-5)


def test_what_cannot_be_drawn_is_one_line(run: Command, tmp_path: Path) -> None:
    wide = {"learned": (torch.zeros(3, MOST_COORDINATES + 1), torch.arange(3))}
    for found in (wide, {}):
        with pytest.raises(BadRequest, match="allowed for scatter plots is 2 to 12"):
            save_scatter(found, tmp_path / "a.png")
    with pytest.raises(DiskError, match="No such file or directory"):
        save_scatter(wide, tmp_path / "none" / "a.png")
    digits = ("demo", "--task", "digits", "--scatter")
    one_error(run(*digits, "a.png", "--d", 16), 2, "d is 16 with --scatter; allowed is 2 to 12")
    one_error(run(*digits, "a.pdf", "--d", 2), 2, "allowed is a file name that ends in .png")
    one_error(run(*digits, "none/a.png", "--d", 2), 4, "none/a.png: No such file or directory")
