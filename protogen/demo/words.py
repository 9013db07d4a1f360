"""Words that espeak-ng says in many voices, one class a word: log-mel frames that are not aligned."""

import math
import random
from pathlib import Path

import torch
from torch import Tensor

from protogen.errors import BadRequest, NotFound

from .data import Task, data_folders
from .speech import Speech

CLASSES = (2, 5000)
PACKAGES = "espeak-ng and wamerican"
LISTS = ("american-english", "words")
LETTERS = (4, 10)  # of a word
ACCENTS = ("en-us", "en", "en-gb-scotland", "en-gb-x-rp", "en-029", "en-us-nyc", "en-gb-x-gbclan", "en-gb-x-gbcwmd")
TRAIN = (
    "m1",
    "m2",
    "m3",
    "m4",
    "m5",
    "m6",
    "f1",
    "f2",
    "f3",
    "Adam",
    "Andy",
    "anika",
    "edward",
    "linda",
    "steph",
    "max",
)
VALIDATION = ("m7", "f4")
TEST = ("m8", "f5")
SPEEDS, PITCHES = (130, 210), (25, 75)  # words a minute, and of espeak's 0 to 100
RATE = 22050  # samples a second, of all these voices
WINDOW, HOP = 512, 368  # samples of a frame, and from one to the next: 16.7 ms
BANDS, FRAMES = 32, 48
LATE = 6  # frames of silence before a word, at most
LOW_HZ, HIGH_HZ = 60.0, 8000.0
QUIET_DB, LOUD_DB = -10.0, 50.0  # what 0 and 255 stand for


def say(classes: int, folder: Path | None = None) -> Task:
    """Say each word once in every voice: 16 for training, two others to validate, and two to test.

    1. The words of 4 to 10 small letters of the system's list are gone through in one shuffled order. So a smaller
       number of classes are among those of a larger number.
    2. A word that sounds like one before is left out.
    3. Accent, speed, pitch and the silence before a word are drawn anew each time that it is said.

    Raises BadRequest, and NotFound where espeak-ng or a list of words is not there.
    """
    low, high = CLASSES
    if not low <= classes <= high:
        raise BadRequest(f"classes is {classes}; allowed is {low} to {high}")
    speech = Speech(RATE)
    words = _distinct(speech, classes, _listed(folder))
    parts = [_part(speech, words, voices, seed) for seed, voices in enumerate((TRAIN, VALIDATION, TEST))]
    (images, labels), *others = parts
    return Task("words", classes, images, labels, *others[0], *others[1], width=24)


def _listed(folder: Path | None) -> list[str]:
    """Read the words of the system's list, or that of a folder, in one shuffled order."""
    folders = [folder] if folder is not None else list(data_folders("dict"))
    path = next((place / name for place in folders for name in LISTS if (place / name).is_file()), None)
    if path is None:
        raise NotFound(
            f"words need a list of words, {' or '.join(LISTS)}, in {folder or 'the dict folder of this system'}",
            f"install the Debian packages {PACKAGES}, or name a folder with --data",
        )
    low, high = LETTERS
    lines = path.read_text(encoding="utf-8", errors="ignore").splitlines()
    found = sorted({word for word in lines if low <= len(word) <= high and word.isascii() and word.islower()})
    words = [word for word in found if word.isalpha()]
    random.Random(0).shuffle(words)
    return words


def _distinct(speech: Speech, classes: int, listed: list[str]) -> list[str]:
    """Take the first words that sound like none before. Raises NotFound where there are too few."""
    words: list[str] = []
    heard: set[bytes] = set()
    for word in listed:
        sound = speech.say(word, ACCENTS[0]).numpy().tobytes()
        if sound in heard:
            continue
        heard.add(sound)
        words.append(word)
        if len(words) == classes:
            return words
    raise NotFound(
        f"{classes} classes need as many words that sound different, {len(words)} are there", "ask for fewer"
    )


def _part(speech: Speech, words: list[str], voices: tuple[str, ...], seed: int) -> tuple[Tensor, Tensor]:
    """Say every word in each of the voices: images (samples, FRAMES, BANDS) uint8, and labels."""
    chosen, bands = random.Random(seed), _bands()
    images = []
    for word in words:
        for voice in voices:
            speed, pitch = chosen.randint(*SPEEDS), chosen.randint(*PITCHES)
            sound = speech.say(word, f"{chosen.choice(ACCENTS)}+{voice}", speed, pitch)
            images.append(_frames(sound, chosen.randint(0, LATE), bands))
    return torch.stack(images), torch.arange(len(words)).repeat_interleave(len(voices))


def _frames(sound: Tensor, late: int, bands: Tensor) -> Tensor:
    """Turn a sound (samples,), after `late` frames of silence, into log-mel frames (FRAMES, BANDS) uint8."""
    padded = torch.zeros(WINDOW + HOP * (FRAMES - 1))
    kept = sound[: len(padded) - late * HOP] / 2**10
    padded[late * HOP : late * HOP + len(kept)] = kept
    power = torch.fft.rfft(padded.unfold(0, WINDOW, HOP) * torch.hann_window(WINDOW)).abs().square()
    level = 10 * (power @ bands + 1e-10).log10()
    shown: Tensor = (level - QUIET_DB) / (LOUD_DB - QUIET_DB) * 255
    return shown.clamp(0, 255).to(torch.uint8)


def _bands() -> Tensor:
    """Make the triangles on the mel scale 2595 log10(1 + f / 700): (WINDOW // 2 + 1, BANDS)."""
    low, high = (2595 * math.log10(1 + hertz / 700) for hertz in (LOW_HZ, HIGH_HZ))
    edges = 700 * (10 ** (torch.linspace(low, high, BANDS + 2) / 2595) - 1)
    hertz = torch.linspace(0, RATE / 2, WINDOW // 2 + 1)[:, None]
    rising = (hertz - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - hertz) / (edges[2:] - edges[1:-1])
    return torch.minimum(rising, falling).clamp(min=0)
