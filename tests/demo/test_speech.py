"""Spoken words and clusters: what a task is made of, with a library that speaks in tones in place of espeak-ng."""

import ctypes
import zlib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from protogen.demo import speech, words
from protogen.demo.clusters import SAMPLES, SPREAD, WIDTH
from protogen.demo.speech import Speech
from protogen.demo.tasks import load_task
from protogen.errors import BadRequest, NotFound


class Library:
    """What speak_lib.h promises: a text becomes a tone, whose length is the speed's and whose height the voice's."""

    rate = 22050

    def __init__(self, name: str) -> None:
        self.name, self.speed, self.voice = name, 175, ""

    def espeak_Initialize(self, output: int, length: int, path: None, options: int) -> int:
        assert output == 2  # synchronous
        return self.rate

    def espeak_SetSynthCallback(self, heard: Any) -> None:
        self.heard = heard

    def espeak_SetVoiceByName(self, voice: bytes) -> int:
        self.voice = voice.decode()
        return 0 if self.voice.split("+")[0] in words.ACCENTS else 2

    def espeak_SetParameter(self, parameter: int, value: int, relative: int) -> int:
        if parameter == 1:
            self.speed = value
        return 0

    def espeak_Synth(self, text: bytes, size: int, *others: Any) -> int:
        assert size == len(text) + 1
        text = b"their" if text == b"there" else text
        length = 22050 * 60 // self.speed
        height = 200 + zlib.crc32(text) % 40 * 100 + (zlib.crc32(self.voice.encode()) % 7) * 10
        tone = 8000 * torch.sin(torch.arange(length) * 2 * torch.pi * height / 22050)
        samples = [0] * 300 + tone.to(torch.int16).tolist()
        for part in (samples[:1000], samples[1000:]):
            self.heard((ctypes.c_short * len(part))(*part), len(part), None)
        self.heard(None, 0, None)
        return 0


@pytest.fixture
def spoken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder with a list of words, and the library of tones."""
    monkeypatch.setattr(speech, "find_library", lambda name: f"lib{name}.so")
    monkeypatch.setattr(ctypes, "CDLL", Library)
    listed = ["there", "their", "kettle", "window", "garden", "it", "O'Neil", "Kettle", "unbelievably", "café", "lamp"]
    (tmp_path / "words").write_text("\n".join(listed), encoding="utf-8")
    return tmp_path


def test_words_are_said_by_voices_that_are_kept_apart(spoken: Path) -> None:
    task = load_task("words", 4, spoken)
    assert task.images.shape == (4 * len(words.TRAIN), words.FRAMES, words.BANDS)
    assert task.labels.bincount().tolist() == [len(words.TRAIN)] * 4
    assert task.validation_labels.bincount().tolist() == [len(words.VALIDATION)] * 4
    assert task.test_labels.bincount().tolist() == [len(words.TEST)] * 4
    assert not set(words.TRAIN) & set(words.VALIDATION + words.TEST)
    assert not set(words.VALIDATION) & set(words.TEST)
    assert task.digest == load_task("words", 4, spoken).digest
    # The height of a tone is the word's: its loudest band is the same in every voice, give or take one.
    loudest = task.images.float().mean(1).argmax(1).reshape(4, -1)
    assert (loudest.max(1).values - loudest.min(1).values).max() <= 2


def test_words_begin_anywhere_in_the_first_frames(spoken: Path) -> None:
    images = load_task("words", 4, spoken).images
    begins = (images.float().amax(2) > 128).float().argmax(1)
    assert len(begins.unique()) > 3
    assert begins.max() <= words.LATE


def test_fewer_words_are_among_those_of_more_and_none_sounds_like_another(spoken: Path) -> None:
    few, more = load_task("words", 3, spoken), load_task("words", 4, spoken)
    assert torch.equal(few.images, more.images[: len(few.images)])
    # kettle, window, garden, lamp and one of there and their: the others are no small words of 4 to 10 letters.
    assert load_task("words", 5, spoken).classes == 5
    with pytest.raises(NotFound, match="6 classes need as many words that sound different, 5 are there"):
        load_task("words", 6, spoken)


def test_frames_are_the_logarithm_of_the_power_in_bands() -> None:
    time = torch.arange(words.HOP * words.FRAMES)
    low, high = (
        words._frames(8000 * torch.sin(time * 2 * torch.pi * f / words.RATE), 0, words._bands()) for f in (300, 3000)
    )
    assert low.shape == (words.FRAMES, words.BANDS)
    assert low.float().mean(0).argmax() < 10 < high.float().mean(0).argmax()
    silent = words._frames(torch.zeros(0), 3, words._bands())
    assert not silent.any()


def test_what_is_missing_is_said_in_one_line(spoken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadRequest, match="classes is 5001; allowed is 2 to 5000"):
        load_task("words", 5001, spoken)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(NotFound, match="install the Debian packages espeak-ng and wamerican"):
        load_task("words", 4, empty)
    monkeypatch.setattr(Library, "rate", 16000)
    with pytest.raises(NotFound, match="speaks at 16000 samples a second, needed are 22050"):
        load_task("words", 4, spoken)
    monkeypatch.setattr(speech, "find_library", lambda name: None)
    with pytest.raises(NotFound, match="words need espeak-ng, which is not installed; install the Debian package"):
        load_task("words", 4, spoken)


def test_a_voice_that_there_is_not_is_named(spoken: Path) -> None:
    with pytest.raises(NotFound, match="espeak-ng has no voice 'xx'"):
        Speech(22050).say("word", "xx")


def test_silence_at_both_ends_is_cut_off(spoken: Path) -> None:
    sound = Speech(22050).say("word", words.ACCENTS[0], speed=200)
    assert abs(len(sound) - 22050 * 60 // 200) < 60


def spread(samples: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The class means, and the mean variance within a class."""
    means = torch.stack([samples[labels == label].mean(0) for label in range(int(labels.max()) + 1)])
    return means, (samples - means[labels]).square().sum(1).mean()


def test_clusters_have_means_and_covariances_of_their_own() -> None:
    task = load_task("clusters", 40)
    assert task.images.shape == (40 * SAMPLES["train"], WIDTH)
    assert task.test_labels.bincount().tolist() == [SAMPLES["test"]] * 40
    means, within = spread(task.images, task.labels)
    assert float(means.square().mean()) == pytest.approx(SPREAD**2 + 2 / SAMPLES["train"], rel=0.4)
    assert float(within) > 0.8 * WIDTH
    nearest = torch.cdist(task.test_images, means).argmin(1)
    assert (nearest == task.test_labels).float().mean() > 0.95
    assert torch.equal(load_task("clusters", 20).images, task.images[: 20 * SAMPLES["train"]])
    with pytest.raises(BadRequest, match="classes is 1; allowed is 2"):
        load_task("clusters", 1)
    with pytest.raises(BadRequest, match="which are drawn at random; leave it out"):
        load_task("clusters", 20, Path("here"))
