"""The public names as a user writes them: mypy checks this file strictly, and tests/test_public.py runs it."""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import protogen
import protogen.nn as heads
from protogen.errors import NotFound
from protogen.nn import CosineHead, FrozenPrototypes, MarginHead


def make(folder: Path) -> protogen.Prototypes:
    """Ask for a set, make it in memory, keep it, and read it again."""
    spec: protogen.Spec = protogen.resolve("ebv", d=6, n=8, start="random", steps=50)
    made: protogen.Prototypes = protogen.generate(spec, protogen.Run(device="cpu"))
    kept: protogen.Prototypes = protogen.ensure(spec, store=folder)
    path: Path | None = kept.path
    assert path is not None
    part: protogen.Prototypes = protogen.load(path, rows=slice(0, 3))
    rows: Tensor = part.tensor
    assert rows.shape == (3, made.d)
    return protogen.load(path)


def absent(folder: Path) -> str:
    """Ask an empty store, and return what the error says."""
    try:
        protogen.load("ebv", d=6, n=8, store=folder)
    except NotFound as error:
        return str(error)
    except protogen.ProtogenError as error:
        raise AssertionError("another error than the documented one") from error
    raise AssertionError("a set was found in an empty store")


def train(prototypes: protogen.Prototypes, steps: int = 20) -> tuple[float, float]:
    """Train a layer towards a set with two heads, and return the losses of the last step."""
    features, labels = torch.eye(prototypes.n), torch.arange(prototypes.n)
    frozen = FrozenPrototypes(prototypes)
    body = nn.Linear(prototypes.n, frozen.d)
    cosine, margin = CosineHead(frozen), MarginHead(frozen, 0.1)
    optimizer = torch.optim.Adam(body.parameters(), lr=0.05)
    losses = (0.0, 0.0)
    for _ in range(steps):
        optimizer.zero_grad()
        first: Tensor = cross_entropy(cosine(body(features)), labels)
        second: Tensor = margin.loss(body(features), labels)
        (first + second).backward()
        optimizer.step()
        losses = (first.item(), second.item())
    return losses


def look(folder: Path) -> dict[str, float]:
    """Say what is known of a set and of its size, in each way that there is."""
    spec = protogen.resolve("simplex", n=4)
    with protogen.show_progress(protogen.Run(tile=16)) as run:
        made = protogen.ensure(spec, run, store=folder)
    best: protogen.Prototypes = protogen.best("simplex", n=4, store=folder)
    path, other = made.path, best.path
    assert path is not None
    assert other is not None
    rows, stats = protogen.measure_file(path)
    differences: tuple[str, ...] = protogen.verify(path, full=True).differences
    same: bool = protogen.comparison(path, other).same
    page: Path = protogen.write_gallery(folder / "sets.html", store=folder).path
    return {
        "rows": rows.shape[0],
        "coherence": stats.coherence.value,
        "differences": len(differences),
        "same": same,
        "page": page.stat().st_size,
        "sets": len(protogen.artifacts(folder, method="simplex")),
        "sound": protogen.verify_store(folder).is_sound,
        "pruned": len(protogen.prune_store(folder, dry_run=True)),
        "lines": protogen.line_bounds(7, 28)[0].value,
        "points": protogen.point_bounds(3, 4)[0].value,
        "forms": len(protogen.listing(7, 28, points=False)["forms"]),
        "capacity": protogen.search_capacity(7, 1 / 3, store=folder).n,
        "ranks": protogen.plan(512, 50_000, ranks=8).ranks,
    }


def share(folder: Path) -> list[str]:
    """Pin a set, push it to a remote, and have it again from there, as the lock asks."""
    store, remote, lock = folder / "store", str(folder / "remote"), folder / "protogen.lock"
    path = protogen.ensure("simplex", n=4, store=store).path
    assert path is not None
    pin = protogen.pin("backbone", path, lock=lock)
    key: str = protogen.cache_key(protogen.pins(lock))
    pushed: bool = protogen.push(path, remotes=[remote])
    path.unlink()
    pulled: Path = protogen.pull(str(pin.path), remotes=[remote], store=store)
    synced = [each.synced.how for each in protogen.sync(lock, store=store)]
    pinned: protogen.Prototypes = protogen.pinned("backbone", lock=lock, store=store)
    gone: str = protogen.unpin("backbone", lock=lock).name
    assert (pushed, pulled, pinned.n) == (True, path, 4)
    return [*synced, gone, key]


def bring(folder: Path) -> list[protogen.Prototypes]:
    """Make sets of what there is: of data, of another set, of another program's file."""
    features, labels = torch.eye(6), torch.tensor([0, 0, 1, 1, 2, 2])
    fitted: protogen.Prototypes = protogen.fit(features, labels, d=2, store=folder)
    first = protogen.ensure("ebv", d=4, n=3, store=folder).path
    assert first is not None
    more: protogen.Prototypes = protogen.extend(first, 4, steps=50, store=folder)
    torch.save(torch.eye(3), folder / "rows.pt")
    brought: protogen.Prototypes = protogen.import_file(folder / "rows.pt", store=folder)
    return [fitted, more, brought]


def hold() -> list[heads.FixedPrototypes]:
    """Hold prototypes in each way that there is."""
    rows: Tensor = heads.random_signs(torch.eye(3), seed=1)
    frozen: heads.FixedPrototypes = heads.as_prototypes(rows)
    formula = heads.StructuredPrototypes("mub(p=7)", n=100)
    taken: Tensor = heads.place(frozen, torch.eye(3))
    placed = heads.PlacedPrototypes(frozen, taken)
    marks: list[heads.Fingerprint | None] = [frozen.fingerprint, formula.fingerprint]
    assert [mark.n for mark in marks if mark] == [3, 100]
    return [frozen, formula, placed]


def classify(folder: Path) -> dict[str, Tensor]:
    """Ask every head for its logits and its loss, on features that the rows themselves are."""
    centers = protogen.ensure("subcenters", d=3, n=3, per_class=2, store=folder)
    rows, labels = torch.eye(3), torch.arange(3)
    made: list[heads.Head] = [
        heads.CosineHead(rows),
        heads.MarginHead(rows, 0.1),
        heads.AssignmentHead(rows),
        heads.SubcenterHead(centers),
        heads.MultiCenterClassifier(d=3, n=3),
    ]
    assert [type(head) for head in made] == list(heads.HEADS)
    assert heads.ddp_ignore(made[0]) is made[0]
    losses = {type(head).__name__: head.loss(rows, labels) for head in made}
    modules = {"EBVLoss": heads.EBVLoss(rows), "ChunkedCosineLoss": heads.ChunkedCosineLoss(rows)}
    return losses | {name: module(rows, labels) for name, module in modules.items()}


def equations() -> dict[str, Tensor]:
    """Call every equation of the papers that stands alone, on three rows that are their own features."""
    rows, labels = torch.eye(3), torch.arange(3)
    centers, log_variance, noise = rows.unsqueeze(1), torch.zeros(3, 3), torch.zeros(3, 2, 3)
    logits: Tensor = heads.multicenter_logits(rows, rows, log_variance, noise)
    means, seen = torch.zeros(3, 3), torch.zeros(3)
    heads.update_means(means, seen, rows, labels)
    recall: tuple[float, ...] = heads.recall_at(torch.cat([rows, rows]), torch.cat([labels, labels]), [1])
    return {
        "cosine_logits": heads.cosine_logits(rows, rows),
        "ebv_loss": heads.ebv_loss(rows, rows, labels),
        "chunked_cross_entropy": heads.chunked_cross_entropy(rows, rows, labels, chunk=2),
        "margin_logits": heads.margin_logits(rows, rows, labels, 0.1),
        "max_margin": torch.tensor(heads.max_margin(protogen.generate("simplex", n=3))),
        "polytope_logits": heads.polytope_logits(rows, rows, 2.0),
        "polytope_loss": heads.polytope_loss(rows, rows, labels),
        "spherical_logits": heads.spherical_logits(rows, rows),
        "spherical_loss": heads.spherical_loss(rows, rows, labels),
        "cosine_loss": heads.cosine_loss(rows, rows, labels),
        "regression_loss": heads.regression_loss(rows, rows, labels),
        "assign": heads.assign(means, heads.as_prototypes(rows), labels),
        "subcenter_logits": heads.subcenter_logits(rows, centers),
        "subcenter_loss": heads.subcenter_loss(rows, centers, labels),
        "arcface_logits": heads.arcface_logits(rows, centers, labels),
        "l_softmax_logits": heads.l_softmax_logits(rows, centers, labels),
        "multicenter_centers": heads.multicenter_centers(rows, log_variance, noise),
        "multicenter_cross_entropy": heads.multicenter_cross_entropy(logits, labels),
        "variance_loss": heads.variance_loss(log_variance),
        "uniformity_loss": heads.uniformity_loss(rows),
        "fitting_temperature": torch.tensor(heads.fitting_temperature(10, 16)),
        "recall_at": torch.tensor(recall),
    }
