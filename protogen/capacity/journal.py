"""The journal of a search: its finished probes and its best set, so that the search can go on after a kill."""

import hashlib
import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from protogen.errors import IntegrityError
from protogen.files.disk import disk_error, kept, sync, temporary
from protogen.rows import InMemory, Rows
from protogen.spec import Spec, canonical_json

if TYPE_CHECKING:
    from torch import Tensor


class Outcome(StrEnum):
    """How a probe ended: with all its lines, with more than were known before, or with no more."""

    REACHED = "reached"
    PRUNED = "pruned"
    MISSED = "missed"


@dataclass(frozen=True)
class Probe:
    """Record one try at n lines.

    - `coherence`: the lowest that a descent got to.
    - `kept`: how many lines were left within alpha; 0 where these were no more than were known.
    - `steps`, `seconds`: what the try took.
    """

    n: int
    outcome: Outcome
    coherence: float
    kept: int
    steps: int
    seconds: float


@dataclass(frozen=True)
class Journal:
    """Keep the journal of the search that a Spec names, in a folder that need not exist."""

    folder: Path
    spec: Spec

    @property
    def path(self) -> Path:
        """The record, JSON."""
        return self.folder / "journal.json"

    def save(self, probes: tuple[Probe, ...], source: Rows | None, done: bool = False) -> None:
        """Write the set, if there is one, then the record that names it; then remove other sets.

        A kill at any moment leaves a record and the set that it names. Raises DiskError.
        """
        try:
            with kept(self.folder):
                self._write(probes, source, done)
        except OSError as error:
            raise disk_error(self.folder, error) from error

    def _write(self, probes: tuple[Probe, ...], source: Rows | None, done: bool) -> None:
        from safetensors.torch import save

        digest = None
        if source is not None:
            rows = InMemory.of(source).tensor
            digest = _digest(rows)
            with temporary(self.folder) as unnamed:
                unnamed.write_bytes(save({"prototypes": rows}))  # `save_file` lets no other user read
                sync(unnamed)
                unnamed.replace(self._set(digest))
        content = {
            "spec": self.spec.to_dict(),
            "probes": [asdict(probe) for probe in probes],
            "set": digest,
            "done": done,
        }
        with temporary(self.folder) as unnamed:
            unnamed.write_text(json.dumps({**content, "check": _check(content)}))
            sync(unnamed)
            unnamed.replace(self.path)
        sync(self.folder)
        for other in self.folder.glob("*.safetensors"):
            if digest is None or other != self._set(digest):
                other.unlink(missing_ok=True)

    def load(self) -> "tuple[tuple[Probe, ...], Tensor | None, bool]":
        """Read the probes, the set, and whether the search is done.

        They are (), None and False where there is no record. Raises DiskError, and IntegrityError where the
        record, or the set that it names, is damaged or gone.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            if not self.path.exists():
                return (), None, False
            content = json.loads(self.path.read_text())
            check = content.pop("check")
            sound = check == _check(content) and content["spec"] == self.spec.to_dict()
            rows = None
            if sound and content["set"] is not None:
                rows = load_file(self._set(content["set"]))["prototypes"].clone()
                sound = _digest(rows) == content["set"]
            if sound:
                probes = (Probe(**{**probe, "outcome": Outcome(probe["outcome"])}) for probe in content["probes"])
                return tuple(probes), rows, content["done"]
        except FileNotFoundError as error:
            raise self._damaged() from error
        except OSError as error:
            raise disk_error(self.path, error) from error
        except (ValueError, LookupError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
            raise self._damaged() from error  # RuntimeError: the set was removed while it was opened, too
        raise self._damaged()

    def _damaged(self) -> IntegrityError:
        return IntegrityError(f"{self.path}: the journal, or the set that it names, is damaged")

    def _set(self, digest: str) -> Path:
        return self.folder / f"{digest[:12]}.safetensors"


def _digest(rows: "Tensor") -> str:
    return hashlib.sha256(rows.numpy().tobytes()).hexdigest()


def _check(content: dict[str, Any]) -> str:
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()
