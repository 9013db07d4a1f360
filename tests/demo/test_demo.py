"""The demo: its data, its heads, what a row says, and that a run goes on where it was cut off."""

import gzip
import json
import math
import shutil
import struct
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import Command, one_error
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from torch.nn import functional as F

import protogen
from protogen.catalog import LINES, Padded, choose
from protogen.cli.demo import USUAL
from protogen.demo import glyphs, tasks, training
from protogen.demo.contestant import Contestant
from protogen.demo.contestants import HEADS, build, spec_of
from protogen.demo.data import Task
from protogen.demo.fashion import FILES
from protogen.demo.results import RowFile, compare, half_interval, plan, table_lines, warnings_of
from protogen.demo.tasks import load_task
from protogen.demo.trained import TrainedMargin, TrainedSubcenters, likeliest
from protogen.demo.training import Row, Trial, network, train
from protogen.errors import BadRequest, DiskError, IntegrityError, NotFound
from protogen.nn import margin_logits, random_signs, subcenter_loss
from protogen.rows import InMemory

pytestmark = pytest.mark.slow

TRIAL = Trial("digits", 10, "0" * 12, 1.0, "learned", None, 4, 0, 2)


def row(head: str = "learned", seed: int = 0, accuracy: float = 90.0, d: int = 4) -> Row:
    trial = replace(TRIAL, head=head, seed=seed, d=d)
    return Row(trial, accuracy, 30.0, 60.0, 1000, 50, 800, 1.5, 1, (2.0, 1.0))


def quiet(step: int, steps: int, loss: float) -> None:
    """Report nothing."""


# --- the data


def idx(values: np.ndarray) -> bytes:
    """An IDX file of bytes, after its description by LeCun."""
    return struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape) + values.tobytes()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with 40 training and 20 test images."""
    generator = np.random.default_rng(0)
    for count, (images, labels) in zip((40, 20), FILES.values(), strict=True):
        pixels = generator.integers(0, 256, (count, 28, 28), np.uint8)
        (tmp_path / images).write_bytes(gzip.compress(idx(pixels)))
        (tmp_path / labels).write_bytes(gzip.compress(idx(np.arange(count, dtype=np.uint8) % 10)))
    return tmp_path


def test_fashion_reads_what_was_written(folder: Path) -> None:
    task = load_task("fashion", data=folder)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 28, 28), np.uint8)
    held = torch.arange(40) % 12 == 11
    assert torch.equal(task.images, torch.from_numpy(pixels)[~held])
    assert torch.equal(task.validation_images, torch.from_numpy(pixels)[held])
    assert task.labels.tolist() == (torch.arange(40) % 10)[~held].tolist()
    assert task.validation_labels.tolist() == [1, 3, 5]
    assert (len(task.test_images), task.classes) == (20, 10)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no gzip",
        gzip.compress(b""),
        gzip.compress(idx(np.zeros((40, 28, 28), np.uint8)))[:-20],
        gzip.compress(idx(np.zeros((40, 28, 28), np.uint8))[:-1]),
        gzip.compress(idx(np.zeros((40, 28, 28), np.uint8)) + b"\0"),
        gzip.compress(b"\0\0\x0d" + idx(np.zeros((40, 28, 28), np.uint8))[3:]),
        gzip.compress(idx(np.zeros((39, 28, 28), np.uint8))),
    ],
    ids=["empty", "no gzip", "no values", "cut gzip", "cut values", "more values", "floats", "other number"],
)
def test_a_damaged_idx_file_is_refused(folder: Path, content: bytes) -> None:
    (folder / FILES["train"][0]).write_bytes(content)
    with pytest.raises(IntegrityError, match="get it anew"):
        load_task("fashion", data=folder)


def test_fashion_is_found_among_the_systems_data(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = folder / "share" / "datasets" / "fashion-mnist"
    place.mkdir(parents=True)
    for names in FILES.values():
        for name in names:
            (folder / name).rename(place / name)
    monkeypatch.setenv("XDG_DATA_HOME", str(folder / "nowhere"))
    monkeypatch.setenv("XDG_DATA_DIRS", f"{folder / 'none'}:{folder / 'share'}")
    assert len(load_task("fashion").images) == 37
    (place / FILES["test"][1]).unlink()
    with pytest.raises(NotFound, match="install the Debian package dataset-fashion-mnist"):
        load_task("fashion")


def test_long_tail_falls_exponentially() -> None:
    labels = torch.arange(10).repeat_interleave(500)
    images = torch.arange(5000, dtype=torch.uint8).reshape(5000, 1, 1)
    task = Task("digits", 10, images, labels, images, labels, images, labels, 1)
    kept = task.long_tailed(100)
    # 500 * 100^(-i/9), cut: 500, 299.7, 179.6, 107.7, 64.6, 38.7, 23.2, 13.9, 8.3, 5
    assert kept.labels.bincount().tolist() == [500, 299, 179, 107, 64, 38, 23, 13, 8, 5]
    assert torch.equal(kept.images[:500], images[:500])
    assert torch.equal(kept.test_images, task.test_images)
    assert task.long_tailed(1) is task
    assert min(task.long_tailed(1e6).labels.bincount().tolist()) == 1


def font(path: Path, family: str, characters: str, width: int) -> None:
    """Write a font in which a character is a block whose place and size tell it from others."""
    names = [".notdef", *(f"u{ord(c):04X}" for c in characters)]
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({ord(c): name for c, name in zip(characters, names[1:], strict=True)})
    drawn = {}
    for name in names:
        pen, high = TTGlyphPen(None), 900 if name == ".notdef" else 100 + int(name[1:], 16) % 7 * 100
        for index, point in enumerate([(0, 0), (0, high), (width, high), (width, 0)]):
            (pen.lineTo if index else pen.moveTo)(point)
        pen.closePath()
        drawn[name] = pen.glyph()
    builder.setupGlyf(drawn)
    builder.setupHorizontalMetrics(dict.fromkeys(names, (1000, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": family, "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)


CHARACTERS = "".join(map(chr, range(0x4E00, 0x4E05)))


@pytest.fixture(scope="module")
def fonts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """13 faces with five characters, one of them without the last; two held out; one without Chinese; no font."""
    folder = tmp_path_factory.mktemp("fonts")
    for index in range(13):
        font(folder / f"face{index:02}.ttf", f"Face {index}", CHARACTERS[: 5 if index else 4], 200 + 40 * index)
    font(folder / "zenhei.ttf", glyphs.TEST_FAMILY, CHARACTERS, 500)
    font(folder / "microhei.ttf", glyphs.VALIDATION_FAMILY, CHARACTERS, 600)
    font(folder / "latin.ttf", "Latin", "abc", 500)
    (folder / "broken.otf").write_bytes(b"no font")
    return folder


@pytest.fixture
def few_code_points(monkeypatch: pytest.MonkeyPatch) -> None:
    """Go through 64 of the 20,902, which takes seconds less."""
    monkeypatch.setattr(glyphs, "IDEOGRAPHS", range(0x4E00, 0x4E40))


def test_glyphs_train_on_every_face_but_two(fonts: Path) -> None:
    task = load_task("glyphs", 5, fonts)
    assert task.labels.bincount().sort().values.tolist() == [12, 13, 13, 13, 13]
    assert task.images.shape == (64, glyphs.SIZE, glyphs.SIZE)
    assert task.test_labels.tolist() == [0, 1, 2, 3, 4]
    assert task.validation_labels.tolist() == [0, 1, 2, 3, 4]
    assert len(task.test_images.unique(dim=0)) == 5
    # 500 and 600 of the em's 1000 units, so 14.5 and 17.4 of its 29 pixels, in the middle.
    for images, width in ((task.test_images, 14.5), (task.validation_images, 17.4)):
        assert (((images.amax(1) > 0).sum(1) - width).abs() <= 1).all()
    middle = (task.test_images.float().sum(1) * torch.arange(32.0)).sum(1) / task.test_images.float().sum((1, 2))
    assert (middle - 15.5).abs().max() <= 1


@pytest.mark.usefixtures("few_code_points")
def test_a_face_that_lies_there_twice_counts_once(fonts: Path, tmp_path: Path) -> None:
    shutil.copytree(fonts, tmp_path / "twice")
    shutil.copy(fonts / "face01.ttf", tmp_path / "twice" / "copy.ttf")
    once, twice = load_task("glyphs", 5, fonts), load_task("glyphs", 5, tmp_path / "twice")
    assert len(twice.images) == len(once.images) == 64
    (tmp_path / "twice" / "face02.ttf").unlink()
    (tmp_path / "twice" / "face03.ttf").unlink()
    with pytest.raises(NotFound, match="5 classes need as many characters in 12 typefaces"):  # 12 with the copy
        load_task("glyphs", 5, tmp_path / "twice")


@pytest.mark.usefixtures("few_code_points")
def test_fewer_classes_are_among_those_of_more(fonts: Path) -> None:
    few, all_ = load_task("glyphs", 3, fonts), load_task("glyphs", 5, fonts)
    assert torch.equal(few.test_images, all_.test_images[:3])
    assert few.digest != all_.digest
    assert few.digest == load_task("glyphs", 3, fonts).digest


@pytest.mark.usefixtures("few_code_points")
def test_glyphs_say_what_is_missing(fonts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotFound, match="6 classes need as many characters in 12 typefaces and the two held out, 5 are"):
        load_task("glyphs", 6, fonts)
    with pytest.raises(NotFound, match="0 others and lacking are WenQuanYi Zen Hei, WenQuanYi Micro Hei; install the"):
        load_task("glyphs", 5, tmp_path)
    with pytest.raises(BadRequest, match="classes is 20001; allowed is 2 to 20000"):
        load_task("glyphs", 20_001, fonts)
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(NotFound, match="glyphs need Pillow"):
        load_task("glyphs", 5, fonts)


def test_digits_need_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(NotFound, match="digits need scikit-learn"):
        load_task("digits")


# --- the heads


def test_trained_subcenters_have_the_loss_of_fixed_ones() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(5, 3, 4, generator=generator)
    z, y = torch.randn(7, 4, generator=generator), torch.tensor([0, 1, 2, 3, 4, 0, 1])
    head = TrainedSubcenters(rows, beta=0.01)
    ours, fixed = z.clone().requires_grad_(), z.clone().requires_grad_()
    loss, reference = head.loss(ours, y), subcenter_loss(fixed, rows, y, 0.01)
    loss.backward()
    reference.backward()
    assert loss.item() == pytest.approx(reference.item(), rel=1e-5)
    assert torch.allclose(ours.grad, fixed.grad, atol=1e-6)
    assert head.subcenters.grad is not None
    assert (head.subcenters.grad.flatten(1).norm(dim=1) > 0).all()


def test_a_trained_margin_has_the_loss_of_the_fixed_one() -> None:
    generator = torch.Generator().manual_seed(0)
    head = TrainedMargin(4, 5)
    with torch.no_grad():
        head.weight.copy_(3 * torch.eye(5, 4) + 0.3 * torch.randn(5, 4, generator=generator))
    # The last lies across from its class, beyond pi.
    z = torch.cat((torch.randn(6, 4, generator=generator), -head.weight.detach()[:1]))
    y = torch.tensor([0, 1, 2, 3, 4, 0, 0])
    ours, fixed = z.clone().requires_grad_(), z.clone().requires_grad_()
    loss = head.loss(ours, y)
    reference = F.cross_entropy(margin_logits(fixed, F.normalize(head.weight), y, math.acos(-1 / 4)), y)
    loss.backward()
    reference.backward()
    assert loss.item() == pytest.approx(reference.item(), rel=1e-5)
    assert torch.allclose(ours.grad[:-1], fixed.grad[:-1], atol=1e-5)
    assert head.weight.grad is not None
    assert (head.weight.grad.norm(dim=1) > 0).all()


def test_random_signs_leave_no_direction_that_all_rows_share() -> None:
    """All rows of this closed form have the same cosine to an axis, where the cross entropy is flat."""
    form = choose(LINES, 16, 512)
    assert form is not None
    lines = InMemory.of(Padded(form, 512, 16))
    ahead = torch.eye(16)
    assert (lines.tensor @ ahead.T).std(0).min() < 1e-6
    rows = random_signs(lines.tensor)
    assert torch.equal(rows.abs(), lines.tensor.abs())
    signs = (rows * lines.tensor).sum(1).sign()
    assert torch.equal(rows, lines.tensor * signs[:, None])
    assert 200 < (signs > 0).sum() < 312
    assert (rows @ ahead.T).std(0).min() > 0.2
    assert torch.equal(random_signs(lines.tensor[:99]), rows[:99])
    assert not torch.equal(random_signs(lines.tensor, 1), rows)
    made = protogen.generate(protogen.resolve("ebv", d=16, n=512, start="closed-form"))
    assert torch.equal(made.tensor.abs(), lines.tensor.abs())
    assert (made.tensor @ ahead.T).std(0).min() > 0.2  # `protogen ebv` gives signs of its own


def test_likeliest_is_the_own_class_subcenter_of_largest_product() -> None:
    rows = torch.tensor([[[1.0, 0], [0, 1]], [[-1, 0], [0, -1]]])
    found = likeliest(rows, torch.tensor([[0.2, 0.9], [2.0, 1.0], [0.1, 3.0]]), torch.tensor([0, 0, 1]))
    assert found.tolist() == [[0, 1], [1, 0], [-1, 0]]


@pytest.mark.parametrize("head", HEADS)
def test_every_head_learns_and_says_its_classes_vectors(head: str, tmp_path: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        labels = torch.arange(40) % 4
        samples = torch.randn(4, 6)[labels] + 0.1 * torch.randn(40, 6)
        one = build(head, 5, Task("vectors", 4, *(samples, labels) * 3, width=1), tmp_path)
        features = torch.nn.Parameter(torch.randn(40, 5))
    optimizer = torch.optim.Adam([features, *one.module.parameters()], lr=0.1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for step in range(80):
            optimizer.zero_grad()
            one.loss(one.features(features), labels).backward()
            optimizer.step()
            if step % 20 == 19:
                one.after_epoch()
    one.module.eval()
    with torch.no_grad():
        seen = one.features(features)
        assert (one.logits(seen).argmax(1) == labels).float().mean() == 1
        own, other = one.vectors(seen, labels), one.vectors(seen, (labels + 1) % 4)
        near = F.cosine_similarity(seen, own) - F.cosine_similarity(seen, other)
    assert near.mean() > 0.2
    without = ("learned", "learned-margin", "learned-uniform", "multicenter")
    assert (spec_of(head, 5, 4) is None) == (head in without or head.startswith("codes"))


def test_an_unknown_head_is_refused() -> None:
    with pytest.raises(BadRequest, match="head is 'softmax'; allowed is learned, "):
        spec_of("softmax", 4, 10)


def test_only_the_dynamic_assignment_moves(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    z, y = torch.randn(60, 3, generator=generator), torch.arange(60) % 6
    z = z[y]  # one direction a class, as the seed has it
    for head, moves in (("uniform", False), ("assignment", True)):
        one = build(head, 3, Task("vectors", 6, *(z, y) * 3, width=1), tmp_path)
        before = one.vectors(z, y).clone()
        one.loss(z, y)
        moved = one.after_epoch()
        assert (moved is None) is not moves
        assert torch.equal(one.vectors(z, y), before) is not moves
        if moves:
            assert (one.vectors(z, y) * z).sum() > (before * z).sum()


# --- training


@pytest.mark.parametrize(("size", "convolutions"), [(8, 1), (28, 3), (32, 3), (4, 0)])
def test_network_halves_its_images_down_to_four_pixels(size: int, convolutions: int) -> None:
    images, labels = torch.zeros(2, size, size, dtype=torch.uint8), torch.tensor([0, 1])
    body = network(Task("images", 2, *(images, labels) * 3, width=6), 5, 7)
    assert sum(isinstance(layer, torch.nn.Conv2d) for layer in body) == convolutions
    assert body(torch.zeros(2, 1, size, size)).shape == (2, 7)


def test_shaken_images_move_a_little_and_keep_their_ink() -> None:
    images = torch.zeros(64, 1, 32, 32)
    images[:, :, 12:20, 12:20] = 1
    moved = training._shaken(images, torch.Generator().manual_seed(0))
    assert moved.shape == images.shape
    centre = (moved.sum((1, 2)) * torch.arange(32.0)).sum(1) / moved.sum((1, 2, 3)) - 15.5
    assert 0.5 < centre.abs().max() <= 32 * training.MOVE + 0.5
    assert ((moved.sum((1, 2, 3)) / 64).sqrt() - 1).abs().max() < 1.5 * training.STRETCH


def small(task: Task, count: int = 200) -> Task:
    return replace(task, images=task.images[:count], labels=task.labels[:count])


def test_a_row_is_the_same_again_and_leaves_torchs_generator_alone(tmp_path: Path) -> None:
    task = small(load_task("digits"))
    trial = replace(TRIAL, data=task.digest, head="multicenter", epochs=3)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first = train(trial, task, tmp_path, quiet)
    assert torch.equal(torch.rand(1), expected)
    second = train(trial, task, tmp_path, quiet)
    assert replace(first, seconds_per_epoch=0) == replace(second, seconds_per_epoch=0)
    assert len(first.losses) == 3
    assert first.losses[-1] < first.losses[0]
    assert train(replace(trial, seed=1), task, tmp_path, quiet).losses != first.losses


def test_a_row_says_how_many_classes_moved(tmp_path: Path) -> None:
    task = small(load_task("digits"))
    found = train(replace(TRIAL, data=task.digest, head="assignment", epochs=4), task, tmp_path, quiet)
    assert found.moved is not None
    assert len(found.moved) == 4
    assert found.moved[0] > 0
    assert all(0 <= count <= 10 for count in found.moved)
    assert Row.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    assert train(replace(TRIAL, epochs=1), task, tmp_path, quiet).moved is None


def test_a_row_counts_what_is_trained_and_held(tmp_path: Path) -> None:
    task = small(load_task("digits"))
    learned = train(replace(TRIAL, epochs=1), task, tmp_path, quiet)
    fixed = train(replace(TRIAL, head="ebv", d=9, epochs=1), task, tmp_path, quiet)
    # 3x3 filters to 32 channels, 32 * 4 * 4 numbers to the hidden units, two numbers of the normalisation each; then d.
    body = {d: 32 * 9 + 64 + 512 * 512 + 1024 + 513 * d for d in (4, 9)}
    assert (learned.trained, learned.head_trained) == (body[4] + 50, 50)
    assert learned.head_bytes == 4 * 4 * 50  # weights, gradients and two moments in float32
    # The prototypes, and 512 bytes that say where they come from.
    assert (fixed.trained, fixed.head_trained, fixed.head_bytes) == (body[9], 0, 4 * 10 * 9 + 512)


def test_test_measures_are_those_of_a_known_network() -> None:
    """Features that are the images: two pixels, so that every angle is known."""
    images = torch.tensor([[[255, 0]], [[0, 255]], [[255, 255]]], dtype=torch.uint8)
    task = Task("digits", 2, *(images, torch.tensor([0, 1, 1])) * 3, width=1)
    linear = torch.nn.Linear(2, 2, bias=False)
    linear.weight = torch.nn.Parameter(torch.tensor([[1.0, 0], [0, 1]]))
    head = Contestant(linear, lambda z, y: z.sum(), linear, lambda z, y: linear.weight[y])
    accuracy, own, means = training._measure(task, "test", torch.nn.Flatten(), head)
    # (1, 1) is as near to both and goes to the first: two of three are right; its angle is 45 degrees.
    assert accuracy == pytest.approx(200 / 3)
    assert own == pytest.approx(15, abs=1e-4)
    # The mean direction of (0, 1) and (1, 1)/sqrt2 lies at 67.5 degrees.
    assert means == pytest.approx(67.5, abs=1e-3)


# --- the rows


def test_the_interval_is_students() -> None:
    # The 97.5% quantile of Student's t with 2 degrees of freedom is 4.302653.
    assert half_interval([1.0, 2.0, 3.0]) == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)


def test_differences_are_paired_by_seed() -> None:
    found = compare(
        [row(seed=0, accuracy=90), row(seed=1, accuracy=80), row("ebv", 1, 83), row("ebv", 0, 91), row("ebv", 0, 50, 9)]
    )
    learned, ebv, alone = found
    assert (learned.accuracy, learned.difference, learned.interval) == (85, None, None)
    assert learned.deviation == pytest.approx(math.sqrt(50))
    # +1 and +3: mean 2, deviation sqrt(2), the quantile for one degree of freedom 12.7062.
    assert (ebv.difference, ebv.interval) == (2, pytest.approx(12.7062, rel=1e-5))
    assert (alone.d, alone.deviation, alone.difference, alone.interval) == (9, None, None, None)
    turned = compare([row(seed=0, accuracy=90), row("ebv", 0, 91)], "ebv")
    assert [one.difference for one in turned] == [-1, None]
    assert "to ebv" in table_lines(turned)[0]
    lines = table_lines(found)
    assert len({len(line) for line in lines}) == 1
    measured = ["87.00", "5.66", "+2.00", "12.71", "1,000", "0.00", "1.50", "30.0", "60.0"]
    assert lines[2].split() == ["ebv", "4", "-", "-", "-", *measured]


def test_validation_is_compared_apart() -> None:
    rows = [
        replace(row(head, seed, 90.0), validation=value)
        for head, seed, value in (("learned", 0, 80.0), ("learned", 1, 82.0), ("ebv", 0, 81.0), ("ebv", 1, 85.0))
    ]
    _, ebv = compare(rows)
    assert (ebv.validation, ebv.validation_difference) == (83, 2)
    assert ebv.validation_interval == pytest.approx(12.7062, rel=1e-5)
    assert (ebv.difference, ebv.interval) == (0, 0)


def test_rows_come_back_and_a_torn_line_is_none(tmp_path: Path) -> None:
    file = RowFile(tmp_path / "rows.jsonl")
    assert file.rows() == {}
    file.check()
    file.add(row())
    whole = file.path.read_bytes()
    for seed in (1, 2):
        file.path.write_bytes(file.path.read_bytes() + whole[:30])
        assert file.rows() == {row(seed=s).trial: row(seed=s) for s in range(seed)}
        file.add(row(seed=seed))
        assert file.rows() == {row(seed=s).trial: row(seed=s) for s in range(seed + 1)}
    assert file.path.read_bytes().startswith(whole)
    assert file.path.read_bytes().count(whole[:30] + b" (cut off)\n") == 2


@pytest.mark.parametrize("line", ["{", "3", "[]", '{"trial": {}}', "[" * 100_000, '{"trial": 1}', "null", "\x00"])
def test_a_line_that_is_no_row_is_named(line: str, tmp_path: Path) -> None:
    file = RowFile(tmp_path / "rows.jsonl")
    file.path.write_text(json.dumps(row().to_dict()) + "\n" + line + "\n")
    with pytest.raises(IntegrityError, match="line 2 is no row of the demo; delete the line"):
        file.rows()


@pytest.mark.parametrize(
    ("field", "value"),
    [("accuracy", "90"), ("accuracy", None), ("accuracy", True), ("trained", 1.5), ("losses", 3), ("losses", "no")],
)
def test_a_row_of_other_types_is_named(field: str, value: object, tmp_path: Path) -> None:
    file = RowFile(tmp_path / "rows.jsonl")
    file.path.write_text(json.dumps({**row().to_dict(), field: value}) + "\n")
    with pytest.raises(IntegrityError, match="line 1 is no row of the demo; delete the line"):
        file.rows()
    trial = {**row().to_dict()["trial"], "seed": "1"}
    file.path.write_text(json.dumps({**row().to_dict(), "trial": trial}) + "\n")
    with pytest.raises(IntegrityError, match="line 1 is no row of the demo; delete the line"):
        file.rows()


def test_a_row_that_lacks_a_part_of_its_trial_is_named(tmp_path: Path) -> None:
    file = RowFile(tmp_path / "rows.jsonl")
    whole = row().to_dict()
    del whole["trial"]["hidden"]  # of another network than today's default
    file.path.write_text(json.dumps(whole) + "\n")
    with pytest.raises(IntegrityError, match="line 1 is no row of the demo; delete the line"):
        file.rows()


def test_a_place_that_refuses_rows_says_so_before_any_work(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none" / "rows.jsonl"):
        with pytest.raises(DiskError):
            RowFile(path).check()
    with pytest.raises(DiskError):
        RowFile(tmp_path).rows()


def test_plan_leaves_out_what_does_not_exist_unless_asked_for() -> None:
    task = load_task("digits")
    heads = {trial.head for trial in plan(task, None, "learned", [4], 1, 1, 1)}
    papers = {"ebv", "uniform", "assignment", "cube", "cube-margin", "subcenters"}
    assert heads == {"learned", "multicenter", *papers, "ebv-tuned", "ebv-placed", "codes", "codes-apart"}
    with pytest.raises(BadRequest, match="d for n=10 is 4"):
        plan(task, ["simplex"], "learned", [4], 1, 1, 1)
    with pytest.raises(BadRequest, match="d for n=10 is 4"):
        plan(task, None, "simplex", [4], 1, 1, 1)
    trials = plan(task, ["ebv"], "learned", [4, 9], 2, 1, 1)
    assert [(t.d, t.seed, t.head) for t in trials] == [
        (d, seed, head) for d in (4, 9) for seed in (0, 1) for head in ("learned", "ebv")
    ]
    assert {t.prototypes is None for t in trials if t.head == "ebv"} == {False}


# --- the command


def test_the_command_goes_on_after_the_last_row(run: Command, store: Path) -> None:
    words = ("demo", "--task", "digits", "--heads", "learned,uniform", "--epochs", 1, "--d", 4, "--store", "sets")
    first = run(*words, "--seeds", 1, "--json")
    assert first.code == 0
    file = Path("protogen-demo.jsonl")
    kept = file.read_bytes()
    second = run(*words, "--seeds", 2)
    assert second.code == 0
    assert file.read_bytes().startswith(kept)
    assert [line.split("  ")[0] for line in second.err.splitlines() if "accuracy" in line] == ["3/4", "4/4"]
    third = run(*words, "--seeds", 2, "--json")
    assert (third.code, third.err) == (0, "")
    rows = third.document["rows"]
    assert [one["head"] for one in third.document["comparisons"]] == ["learned", "uniform"]
    assert rows[:2] == first.document["rows"]
    assert second.out.splitlines() == table_lines(compare([Row.from_dict(one) for one in rows]))
    assert Path("sets").exists()
    assert not store.exists()


def test_rows_that_go_meanwhile_are_told_all_the_same(run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    real, words = training.train, ("demo", "--task", "digits", "--heads", "learned", "--d", 4, "--epochs", 1)

    def train(trial: Trial, *rest: object) -> Row:
        Path("protogen-demo.jsonl").unlink()
        return real(trial, *rest)

    monkeypatch.setattr(training, "train", train)
    ran = run(*words, "--seeds", 2, "--json")
    assert (ran.code, [one["trial"]["seed"] for one in ran.document["rows"]]) == (0, [0, 1])


def test_an_interruption_keeps_the_rows_that_ended(run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    real, ended = training.train, []

    def train(trial: Trial, *rest: object) -> Row:
        if ended:
            raise KeyboardInterrupt
        ended.append(trial)
        return real(trial, *rest)

    monkeypatch.setattr(training, "train", train)
    ran = run("demo", "--task", "digits", "--heads", "learned", "--d", 4, "--seeds", 2, "--epochs", 1)
    assert (ran.code, ran.out) == (130, "")
    assert ran.err.splitlines()[-1] == "interrupted: the same command goes on after the last finished row"
    assert list(RowFile(Path("protogen-demo.jsonl")).rows()) == ended


def test_the_picture_is_drawn(tmp_path: Path) -> None:
    from protogen.report.plot import save_demo

    save_demo([one.to_dict() for one in compare([row(), row("ebv"), row(seed=1), row("ebv", d=9)])], tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--task", "mnist"], 2, "task is 'mnist'; allowed is digits, fashion, glyphs"),
        (["--task", "digits", "--heads", "softmax"], 2, "head is 'softmax'; allowed is learned"),
        (["--task", "digits", "--against", "softmax"], 2, "head is 'softmax'; allowed is learned"),
        (["--task", "digits", "--heads", "simplex", "--d", "4"], 2, "d for n=10 is 4; allowed"),
        (["--task", "digits", "--d", "x"], 2, "d is 'x'; allowed are"),
        (["--task", "digits", "--d", "1"], 2, "d is 1; allowed"),
        (["--task", "digits", "--seeds", "0"], 2, "seeds is 0; allowed"),
        (["--task", "digits", "--epochs", "0"], 2, "epochs is 0; allowed"),
        (["--task", "digits", "--imbalance", "0.5"], 2, "imbalance is 0.5; allowed is 1 to"),
        (["--task", "digits", "--imbalance", "nan"], 2, "imbalance is nan; allowed is 1 to"),
        (["--task", "digits", "--classes", "5"], 2, "classes is 5 with digits"),
        (["--task", "digits", "--data", "."], 2, "data is . with digits"),
        (["--task", "fashion", "--data", "none"], 3, "none: no such directory"),
        (["--task", "fashion", "--data", "."], 3, "install the Debian package dataset-fashion-mnist"),
        (["--task", "glyphs", "--data", "."], 3, "install the Debian packages fonts-wqy-zenhei"),
        (["--task", "digits", "--rows", "none/rows"], 4, "none/rows: No such file or directory"),
        (["--task", "digits", "--plot", "a.pdf"], 2, "allowed is a file name that ends in .png"),
    ],
)
def test_wrong_input_is_one_line(run: Command, words: list[str], code: int, message: str) -> None:
    one_error(run("demo", *words), code, message)


def test_tasks_are_those_of_the_command() -> None:
    assert tuple(USUAL) == tasks.TASKS


def test_random_places_that_ask_too_much_are_warned_of() -> None:
    many = replace(TRIAL, classes=1000, d=16, head="ebv", prototypes="0" * 12)
    # 2 n ln n = 13,816, by the 512 hidden units: 27.
    (line,) = warnings_of([many, replace(many, seed=1), replace(many, d=28), replace(many, hidden=1024)])
    assert "ebv gives 1,000 classes random places" in line
    assert "needs d of about 27 or more, not 16" in line
    others = [replace(many, head="ebv-placed"), replace(many, head="codes", prototypes=None), TRIAL]
    assert warnings_of(others) == []
