"""The tasks of the demo by name: digits, Fashion-MNIST, Chinese characters, spoken words, clusters at random."""

from pathlib import Path

import torch

from protogen.checks import check_word
from protogen.errors import BadRequest, NotFound

from . import clusters, fashion, glyphs, words
from .data import Task, held_back

TASKS = ("digits", "fashion", "glyphs", "words", "clusters")
MADE_OF = {"digits": "which scikit-learn carries", "clusters": "which are drawn at random"}
USUAL_CLASSES = {"glyphs": 1000, "words": 1000, "clusters": 5000}  # of the tasks that have as many as asked for


def load_task(name: str, classes: int | None = None, data: Path | None = None) -> Task:
    """Load the data of a task; `classes` is for those of USUAL_CLASSES, `data` a folder instead of the system's.

    Raises BadRequest, and NotFound, in a line that says what to install, where the data is not there.
    """
    check_word("task", name, TASKS)
    if classes is not None and name not in USUAL_CLASSES:
        raise BadRequest(
            f"classes is {classes} with {name}, which has its 10; leave it out, or ask for {', '.join(USUAL_CLASSES)}"
        )
    if data is not None and name in MADE_OF:
        raise BadRequest(f"data is {data} with {name}, {MADE_OF[name]}; leave it out")
    if data is not None and not data.is_dir():
        raise NotFound(f"{data}: no such directory; name the one that holds the data of {name}")
    count = USUAL_CLASSES.get(name, 10) if classes is None else classes
    match name:
        case "digits":
            return _digits()
        case "fashion":
            return fashion.read(data)
        case "glyphs":
            return glyphs.render(count, data)
        case "words":
            return words.say(count, data)
    return clusters.draw(count)


def _digits() -> Task:
    """Load the digits of scikit-learn.

    Every other image is for the test, so that the order of their writers does not matter. A fifth of the others is
    for validation.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise NotFound("digits need scikit-learn; run `pip install 'protogen-codes[demo]'`") from error
    found = load_digits()
    images = torch.from_numpy(found.images * 15.9375).to(torch.uint8)
    labels = torch.from_numpy(found.target).long()
    return held_back("digits", (images[::2], labels[::2]), (images[1::2], labels[1::2]), every=5, width=32)
