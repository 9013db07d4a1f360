"""All heads in the frameworks that people train with: what works, what is refused with which line, what is wrong.

python tests/benchmarks/bench_frameworks.py [case]

prints the table. A cell is "works" where the logits afterwards are those of a head that was built anew on the same
set, bit for bit; the line of a refusal where the framework or the head raised it before any logit; else "WRONG".
"""

import copy
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from derivative_cases import DERIVATIVES
from torch import Tensor, distributed, nn
from torch.optim.swa_utils import AveragedModel, get_ema_avg_fn, get_ema_multi_avg_fn

import protogen
from protogen.errors import BadRequest
from protogen.nn import (
    AssignmentHead,
    CosineHead,
    FrozenPrototypes,
    MarginHead,
    MultiCenterClassifier,
    SubcenterHead,
    as_prototypes,
)
from protogen.store.access import ensure_path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
D, N, MORE = 16, 40, 50
FORMULA = "kerdock(k=2)"
DTYPES = (torch.float32, torch.bfloat16)


@dataclass(frozen=True)
class Sets:
    """Files of a store: a set, another of the same size, one that begins with the first; and of sub-centres."""

    root: Path

    def lines(self, which: str = "one") -> Path:
        asked: dict[str, dict[str, Any]] = {
            "one": {"n": N, "seed": 0},
            "other": {"n": N, "seed": 1},
            "more": {"n": MORE, "extends": str(self.lines())} if which == "more" else {},
        }
        spec = protogen.resolve("ebv", d=D, start="random", steps=5, **asked[which])
        return ensure_path(spec, self._run(which), store=self.root)

    def _run(self, which: str) -> protogen.Run:
        return protogen.Run(files=(self.lines(),)) if which == "more" else protogen.Run()

    def formula(self, which: str = "one") -> Path:
        if which == "more":
            spec = protogen.resolve("ebv", d=D, n=120, extends=str(self.formula()))
            assert spec.options["start"] == f"closed-form:{FORMULA}", "the next rows of the same form"
        else:
            spec = protogen.resolve("ebv", d=D, n={"one": 100, "other": 99}[which], start="closed-form")
        return ensure_path(spec, store=self.root)

    def centers(self, which: str = "one") -> Path:
        n, seed = {"one": (N, 0), "other": (N, 1), "more": (MORE, 0)}[which]
        return ensure_path(protogen.resolve("subcenters", d=D, n=n, seed=seed), store=self.root)


Make = Callable[[Sets, str], nn.Module]
HEADS: dict[str, Make] = {
    "CosineHead": lambda sets, which: CosineHead(sets.lines(which)),
    "CosineHead, rows kept": lambda sets, which: CosineHead(FrozenPrototypes(sets.lines(which), persistent=True)),
    "CosineHead, by formula": lambda sets, which: CosineHead(as_prototypes(sets.formula(which))),
    "CosineHead, bfloat16 rows": lambda sets, which: CosineHead(
        FrozenPrototypes(sets.lines(which), dtype=torch.bfloat16)
    ),
    "MarginHead": lambda sets, which: MarginHead(sets.lines(which), 0.2),
    "AssignmentHead": lambda sets, which: AssignmentHead(sets.lines(which)),
    "SubcenterHead": lambda sets, which: SubcenterHead(sets.centers(which)),
    "MultiCenterClassifier": lambda sets, which: MultiCenterClassifier(d=D, n=MORE if which == "more" else N),
}


class Net(nn.Module):
    """A network of one layer and a head on it, the layer before the head."""

    def __init__(self, head: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.body = nn.Linear(4, D)
        self.head = head()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


@dataclass(frozen=True)
class Trial:
    """One head in one dtype, with a folder of its own."""

    sets: Sets
    make: Make
    dtype: torch.dtype
    folder: Path

    def net(self, which: str = "one") -> Net:
        return Net(lambda: self.make(self.sets, which)).to(self.dtype).eval()

    def check(self, net: nn.Module, which: str = "one") -> None:
        """Raise AssertionError unless the logits are those of a head built anew, with the learned weights of `net`."""
        anew = self.net(which)
        named = dict(net.named_parameters())
        with torch.no_grad():
            for name, parameter in anew.named_parameters():
                parameter.copy_(next(value for key, value in named.items() if key.endswith(name)))
        x = torch.linspace(-1, 1, 12, dtype=torch.float32).view(3, 4).to(next(iter(named.values())).dtype)
        anew.to(x.dtype)
        with torch.no_grad():
            found, expected = net.eval()(x), anew(x)
        assert torch.equal(found, expected), "the logits are others"


def shaken(net: nn.Module) -> nn.Module:
    """Change what is learned, as a step of training does."""
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.01)
    return net


CASES: dict[str, Callable[[Trial], None]] = {**DERIVATIVES}


def case(name: str) -> Callable[[Callable[[Trial], None]], Callable[[Trial], None]]:
    def register(function: Callable[[Trial], None]) -> Callable[[Trial], None]:
        CASES[name] = function
        return function

    return register


# Averages


def both_check(trial: Trial, net: nn.Module, average: nn.Module) -> None:
    trial.check(net)
    trial.check(average)


@case("average in place, yolov5 and YOLOX")
def _(trial: Trial) -> None:
    net = trial.net()
    average = copy.deepcopy(net)
    for _ in range(3):
        state = shaken(net).state_dict()
        for key, value in average.state_dict().items():
            if value.dtype.is_floating_point:
                value *= 0.9
                value += 0.1 * state[key].detach()
    both_check(trial, net, average)


@case("average in place, timm ModelEmaV2")
def _(trial: Trial) -> None:
    net = trial.net()
    average = copy.deepcopy(net)
    for _ in range(3):
        shaken(net)
        for mine, theirs in zip(average.state_dict().values(), net.state_dict().values(), strict=True):
            mine.copy_(0.9 * mine + 0.1 * theirs)
    trial.check(net)
    trial.check(average)


@case("buffers of a copy written in place")
def _(trial: Trial) -> None:
    net = trial.net()
    average = copy.deepcopy(net)
    if not isinstance(net.head, AssignmentHead):  # its assignment is state, not a constant
        for buffer in average.buffers():
            buffer.zero_()
    else:
        for buffer in average.head.prototypes.buffers():
            buffer.zero_()
    both_check(trial, net, average)


def averaged(**options: Any) -> Callable[[Trial], None]:
    def run(trial: Trial) -> None:
        net = trial.net()
        average = AveragedModel(net, **options)
        for _ in range(3):
            average.update_parameters(shaken(net))
        both_check(trial, net, average.module)
        again = AveragedModel(trial.net(), **options)
        again.load_state_dict(average.state_dict())
        trial.check(again.module)

    return run


CASES["AveragedModel, use_buffers"] = averaged(use_buffers=True)
CASES["AveragedModel, avg_fn of buffers"] = averaged(avg_fn=get_ema_avg_fn(0.9), use_buffers=True)
CASES["AveragedModel, multi_avg_fn of buffers"] = averaged(multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)


@case("Lightning EMAWeightAveraging")
def _(trial: Trial) -> None:
    import lightning
    from lightning.pytorch.callbacks import EMAWeightAveraging

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = trial.net()

        def training_step(self, batch: Tensor, _: int) -> Tensor:
            return self.net(batch).float().logsumexp(-1).mean()

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), 0.01)

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    batches = torch.utils.data.DataLoader(torch.randn(8, 4).to(trial.dtype), batch_size=2)
    module = Module()
    trainer = lightning.Trainer(
        max_epochs=1,
        accelerator="cpu",
        callbacks=[EMAWeightAveraging(decay=0.9)],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=trial.folder,
    )
    trainer.fit(module, batches)
    trainer.save_checkpoint(trial.folder / "last.ckpt")
    trial.check(module.net)
    saved = torch.load(trial.folder / "last.ckpt", weights_only=False)["state_dict"]
    again = Module()
    again.load_state_dict(saved)
    trial.check(again.net)


# Checkpoints


def cast(dtype: torch.dtype) -> Callable[[Trial], None]:
    def run(trial: Trial) -> None:
        state = shaken(trial.net()).state_dict()
        net = trial.net()
        net.load_state_dict({key: value.to(dtype) for key, value in state.items()})
        trial.check(net)

    return run


for one in (torch.float32, torch.bfloat16, torch.float16):
    CASES[f"checkpoint cast whole to {str(one).removeprefix('torch.')}"] = cast(one)


@case("checkpoints averaged in float32 (fairseq, Flower, soups)")
def _(trial: Trial) -> None:
    first, second = trial.net().state_dict(), shaken(trial.net()).state_dict()
    net = trial.net()
    net.load_state_dict({key: (first[key].float() + second[key].float()) / 2 for key in first})
    trial.check(net)


def refused(trial: Trial, load: Callable[[Net], None]) -> None:
    """Have a load into other prototypes; raise what it raised if nothing has changed, or AssertionError."""
    net = trial.net("other")
    before = copy.deepcopy(net)
    try:
        load(net)
    except BaseException as error:
        for mine, theirs in zip(net.state_dict().values(), before.state_dict().values(), strict=True):
            assert torch.equal(mine, theirs), "the load was refused and has changed the model"
        trial.check(net, "other")
        raise RuntimeError(str(error).strip().splitlines()[-1]) from error
    if not isinstance(net.head, MultiCenterClassifier):  # it has no fixed prototypes
        raise AssertionError("other prototypes were loaded")


@case("load_state_dict of other prototypes")
def _(trial: Trial) -> None:
    state = shaken(trial.net()).state_dict()
    refused(trial, lambda net: net.load_state_dict(state))


@case("dcp.load, the same prototypes")
def _(trial: Trial) -> None:
    from torch.distributed import checkpoint

    checkpoint.save(shaken(trial.net()).state_dict(), checkpoint_id=trial.folder)
    net = trial.net()
    state = net.state_dict()
    checkpoint.load(state, checkpoint_id=trial.folder)
    net.load_state_dict(state)
    trial.check(net)


@case("dcp.load of other prototypes")
def _(trial: Trial) -> None:
    from torch.distributed import checkpoint

    checkpoint.save(shaken(trial.net()).state_dict(), checkpoint_id=trial.folder)
    refused(trial, lambda net: checkpoint.load(net.state_dict(), checkpoint_id=trial.folder))


# Loaders that make a model on "meta" first


@case("meta, to_empty, load_state_dict")
def _(trial: Trial) -> None:
    state = shaken(trial.net()).state_dict()
    with torch.device("meta"):
        net = trial.net()
    net.to_empty(device="cpu")
    net.load_state_dict(state)
    trial.check(net)


@case("meta, load_state_dict(assign=True)")
def _(trial: Trial) -> None:
    state = shaken(trial.net()).state_dict()
    with torch.device("meta"):
        net = trial.net()
    net.load_state_dict(state, assign=True)
    trial.check(net)


def pretrained(trial: Trial, which: str = "one", **options: Any) -> nn.Module:
    from transformers import PretrainedConfig, PreTrainedModel

    class Config(PretrainedConfig):
        model_type = "net"

    class Model(PreTrainedModel):
        config_class = Config

        def __init__(self, config: Config) -> None:
            super().__init__(config)
            self.net = Net(lambda: trial.make(trial.sets, config.which))
            self.post_init()

        def _init_weights(self, module: nn.Module) -> None:
            pass

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x)

    shaken(Model(Config(which="one")).to(trial.dtype)).save_pretrained(trial.folder)
    return Model.from_pretrained(trial.folder, config=Config(which=which), dtype=trial.dtype, **options)


@case("transformers from_pretrained")
def _(trial: Trial) -> None:
    trial.check(pretrained(trial))


@case("transformers, other prototypes")
def _(trial: Trial) -> None:
    try:
        net = pretrained(trial, "other")
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if "sha256" in line or "mismatch" in line.lower()]
        raise RuntimeError(lines[-1] if lines else str(error)) from error
    assert "MultiCenter" in repr(net) or trial.check(net, "other"), "other prototypes were loaded"


@case("transformers, ignore_mismatched_sizes")
def _(trial: Trial) -> None:
    trial.check(pretrained(trial, "other", ignore_mismatched_sizes=True), "other")


@case("accelerate load_checkpoint_and_dispatch")
def _(trial: Trial) -> None:
    from accelerate import init_empty_weights, load_checkpoint_and_dispatch
    from safetensors.torch import save_model

    save_model(shaken(trial.net()), str(trial.folder / "model.safetensors"))
    with init_empty_weights(include_buffers=True):
        net = trial.net()
    net = load_checkpoint_and_dispatch(net, str(trial.folder / "model.safetensors"), device_map={"": "cpu"})
    trial.check(net)


@contextmanager
def group() -> Iterator[None]:
    """A process group of this process alone."""
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        yield
    finally:
        distributed.destroy_process_group()


@case("FSDP2 from meta, one process")
def _(trial: Trial) -> None:
    from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import DTensor

    state = shaken(trial.net()).state_dict()
    with group():
        with torch.device("meta"):
            net = trial.net()
        mesh = init_device_mesh("cpu", (1,))
        fully_shard(net, mesh=mesh)
        net.to_empty(device="cpu")
        set_model_state_dict(net, state, options=StateDictOptions(full_state_dict=True, strict=True))
        x = torch.linspace(-1, 1, 12).view(3, 4).to(trial.dtype)
        with torch.no_grad():
            found = net.eval()(x)
        whole = {
            key: value.full_tensor() if isinstance(value, DTensor) else value for key, value in net.state_dict().items()
        }
    plain = trial.net()
    plain.load_state_dict(whole)
    with torch.no_grad():
        assert torch.equal(found, plain(x)), "the logits are others"
    trial.check(plain)


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


for one in (torch.bfloat16, torch.float64):

    def under(trial: Trial, one: torch.dtype = one) -> None:
        state = shaken(trial.net()).state_dict()
        with default_dtype(one):
            net = trial.net()
        net.load_state_dict(state)
        trial.check(net)

    CASES[f"built under default dtype {str(one).removeprefix('torch.')}"] = under


# Changing classes


@case("a checkpoint of 40 classes into the set that extends it")
def _(trial: Trial) -> None:
    state = shaken(trial.net()).state_dict()
    net = trial.net("more")
    net.load_state_dict(state)
    trial.check(net, "more")


@case("strict=False with a filtered dict")
def _(trial: Trial) -> None:
    state = shaken(trial.net()).state_dict()
    net = trial.net("other")
    net.load_state_dict({key: value for key, value in state.items() if "head" not in key}, strict=False)
    trial.check(net, "other")


def outcome(name: str, head: str, dtype: torch.dtype, sets: Sets) -> str:
    """Say what came of a case: works, refused with its line, or wrong."""
    torch.manual_seed(0)
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        try:
            CASES[name](Trial(sets, HEADS[head], dtype, Path(folder)))
        except AssertionError as error:
            return f"WRONG: {error}"
        except (BadRequest, RuntimeError, ValueError) as error:
            return f"refused: {' '.join(str(error).split())}"
        except Exception as error:
            return f"WRONG: {type(error).__name__} {' '.join(str(error).split())}"
    return "works"


def main() -> None:
    asked = sys.argv[1:] or list(CASES)
    with tempfile.TemporaryDirectory() as root:
        sets = Sets(Path(root))
        for name in asked:
            print(f"\n## {name}\n")
            for head in HEADS:
                for dtype in DTYPES:
                    kind = str(dtype).removeprefix("torch.")
                    print(f"| {head} | {kind} | {outcome(name, head, dtype, sets)} |", flush=True)


if __name__ == "__main__":
    main()
