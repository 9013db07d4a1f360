"""`protogen fit`: from files or tensors to a set in the store, with its facts; later classes; wrong inputs."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import Command, one_error
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import normalize

import protogen
from protogen.errors import BadRequest
from protogen.fitting.arrays import narrowing, statistics_of
from protogen.fitting.codes import class_codes
from protogen.fitting.statistics import ClassStatistics
from protogen.generating import generate
from protogen.methods import resolve
from protogen.run import Progress, Run
from protogen.solution import Status
from protogen.store.store import Store

CLASSES, WIDTH, D = 40, 16, 8


def data(classes: int = CLASSES, each: int = 10) -> tuple[Tensor, Tensor]:
    """Features of classes that come in groups of four alike."""
    generator = torch.Generator().manual_seed(0)
    groups = torch.randn(classes // 4, 1, WIDTH, generator=generator)
    means = (groups + 0.4 * torch.randn(classes // 4, 4, WIDTH, generator=generator)).flatten(0, 1)
    labels = torch.arange(classes).repeat(each)
    return means[labels] + 0.3 * torch.randn(len(labels), WIDTH, generator=generator), labels


def coherence(rows: Tensor) -> float:
    return float((rows.double() @ rows.double().T).fill_diagonal_(0).abs().max())


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """The features in a .npy file, the labels in a safetensors file."""
    features, labels = data()
    np.save(tmp_path / "x.npy", features.numpy())
    save_file({"labels": labels, "other": labels + 1}, tmp_path / "y.safetensors")
    return tmp_path / "x.npy", tmp_path / "y.safetensors"


def test_the_command_pushes_codes_apart_and_says_what_was_kept(files: tuple[Path, Path], run: Command) -> None:
    words = ["fit", "--features", files[0], "--labels", files[1], "--d", D, "--alpha", "0.75"]
    ran = run(*words, "--json")
    assert ran.code == 0, ran.err
    record = json.loads(ran.out)
    assert record["spec"]["method"] == "fit"
    assert record["spec"]["params"]["statistics"] == statistics_of(*files).digest
    assert record["provenance"]["status"] == Status.REACHED
    assert record["stats"]["coherence"]["value"] <= 0.75 + 1e-6
    assert record["stats"]["pairs"] == CLASSES * (CLASSES - 1) // 2
    codes = class_codes(statistics_of(*files), D).rows
    assert coherence(codes) > 0.9
    made = protogen.load(record["path"])
    kept = (codes * made.tensor).sum(1)
    assert record["facts"]["kept_mean"] == pytest.approx(float(kept.mean()), abs=1e-6)
    assert record["facts"]["kept_least"] == pytest.approx(float(kept.min()), abs=1e-6)
    assert made.tensors["projection"].shape == (WIDTH, D)
    again = run(*words, "--quiet")
    assert again.out.strip() == record["path"]
    lines = run(*words).out
    assert f"kept        of the codes: mean cosine {float(kept.mean()):.4f}" in lines


def test_in_python_tensors_paths_and_statistics_give_the_same(files: tuple[Path, Path], store: Path) -> None:
    by_path = protogen.fit(*files, d=D)
    by_tensor = protogen.fit(*data(), d=D)
    by_statistics = protogen.fit(statistics_of(*files), d=D)
    assert by_path.spec == by_tensor.spec == by_statistics.spec
    assert by_path.path == by_tensor.path == by_statistics.path
    assert torch.equal(by_path.tensor, class_codes(ClassStatistics.of(*data()), D).rows)
    assert by_path.provenance.status == Status.FITTED
    assert by_path.facts.more == {
        "kept_mean": pytest.approx(1),
        "kept_least": pytest.approx(1),
        "classes_seen": CLASSES,
    }
    assert protogen.load("fit", d=D, n=CLASSES).path == by_path.path
    apart = protogen.fit(*data(), d=D, alpha=0.75)
    assert apart.spec.key != by_path.spec.key
    assert protogen.load("fit", alpha=0.76).path == apart.path
    assert protogen.load("fit", d=D, alpha=1.0).path == apart.path  # the lower coherence


def test_options_enter_the_spec_and_the_rows(store: Path) -> None:
    plain, alike = protogen.fit(*data(), d=D), protogen.fit(*data(), d=D, power=0.0)
    assert plain.spec.key != alike.spec.key
    assert not torch.allclose(plain.tensor, alike.tensor, atol=1e-2)
    assert protogen.fit(*data(), d=D, ridge=1.0).spec.options["ridge"] == 1.0


def test_a_spec_has_its_key_for_ever() -> None:
    assert resolve("fit", d=8, n=40, statistics="0" * 64, alpha=0.75).key == "ba9e745efa9a"


def test_later_classes_find_places_and_the_rows_before_stay(files: tuple[Path, Path], store: Path) -> None:
    features, labels = data()
    early = labels < 30
    first = protogen.fit(features[early], labels[early], d=D, alpha=0.8)
    assert first.n == 30
    both = protogen.fit(features[~early], labels[~early], d=D, alpha=0.8, extends=str(first.path))
    assert torch.equal(both.tensor[:30], first.tensor)
    assert coherence(both.tensor) <= 0.8 + 1e-6
    assert (both.n, both.facts.extended_n) == (CLASSES, 30)
    # Their places are those of their own means under the map of the first.
    means = ClassStatistics.of(features[~early], labels[~early]).means[30:].float()
    wished = normalize((means - first.tensors["mean"]) @ first.tensors["projection"], dim=1)
    assert float((wished * both.tensor[30:]).sum(1).mean()) > 0.9
    more = torch.cat((features[~early], features[early][:5]))  # what is said of earlier classes moves nothing
    same = protogen.fit(more, torch.cat((labels[~early], labels[early][:5])), d=D, extends=str(first.path))
    torch.testing.assert_close(same.tensor[30:], wished, rtol=0, atol=1e-5)


def test_a_class_without_a_sample_is_pushed_like_the_others(store: Path) -> None:
    features, labels = data()
    kept = labels % 7 != 3
    made = protogen.fit(features[kept], labels[kept], d=D, n=CLASSES + 2, alpha=0.8)
    assert made.n == CLASSES + 2
    assert coherence(made.tensor) <= 0.8 + 1e-6
    assert made.facts.more["classes_seen"] == len(labels[kept].unique())


def test_features_are_narrowed_by_the_same_matrix_each_time(files: tuple[Path, Path]) -> None:
    narrow = statistics_of(*files, narrow=5)
    features, labels = data()
    expected = ClassStatistics.of(features @ narrowing(WIDTH, 5), labels)
    torch.testing.assert_close(narrow.second, expected.second, rtol=1e-5, atol=1e-4)
    assert narrow.width == 5


def test_files_are_read_by_pieces_of_any_size_and_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = data()
    expected = ClassStatistics.of(features.half().float(), labels)
    monkeypatch.setattr("protogen.fitting.arrays.PIECE", 7 * WIDTH)
    np.save(tmp_path / "x.npy", features.reshape(-1, 4, 4).half().numpy())
    np.save(tmp_path / "y.npy", labels.numpy().astype(">u2"))
    save_file({"rows": features.half()}, tmp_path / "x.safetensors")
    shares: list[float] = []
    for name in ("x.npy", "x.safetensors"):
        got = statistics_of(tmp_path / name, tmp_path / "y.npy", report=shares.append)
        torch.testing.assert_close(got.second, expected.second, rtol=1e-12, atol=1e-12)
        assert torch.equal(got.counts, expected.counts)
    assert len(shares) == 2 * -(-len(labels) // 7)
    assert shares[-1] == 1


def test_files_that_do_not_serve_are_refused_in_one_line(
    files: tuple[Path, Path], run: Command, tmp_path: Path
) -> None:
    def refused(features: Path, labels: Path, code: int, says: str) -> None:
        one_error(run("fit", "--features", features, "--labels", labels, "--d", D), code, says)

    x, y = files
    np.save(tmp_path / "short.npy", np.zeros(3, np.int64))
    np.save(tmp_path / "words.npy", np.array(["a"] * len(data()[1])))
    np.save(tmp_path / "minus.npy", -data()[1].numpy())
    (tmp_path / "cut.npy").write_bytes(x.read_bytes()[:50])
    (tmp_path / "none").write_bytes(b"nothing of the kind")
    save_file({"a": data()[1], "b": data()[1] + 1}, tmp_path / "two.safetensors")
    refused(tmp_path / "missing.npy", y, 3, "no such file")
    refused(x, tmp_path / "short.npy", 2, "as many labels")
    refused(tmp_path / "minus.npy", y, 2, "allowed are features")
    refused(x, tmp_path / "words.npy", 2, "allowed are real numbers")
    refused(x, tmp_path / "minus.npy", 2, "labels hold -39")
    refused(tmp_path / "cut.npy", y, 5, "no sound .npy")
    refused(tmp_path / "none", y, 5, "neither a .npy nor a sound safetensors")
    refused(x, tmp_path / "two.safetensors", 2, "has the tensors a, b")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"alpha": 0.01}, "the lower bound"),
        ({"alpha": 1.5}, "alpha is 1.5"),
        ({"ridge": -1.0}, "ridge is -1.0"),
        ({"power": -1.0}, "power is -1.0"),
        ({"steps": 0}, "steps is 0"),
        ({"n": 7}, "n is 7, the statistics are of 40"),
    ],
)
def test_requests_that_cannot_be_met_are_refused(given: dict[str, float], says: str, store: Path) -> None:
    with pytest.raises(BadRequest, match=says):
        protogen.fit(ClassStatistics.of(*data()), d=D, **given)  # type: ignore[arg-type]
    assert not store.exists()


def test_data_of_other_kinds_is_refused(store: Path) -> None:
    with pytest.raises(BadRequest, match="allowed are two tensors, two paths, or ClassStatistics alone"):
        protogen.fit(data()[0], "labels.npy", d=D)


def test_only_sets_of_the_same_kind_are_extended(store: Path) -> None:
    other = protogen.ensure(protogen.resolve("ebv", d=D, n=10, start="random", steps=5))
    with pytest.raises(BadRequest, match="is of ebv with d=8, n=10"):
        protogen.fit(*data(), d=D, extends=str(other.path))
    first = protogen.fit(*data(), d=D)
    with pytest.raises(BadRequest, match="a larger n"):
        protogen.fit(*data(), d=D, extends=str(first.path))
    more = ClassStatistics.of(*data(), CLASSES + 1)
    with pytest.raises(BadRequest, match="and stay"):
        protogen.fit(more, d=D, extends=str(first.path), alpha=0.5)


def test_a_spec_alone_says_what_it_lacks() -> None:
    with pytest.raises(BadRequest, match="statistics is None; allowed is the digest"):
        resolve("fit", d=8, n=40)
    with pytest.raises(BadRequest, match="give the same features and labels once more"):
        generate(resolve("fit", d=8, n=40, statistics="0" * 64))


def test_a_push_that_is_cut_short_goes_on_where_it_was(store: Path) -> None:
    statistics = ClassStatistics.of(*data())
    ((digest, tensors),) = statistics.held.items()
    spec = resolve("fit", d=D, n=CLASSES, statistics=digest, alpha=0.75)

    def interrupt(at: Progress) -> None:
        if at.step == 20:
            raise KeyboardInterrupt

    how = Run(held={digest: tensors}, folder=store / "state", report=interrupt)
    cut = generate(spec, how)
    assert cut.provenance.status == Status.INTERRUPTED
    assert cut.spec.options["ended"] == "interrupted at step 20"
    steps: list[int] = []
    whole = generate(spec, replace(how, report=lambda at: steps.append(at.step)))
    assert steps[0] > 15
    assert whole.provenance.status == Status.REACHED
    assert whole.stats is not None
    assert whole.stats.coherence.value <= 0.75 + 1e-6


def test_the_artifact_is_sound_in_the_store(store: Path, run: Command) -> None:
    made = protogen.fit(*data(), d=D, alpha=0.8)
    assert run("verify", "--all", "--full").code == 0
    assert [entry.spec for entry in Store(store).entries()] == [made.spec]
    assert run("show", made.path).code == 0
