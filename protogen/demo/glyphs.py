"""Chinese characters, one class a code point, drawn in the typefaces that the machine has."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from protogen.errors import BadRequest, NotFound

from .data import Task, data_folders

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

SIZE = 32  # pixels of an image's edge
EM = 29  # pixels of the em square in it
FEWEST_FACES = 12  # of the training set, for every class
CLASSES = (2, 20_000)
IDEOGRAPHS = range(0x4E00, 0x9FA6)  # the block of Unicode 1.1, which typefaces agree on
TEST_FAMILY = "WenQuanYi Zen Hei"
NOWHERE = "\U0010ffff"  # no character: drawn as what a face shows for one that it lacks
PACKAGES = "fonts-wqy-zenhei, fonts-wqy-microhei, fonts-noto-cjk, -extra, fonts-arphic-ukai, fonts-arphic-uming"
SUFFIXES = (".ttf", ".ttc", ".otf", ".otc")


class Face:
    """One typeface in one weight."""

    def __init__(self, font: "FreeTypeFont") -> None:
        self._font = font
        self._lacking = self._ink(NOWHERE)

    def draw(self, character: str) -> np.ndarray | None:
        """Draw a character with its ink in the middle, (SIZE, SIZE) uint8; None where the face has it not."""
        ink = self._ink(character)
        if ink.size == 0 or (ink.shape == self._lacking.shape and (ink == self._lacking).all()):
            return None
        top, left = (max(0, (length - SIZE) // 2) for length in ink.shape)
        ink = ink[top : top + SIZE, left : left + SIZE]
        image = np.zeros((SIZE, SIZE), np.uint8)
        row, column = ((SIZE - length) // 2 for length in ink.shape)
        image[row : row + ink.shape[0], column : column + ink.shape[1]] = ink
        return image

    def _ink(self, character: str) -> np.ndarray:
        mask = self._font.getmask(character, mode="L")
        image = np.array(mask, np.uint8).reshape(mask.size[::-1])
        rows, columns = np.flatnonzero(image.any(1)), np.flatnonzero(image.any(0))
        return image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] if rows.size else image[:0]


def render(classes: int, folder: Path | None = None) -> Task:
    """Draw the training images in every typeface but WenQuanYi Zen Hei, and the test images in that.

    The classes are the first code points, in one shuffled order of all, that the test face and at least
    FEWEST_FACES others have; so a smaller number of classes are among those of a larger.

    Raises BadRequest, and NotFound where there are not enough typefaces or characters.
    """
    low, high = CLASSES
    if not low <= classes <= high:
        raise BadRequest(f"classes is {classes}; allowed is {low} to {high}")
    test, faces = _faces(folder)
    images: list[np.ndarray] = []
    labels: list[int] = []
    tests: list[np.ndarray] = []
    order = torch.randperm(len(IDEOGRAPHS), generator=torch.Generator().manual_seed(0)).tolist()
    for place in order:
        character = chr(IDEOGRAPHS[place])
        shown = test.draw(character)
        drawn = _distinct(face.draw(character) for face in faces) if shown is not None else []
        if shown is None or len(drawn) < FEWEST_FACES:
            continue
        labels += [len(tests)] * len(drawn)
        images += drawn
        tests.append(shown)
        if len(tests) == classes:
            train, held_out = (torch.from_numpy(np.stack(stack)) for stack in (images, tests))
            return Task(
                "glyphs", classes, train, torch.tensor(labels), held_out, torch.arange(classes), width=32, shake=True
            )
    raise NotFound(
        f"{classes} classes need as many characters in {FEWEST_FACES} typefaces and the test face, {len(tests)} are "
        f"there in {len(faces)}; ask for fewer --classes, or install more: {PACKAGES}"
    )


def _distinct(images: Iterator[np.ndarray | None]) -> list[np.ndarray]:
    """The images that differ: one typeface may lie on the machine under two names."""
    return list({image.tobytes(): image for image in images if image is not None}.values())


def _faces(folder: Path | None) -> tuple[Face, list[Face]]:
    """The test face, and every other that has Chinese characters, in order of their files' names."""
    try:
        from PIL import ImageFont
    except ImportError as error:
        raise NotFound("glyphs need Pillow; run `pip install 'protogen-codes[demo]'`") from error
    test, faces = None, []
    for path in _files(folder):
        try:
            font = ImageFont.truetype(path, EM)
        except OSError:  # no font that FreeType reads
            continue
        face = Face(font)
        if font.getname()[0] == TEST_FAMILY:
            test = face
        elif face.draw(chr(IDEOGRAPHS[0])) is not None:
            faces.append(face)
    if test is None or len(faces) < FEWEST_FACES:
        raise NotFound(
            f"glyphs need the font {TEST_FAMILY} and {FEWEST_FACES} others with Chinese characters, there are "
            f"{'it' if test else 'not it'} and {len(faces)} others; install the Debian packages {PACKAGES}, or "
            "name a folder of fonts with --data"
        )
    return test, faces


def _files(folder: Path | None) -> Iterator[Path]:
    folders = [folder] if folder is not None else list(data_folders("fonts"))
    found = {path.name: path for place in folders for path in place.rglob("*") if path.suffix.lower() in SUFFIXES}
    yield from (found[name] for name in sorted(found))
