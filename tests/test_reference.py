"""The committed artifacts: a formula gives today what it gave, bit for bit; records are what their files say."""

import subprocess
from pathlib import Path

import pytest
import torch

import protogen
from protogen.files.reading import read
from protogen.files.verify import differences
from protogen.files.writing import write
from protogen.measuring.measure import measure
from protogen.methods import method_of
from protogen.store.store import Store

ROOT = Path(__file__).parents[1]
STORE = ROOT / "prototypes"
MOST = 5_000_000  # bytes of all

# Each with the digest of its content, which never changes: a file that differs is wrong, not old.
DIGESTS = {
    "cube/d6-n64/v1-913f60f58fd2.safetensors": "c0867a96c6b4b26169dd1c1071553b6fd4733261696f4ec54f911fc590449d6d",
    "ebv/d13-n26/v1-54d6dce7c8bb.safetensors": "d27a6c00f26912204fea2c16b72bb3590a8700589e908bacaa349c3ffc148a4d",
    "ebv/d23-n276/v1-809398fb3e23.safetensors": "f8a725536964dd37fecf29d5d9266f763cbcefcd3e91c398aa054ca3b35f6cb5",
    "ebv/d256-n1000/v1-aa58dc0969a6.safetensors": "37fdbccd7621086888d484371b12e90fabc281ed0e1fa47b8609c9e9a7ec8fa3",
    "ebv/d35-n120/v1-e96aa5b644cb.safetensors": "229c8cc9ef6429ce2d75e1c68e9d2bad6cee0d9355fa547af75eafbd60a5f767",
    "ebv/d64-n1000/v1-7cb97a2dbc75.safetensors": "07c41b3470b56f09d73e379ad7db27614f38bbf0ed0516c03e7172e1d42b57ab",
    "ebv/d7-n28/v1-36ec16ea74a6.safetensors": "745c475521d7ad51a7262e33a7da9a07bfd7e828b870c23ac6b17dfc458c42b6",
    "orthoplex/d32-n64/v1-9e987dc615ff.safetensors": "d09dec8817d1deab07b9773be2f164bf14677415e7a24d4fe45f5aa65f49d501",
    "simplex/d99-n100/v1-dd373f98f99d.safetensors": "fc2fdc32295dfcdc5e0e2c2b4bbce801fe504bc6cca4c68a197b5219dd915280",
    "uniform/d8-n240/v1-75b8e84c20a1.safetensors": "9765ed3d9c85573d0774890edfa240685091db0256851f274711efe7c04a0870",
}


# Sets that a search has found, each with its figure and the lowest that was published (BENCHMARKS.md).
RECORDS: dict[str, tuple[float, float]] = {
    "ebv/d10-n66/v1-cc270b3f4671.safetensors": (0.3721692, 0.3849151),
    "ebv/d11-n24/v1-d5e823c9d967.safetensors": (0.2360680, 0.2441326),
    "ebv/d12-n52/v1-97bf05383840.safetensors": (0.2926156, 0.3075682),
    "ebv/d12-n74/v1-98a1444add63.safetensors": (0.3268796, 0.3317411),
    "ebv/d12-n89/v1-97dc9b35c1b8.safetensors": (0.3333397, 0.3575455),
    "ebv/d13-n54/v1-77acd9ad2e5d.safetensors": (0.2691796, 0.2786227),
    "ebv/d16-n49/v1-2c63748ab6af.safetensors": (0.2276109, 0.2336790),
    "ebv/d7-n100/v1-364d02dfc20d.safetensors": (0.6000000, 0.6059521),
    "ebv/d8-n240/v1-86d2d26236ab.safetensors": (0.6572146, 0.7071068),
    "uniform/d16-n688/v1-252b15a1f727.safetensors": (0.3903813, 0.3972603),
}
COMMITTED = sorted([*DIGESTS, *RECORDS])


@pytest.mark.parametrize("name", DIGESTS)
def test_a_fresh_generation_is_the_file(tmp_path: Path, name: str) -> None:
    kept = read(STORE / name, full=True)
    made = protogen.generate(kept.spec)
    assert write(tmp_path / Path(name).name, made) == kept.digest == DIGESTS[name]
    assert torch.equal(made.tensor.view(torch.int32), kept.tensor.view(torch.int32))
    assert (made.spec, made.facts, made.tensors) == (kept.spec, kept.facts, {})
    assert made.provenance.reproducible == kept.provenance.reproducible == "exact"
    assert made.provenance.status == kept.provenance.status
    # Sums of cosines have other last digits on another processor, as the tolerances of `protogen verify` say.
    assert kept.stats is not None
    assert made.stats is not None
    assert differences(kept.stats, made.stats, kept.facts) == []
    for count in ("pairs", "duplicate_pairs", "antipodal_pairs"):
        assert getattr(made.stats, count) == getattr(kept.stats, count)


def test_the_store_has_them_and_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROTOGEN_STORE", str(STORE))
    here = {str(entry.path.relative_to(STORE)): entry for entry in Store(STORE).entries()}
    for name, digest in DIGESTS.items():
        of, entry = protogen.load(STORE / name).spec, here[name]
        assert (entry.error, entry.digest, entry.spec) == (None, digest, of)
        assert protogen.load(of.method, d=of.d, n=of.n, key=of.key).digest == digest
        assert protogen.ensure(of).path == STORE / name
    assert protogen.load("ebv", d=64, n=1000, alpha=0.125).spec.options["start"] == "closed-form:kerdock(k=3)"


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_is_below_what_was_published(name: str) -> None:
    kept, (figure, published) = read(STORE / name, full=True), RECORDS[name]
    assert kept.stats is not None
    assert differences(kept.stats, measure(kept.source), kept.facts) == []
    found = kept.stats.max_cos.value if kept.spec.method == "uniform" else kept.stats.coherence.value
    assert found == pytest.approx(figure, abs=1e-7)
    assert found < published - 1e-6
    assert method_of(kept.spec).name == kept.spec.method  # the request can be made again


def test_nothing_else_is_committed() -> None:
    named = [line for line in (ROOT / ".gitignore").read_text().splitlines() if line.startswith("!/prototypes/")]
    assert named == ["!/prototypes/**/", *(f"!/prototypes/{name}" for name in COMMITTED)]
    assert sum((STORE / name).stat().st_size for name in COMMITTED) < MOST
    if (ROOT / ".git").exists():  # not so in an archive of the sources
        listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", "prototypes"]
        found = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        there = {path for path in found.split("\0") if path and (ROOT / path).exists()}
        assert there == {f"prototypes/{name}" for name in COMMITTED}
