"""The tasks of the demo by name: scikit-learn's digits, Fashion-MNIST, Chinese characters in many typefaces."""

from pathlib import Path

import torch

from protogen.demo import fashion, glyphs
from protogen.errors import BadRequest, NotFound

from .data import Task, held_back

TASKS = ("digits", "fashion", "glyphs")


def load_task(name: str, classes: int | None = None, data: Path | None = None) -> Task:
    """Load the data of a task; `classes` is for glyphs, `data` a folder to look in instead of the system's.

    Raises BadRequest, and NotFound, in a line that says what to install, where the data is not there.
    """
    if name not in TASKS:
        raise BadRequest(f"task is {name!r}; allowed is {', '.join(TASKS)}")
    if classes is not None and name != "glyphs":
        raise BadRequest(f"classes is {classes} with {name}, which has its 10; leave it out, or ask for glyphs")
    if data is not None and not data.is_dir():
        raise NotFound(f"{data}: no such directory; name the one that holds the data of {name}")
    if name == "digits":
        if data is not None:
            raise BadRequest(f"data is {data} with digits, which scikit-learn carries; leave it out")
        return _digits()
    if name == "fashion":
        return fashion.read(data)
    return glyphs.render(1000 if classes is None else classes, data)


def _digits() -> Task:
    """Half of the images test, every other one, so that the order of writers does not matter; a fifth of the rest validates."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise NotFound("digits need scikit-learn; run `pip install 'protogen-codes[demo]'`") from error
    found = load_digits()
    images = torch.from_numpy(found.images * 15.9375).to(torch.uint8)
    labels = torch.from_numpy(found.target).long()
    return held_back("digits", (images[::2], labels[::2]), (images[1::2], labels[1::2]), every=5, width=32)
