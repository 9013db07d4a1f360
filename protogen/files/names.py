"""An artifact's place in its store: method, size, version and key in one path.

Every name is one that Windows allows, too: no `:`, no dot at the end, no device's.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from protogen.spec import METHOD, Spec

KEY = re.compile(r"[0-9a-f]{12}")
SIZE = re.compile(r"d([1-9][0-9]{0,17})-n([1-9][0-9]{0,17})")  # the folder of all sets of one size

_FILE = re.compile(r"v([1-9][0-9]{0,17})-([0-9a-f]{12})\.safetensors")


@dataclass(frozen=True, order=True)
class ArtifactName:
    """What the last three parts of an artifact's path say."""

    method: str
    d: int
    n: int
    version: int
    key: str


def artifact_path(spec: Spec, version: int) -> Path:
    """Build the path of an artifact inside its store."""
    return Path(spec.method, f"d{spec.d}-n{spec.n}", f"v{version}-{spec.key}.safetensors")


def parse_name(name: str) -> tuple[int, str] | None:
    """Read version and key from a file name; None where it has another form."""
    match = _FILE.fullmatch(name)
    return (int(match[1]), match[2]) if match else None


def parse_path(path: Path) -> ArtifactName | None:
    """Read what `artifact_path` wrote, whatever the store; None where the path has another form."""
    file, folder = parse_name(path.name), SIZE.fullmatch(path.parent.name)
    method = path.parent.parent.name
    if file is None or folder is None or not METHOD.fullmatch(method):
        return None
    return ArtifactName(method, int(folder[1]), int(folder[2]), *file)
