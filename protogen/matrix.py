"""A matrix of rows from any safetensors file, ours or not, to be measured."""

from pathlib import Path
from typing import TYPE_CHECKING

from .errors import BadRequest, DiskError, IntegrityError, NotFound
from .header import disk_error
from .solution import FILL_ROWS

if TYPE_CHECKING:
    from torch import Tensor


def read_matrix(path: Path, name: str | None = None) -> "Tensor":
    """Read a floating tensor and scale its rows to length one: (n, d) float32, n and d at least 2.

    Leading dimensions are flattened. The tensor is the one named, else `prototypes`, else the only
    one of two dimensions or more. Raises NotFound, IntegrityError and BadRequest.
    """
    import torch
    from safetensors import SafetensorError, safe_open

    if not path.exists():
        raise NotFound(f"{path}: no such file; `protogen list` shows those of a store")
    if not path.is_file():
        raise DiskError(f"{path}: is a directory or a device, needed is a file; name a .safetensors file")
    try:
        with safe_open(path, "pt") as file:
            names = file.keys()
            shapes = {key: file.get_slice(key).get_shape() for key in names}
            tensor = file.get_tensor(_pick(path, shapes, name))
    except SafetensorError as error:
        raise IntegrityError(f"{path}: is no sound safetensors file ({error}); fetch or make it again") from error
    except OSError as error:
        raise disk_error(path, error) from error
    rows = tensor.flatten(0, -2)
    if not rows.is_floating_point() or min(rows.shape) < 2:
        raise BadRequest(
            f"{path}: the tensor is {tensor.dtype} {tuple(tensor.shape)}; allowed are floats (n, d) of 2 x 2 or more"
        )
    unit = torch.empty(rows.shape)
    for start in range(0, len(rows), FILL_ROWS):
        block = rows[start : start + FILL_ROWS].double()
        norms = block.norm(dim=1, keepdim=True)
        sound = norms.isfinite() & (norms > 0)
        if not sound.all():
            row = int((~sound).nonzero()[0, 0])
            raise BadRequest(
                f"{path}: row {start + row} has norm {norms[row].item()}; an angle needs a finite one above 0"
            )
        unit[start : start + FILL_ROWS] = block / norms  # not `normalize`, which takes a norm under 1e-12 for one
    return unit


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
