"""A matrix of vectors from any file, ours or not: safetensors, .npy, or what `torch.save` writes."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from protogen.errors import BadRequest, DiskError, IntegrityError, NotFound
from protogen.rows import HELD, InMemory, Rows, pieces

from .disk import disk_error
from .header import LONGEST

if TYPE_CHECKING:
    from torch import Tensor

FLOATS = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "F8_E8M0")
NEAR = 1e-2  # how far the norm of a vector that is meant to have norm 1 may lie from that, in a narrow dtype
SMALL = 1e-150  # a norm under this, or none that is finite, is taken again of numbers near one


@dataclass(frozen=True)
class Matrix:
    """The vectors (n, d) of a floating tensor in a file: its rows, or where it is `transposed` its columns.

    `name` is the tensor's in the file, or None where the file has no names.
    """

    path: Path
    name: str | None
    tensor: Any  # a Tensor, or what cuts one from the file
    shape: tuple[int, ...]
    transposed: bool = False

    def block(self, start: int, stop: int) -> "Tensor":
        """Return vectors start to stop - 1 as they are, (stop - start, d) float64."""
        block: Tensor = self.tensor[:, start:stop].T if self.transposed else self.tensor[start:stop]
        return block.double().contiguous()

    def scaled(self, start: int, stop: int) -> "tuple[Tensor, Tensor]":
        """Return vectors start to stop - 1 with norm 1, float64, and their norms (stop - start, 1).

        Raises BadRequest where a vector has no length.
        """
        block = self.block(start, stop)
        norms = block.norm(dim=1, keepdim=True)
        peaks = block.abs().amax(1, keepdim=True)
        sound = peaks.isfinite() & (peaks > 0)
        if not sound.all():
            row = int((~sound).nonzero()[0, 0])
            what = "column" if self.transposed else "row"
            raise BadRequest(
                f"{self.path}: {what} {start + row} has norm {norms[row].item()}; an angle needs a finite one above 0"
            )
        far = ~norms.isfinite() | (norms < SMALL)  # whose squares no float64 holds
        if far.any():
            block = block / peaks.where(far, 1.0)
            inner = block.norm(dim=1, keepdim=True)
            return block / inner, norms.where(~far, inner * peaks)
        return block / norms, norms


@dataclass(frozen=True)
class Scaled:
    """The vectors of a matrix with norm 1."""

    matrix: Matrix

    @property
    def shape(self) -> tuple[int, ...]:
        return self.matrix.shape

    def rows(self, start: int, stop: int) -> "Tensor":
        """Return rows start to stop - 1, float32. Raises BadRequest where a row has no length."""
        return self.matrix.scaled(start, stop)[0].float()


def read_matrix(path: Path, name: str | None = None, transpose: bool = False) -> Rows:
    """Read a matrix and scale its vectors to length one: (n, d) float32. Raises as `open_matrix`."""
    return scaled_rows(open_matrix(path, name, transpose))


def scaled_rows(matrix: Matrix) -> Rows:
    """The vectors of a matrix with norm 1; more than HELD bytes stay in the file. Raises BadRequest."""
    scaled = Scaled(matrix)
    return scaled if 4 * math.prod(matrix.shape) > HELD else InMemory.of(scaled)


def open_matrix(path: Path, name: str | None = None, transpose: bool = False) -> Matrix:
    """Open a floating tensor of a file as vectors (n, d), n and d at least 2.

    - `name`: the tensor; left out, `prototypes`, or the only one of two dimensions or more.
    - `transpose`: its columns are the vectors. Else its rows, and leading dimensions are flattened.

    A .npy file has one array without a name. Of a file of `torch.save` the tensor is the whole, or has a key; no
    object is made of it but tensors. Raises NotFound, DiskError, IntegrityError and BadRequest.
    """
    if not path.exists():
        raise NotFound(f"{path}: no such file; `protogen list` shows those of a store")
    if not path.is_file():
        raise DiskError(f"{path}: is a directory or a device, needed is a file; name a .safetensors file")
    if path.suffix.lower() in (".pkl", ".pickle"):
        raise BadRequest(f"{path}: is a pickle, which could run any program; save the matrix as safetensors or .npy")
    try:
        with path.open("rb") as file:
            start = file.read(8)
        if start.startswith(b"\x93NUMPY"):
            picked, shape, tensor = None, *_numpy(path, name)
        elif start.startswith(b"PK\x03\x04"):
            picked, shape, tensor = _saved(path, name)
        else:
            picked, shape, tensor = _safetensors(path, name, int.from_bytes(start, "little"))
    except OSError as error:
        raise disk_error(path, error) from error
    if transpose and len(shape) != 2:
        raise BadRequest(f"{path}: the tensor is {shape}; with transpose allowed is a matrix of two dimensions")
    size = (shape[1], shape[0]) if transpose else (math.prod(shape[:-1]), shape[-1])
    if min(size) < 2:
        raise BadRequest(f"{path}: the tensor is {shape}; allowed are floats of 2 x 2 or more")
    return Matrix(path, picked, tensor if len(shape) == 2 else tensor[:].flatten(0, -2), size, transpose)


def advice(matrix: Matrix) -> str | None:
    """Say that a matrix has its unit vectors the other way, where that is so."""
    import torch

    whole = torch.zeros(matrix.shape[1], dtype=torch.float64, device="cpu")
    unit = True
    for start, stop in pieces(matrix.shape):
        block = matrix.block(start, stop)
        unit = unit and bool(((block.norm(dim=1) - 1).abs() <= NEAR).all())
        whole += block.square().sum(0)
    if unit or not ((whole.sqrt() - 1).abs() <= NEAR).all():
        return None
    here, there = ("columns", "rows") if matrix.transposed else ("rows", "columns")
    how = "without transpose" if matrix.transposed else "with --transpose, in Python transpose=True"
    return f"note: the {there} of {matrix.path} have norm 1, its {here} have not: the {there} are measured {how}"


def _safetensors(path: Path, name: str | None, length: int) -> tuple[str, tuple[int, ...], Any]:
    """Name, shape and cutter of a tensor; one that is held whole where that is small."""
    from safetensors import SafetensorError, safe_open

    if length > LONGEST:  # the library would take three times as much memory
        got = f"begins with a header's length of {length} bytes, allowed are {LONGEST}"
        raise IntegrityError(f"{path}: is no sound safetensors file: it {got}; fetch or make it again")
    try:
        with safe_open(path, "pt") as file:
            slices = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118  # it has no iterator
            shapes = {key: tuple(each.get_shape()) for key, each in slices.items()}
            picked = _pick(path, shapes, name)
            shape, dtype = shapes[picked], slices[picked].get_dtype()
            _check_dtype(path, dtype, shape)
            stays = len(shape) == 2 and 4 * math.prod(shape) > HELD
            return picked, shape, slices[picked] if stays else file.get_tensor(picked)
    except SafetensorError as error:
        raise IntegrityError(f"{path}: is no sound safetensors file ({error}); fetch or make it again") from error


def _numpy(path: Path, name: str | None) -> tuple[tuple[int, ...], Any]:
    """Shape and cutter of the array of a .npy file."""
    import numpy as np
    import torch

    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, TypeError, SyntaxError) as error:
        said = " ".join(str(error).split())
        raise IntegrityError(f"{path}: is no sound .npy file of numbers ({said})", "write it anew") from error
    if name is not None:
        raise BadRequest(f"{path}: tensor {name!r}; a .npy file has one array without a name: leave --tensor out")
    if array.ndim < 2:
        raise BadRequest(f"{path}: the array is {array.shape}; allowed are floats of 2 x 2 or more")
    if array.dtype.kind != "f" or array.dtype.itemsize > 8:
        _check_dtype(path, str(array.dtype), array.shape)

    def cut(key: Any) -> torch.Tensor:
        part = np.array(array[key])
        return torch.from_numpy(part.astype(part.dtype.newbyteorder("="), copy=False))

    return tuple(array.shape), _Cut(cut)


@dataclass(frozen=True)
class _Cut:
    """What answers to `cut[start:stop]`."""

    cut: "Callable[[Any], Tensor]"

    def __getitem__(self, key: Any) -> "Tensor":
        return self.cut(key)


def _saved(path: Path, name: str | None) -> tuple[str | None, tuple[int, ...], Any]:
    """Name, shape and tensor of a file that `torch.save` wrote."""
    import torch

    try:
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except OSError:
        raise
    except Exception as error:  # of the archive, the pickle in it, or what it asks for; of many kinds
        raise IntegrityError(
            f"{path}: is no sound file of tensors alone, as torch.save writes them ({type(error).__name__})",
            "save the matrix as safetensors or .npy",
        ) from error
    if isinstance(found, torch.Tensor):
        if name is not None:
            raise BadRequest(f"{path}: tensor {name!r}; the file is one tensor without a name: leave --tensor out")
        tensors, picked = {"": found}, ""
    else:
        among = found.items() if isinstance(found, Mapping) else ()
        tensors = {str(key): value for key, value in among if isinstance(value, torch.Tensor)}
        picked = _pick(path, {key: tuple(value.shape) for key, value in tensors.items()}, name)
    tensor = tensors[picked].detach()
    shape, dtype = tuple(tensor.shape), str(tensor.dtype).removeprefix("torch.")
    if not tensor.dtype.is_floating_point or "float4" in dtype:
        _check_dtype(path, dtype, shape)
    if tensor.dim() < 2 or tensor.layout != torch.strided:
        kind = "" if tensor.layout == torch.strided else f"{tensor.layout} "
        raise BadRequest(f"{path}: the tensor is {kind}{shape}; allowed are dense floats of 2 x 2 or more")
    return picked or None, shape, tensor


def _check_dtype(path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    if dtype not in FLOATS:
        allowed = f"{', '.join(FLOATS[:-1])} and {FLOATS[-1]}"
        raise BadRequest(f"{path}: the tensor is {dtype} {shape}; allowed are {allowed}: convert it first")


def _pick(path: Path, shapes: Mapping[str, tuple[int, ...]], name: str | None) -> str:
    matrices = [key for key, shape in shapes.items() if len(shape) >= 2]
    if name is None:
        name = "prototypes" if "prototypes" in matrices else matrices[0] if len(matrices) == 1 else None
    if name not in matrices:
        raise BadRequest(
            f"{path}: tensor {name!r} is no matrix of it; its matrices are {', '.join(sorted(matrices)) or 'none'}, "
            "name one with --tensor"
        )
    return name
