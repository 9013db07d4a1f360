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
TEST_FAMILY, VALIDATION_FAMILY = "WenQuanYi Zen Hei", "WenQuanYi Micro Hei"
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
    """Draw each character in every typeface that has it.

    1. All code points are gone through in one shuffled order. So a smaller number of classes are among those of a
       larger number.
    2. A code point is a class if both held-out typefaces and at least FEWEST_FACES others have it.
    3. Its image in WenQuanYi Zen Hei is for the test, that in WenQuanYi Micro Hei for validation. All others are
       trained on.

    Raises BadRequest, and NotFound where there are not enough typefaces or characters.
    """
    low, high = CLASSES
    if not low <= classes <= high:
        raise BadRequest(f"classes is {classes}; allowed is {low} to {high}")
    test, validation, faces = _faces(folder)
    images: list[np.ndarray] = []
    labels: list[int] = []
    held: list[np.ndarray] = []
    tests: list[np.ndarray] = []
    order = torch.randperm(len(IDEOGRAPHS), generator=torch.Generator().manual_seed(0)).tolist()
    for place in order:
        character = chr(IDEOGRAPHS[place])
        shown = test.draw(character)
        kept = None if shown is None else validation.draw(character)
        if shown is None or kept is None:
            continue
        drawn = _distinct(face.draw(character) for face in faces)
        if len(drawn) < FEWEST_FACES:
            continue
        labels += [len(tests)] * len(drawn)
        images += drawn
        tests.append(shown)
        held.append(kept)
        if len(tests) == classes:
            train, *others = (torch.from_numpy(np.stack(stack)) for stack in (images, held, tests))
            numbers = torch.arange(classes)
            sets = (train, torch.tensor(labels), others[0], numbers, others[1], numbers)
            return Task("glyphs", classes, *sets, width=32, shake=True)
    raise NotFound(
        f"{classes} classes need as many characters in {FEWEST_FACES} typefaces and the two held out, {len(tests)} are "
        f"there in {len(faces)}; ask for fewer --classes, or install more: {PACKAGES}"
    )


def _distinct(images: Iterator[np.ndarray | None]) -> list[np.ndarray]:
    """Leave out images that are there already: one typeface may lie on the machine under two names."""
    return list({image.tobytes(): image for image in images if image is not None}.values())


def _faces(folder: Path | None) -> tuple[Face, Face, list[Face]]:
    """Load the test face, the validation face, and every other with Chinese characters, in the order of their files."""
    try:
        from PIL import ImageFont
    except ImportError as error:
        raise NotFound("glyphs need Pillow", "run `pip install 'protogen-codes[demo]'`") from error
    held_out: dict[str, Face] = {}
    faces = []
    for path in _files(folder):
        try:
            font = ImageFont.truetype(path, EM)
        except OSError:  # no font that FreeType reads
            continue
        face, family = Face(font), font.getname()[0]
        if family in (TEST_FAMILY, VALIDATION_FAMILY):
            held_out[family] = face
        elif face.draw(chr(IDEOGRAPHS[0])) is not None:
            faces.append(face)
    lacking = [family for family in (TEST_FAMILY, VALIDATION_FAMILY) if family not in held_out]
    if lacking or len(faces) < FEWEST_FACES:
        raise NotFound(
            f"glyphs need the fonts {TEST_FAMILY} and {VALIDATION_FAMILY} and {FEWEST_FACES} others with Chinese "
            f"characters, there are {len(faces)} others and lacking are {', '.join(lacking) or 'none of the two'}",
            f"install the Debian packages {PACKAGES}, or name a folder of fonts with --data",
        )
    return held_out[TEST_FAMILY], held_out[VALIDATION_FAMILY], faces


def _files(folder: Path | None) -> Iterator[Path]:
    """Yield the font files of a folder, else of the system, by their names: of two with one name, one."""
    folders = [folder] if folder is not None else list(data_folders("fonts"))
    found = {path.name: path for place in folders for path in place.rglob("*") if path.suffix.lower() in SUFFIXES}
    yield from (found[name] for name in sorted(found))
