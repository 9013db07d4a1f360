"""A matrix of rows from any safetensors file, ours or not, to be measured."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from protogen.errors import BadRequest, DiskError, IntegrityError, NotFound
from protogen.rows import HELD, InMemory, Rows

from .disk import disk_error
from .header import LONGEST

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Scaled:
    """The rows (n, d) of a tensor, in memory or in an open safetensors file, scaled to length one when asked for.

    Raises BadRequest where a row has no length.
    """

    path: Path
    tensor: Any  # a Tensor, or what safetensors cuts one from
    shape: tuple[int, ...]

    def rows(self, start: int, stop: int) -> "Tensor":
        """Return rows start to stop - 1, float32."""
        block = self.tensor[start:stop].double()
        norms = block.norm(dim=1, keepdim=True)
        sound = norms.isfinite() & (norms > 0)
        if not sound.all():
            row = int((~sound).nonzero()[0, 0])
            norm = norms[row].item()
            raise BadRequest(f"{self.path}: row {start + row} has norm {norm}; an angle needs a finite one above 0")
        scaled: Tensor = (block / norms).float()  # not `normalize`, which takes a norm under 1e-12 for one
        return scaled


def read_matrix(path: Path, name: str | None = None) -> Rows:
    """Read a floating tensor and scale its rows to length one: (n, d) float32, n and d at least 2.

    Leading dimensions are flattened. The tensor is the one named, else `prototypes`, else the only
    one of two dimensions or more. A matrix of more than HELD bytes stays in the file. Raises NotFound,
    IntegrityError and BadRequest.
    """
    from safetensors import SafetensorError, safe_open

    if not path.exists():
        raise NotFound(f"{path}: no such file; `protogen list` shows those of a store")
    if not path.is_file():
        raise DiskError(f"{path}: is a directory or a device, needed is a file; name a .safetensors file")
    try:
        with path.open("rb") as start:
            length = int.from_bytes(start.read(8), "little")
        if length > LONGEST:  # the library would take three times as much memory
            got = f"begins with a header's length of {length} bytes, allowed are {LONGEST}"
            raise IntegrityError(f"{path}: is no sound safetensors file: it {got}; fetch or make it again")
        with safe_open(path, "pt") as file:
            names = file.keys()
            shapes = {key: file.get_slice(key).get_shape() for key in names}
            picked = _pick(path, shapes, name)
            shape = shapes[picked]
            stays = len(shape) == 2 and 4 * math.prod(shape) > HELD
            tensor = file.get_slice(picked) if stays else file.get_tensor(picked).flatten(0, -2)
    except SafetensorError as error:
        raise IntegrityError(f"{path}: is no sound safetensors file ({error}); fetch or make it again") from error
    except OSError as error:
        raise disk_error(path, error) from error
    part = tensor[:1]
    rows = (math.prod(shape[:-1]), shape[-1])
    if not part.is_floating_point() or min(rows) < 2:
        raise BadRequest(
            f"{path}: the tensor is {part.dtype} {tuple(shape)}; allowed are floats (n, d) of 2 x 2 or more"
        )
    scaled = Scaled(path, tensor, rows)
    return scaled if stays else InMemory.of(scaled)


def _pick(path: Path, shapes: dict[str, list[int]], name: str | None) -> str:
    matrices = [key for key, shape in shapes.items() if len(shape) >= 2]
    if name is None:
        name = "prototypes" if "prototypes" in matrices else matrices[0] if len(matrices) == 1 else None
    if name not in matrices:
        raise BadRequest(
            f"{path}: tensor {name!r} is no matrix of it; its matrices are {', '.join(sorted(matrices)) or 'none'}, "
            "name one with --tensor"
        )
    return name
