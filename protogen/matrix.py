"""A matrix of rows from any safetensors file, ours or not, to be measured."""

from pathlib import Path
from typing import TYPE_CHECKING

from .errors import BadRequest, IntegrityError, NotFound
from .header import disk_error

if TYPE_CHECKING:
    from torch import Tensor


def read_matrix(path: Path, name: str | None = None) -> "Tensor":
    """Read a floating tensor and scale its rows to length one: (n, d) float32, n and d at least 2.

    Leading dimensions are flattened. The tensor is the one named, else `prototypes`, else the only
    one of two dimensions or more. Raises NotFound, IntegrityError and BadRequest.
    """
    from safetensors import SafetensorError, safe_open
    from torch.nn.functional import normalize

    if not path.exists():
        raise NotFound(f"{path}: no such file; `protogen list` shows those of a store")
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
    rows = rows.double()
    norms = rows.norm(dim=1)
    if not (norms.isfinite() & (norms > 0)).all():
        row = int((~(norms.isfinite() & (norms > 0))).nonzero()[0])
        raise BadRequest(f"{path}: row {row} has norm {norms[row].item()}; an angle needs a finite one above 0")
    return normalize(rows, dim=1).float()


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
