"""Train on scikit-learn's digits, data and classes over all ranks: torchrun --nproc-per-node 2 digits_on_ranks.py.

Each rank has its part of the pictures and of the classes. The network is the same on all, DistributedDataParallel adds
its gradients up; the head's rows are those of the rank's classes alone.
"""

import gc
import os

import torch
from sklearn.datasets import load_digits
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from protogen.nn import CosineHead, ddp_ignore

D, STEPS, BATCH = 9, 150, 64


class Classifier(nn.Module):
    """A network and the loss of its head, in one forward, which DistributedDataParallel wraps."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, D))
        rows = nn.functional.normalize(torch.eye(10) - 0.1, dim=1)  # a simplex, in the nine dimensions that it fills
        self.head = CosineHead(rows @ torch.linalg.svd(rows)[2][:D].T, 0.1, group=distributed.group.WORLD)

    def forward(self, pictures: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss of pictures (batch, 64) with labels (batch,)."""
        return self.head.loss(self.features(pictures), labels)


def data(rank: int, world: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return this rank's pictures and labels to train on, then those to test on: every fifth."""
    pictures, labels = (torch.from_numpy(each) for each in load_digits(return_X_y=True))
    pictures = (pictures / 16).float()
    testing = torch.arange(len(labels)) % 5 == 0
    mine = slice(rank, None, world)
    train, test = (pictures[~testing][mine], labels[~testing][mine]), (pictures[testing][mine], labels[testing][mine])
    return *train, *test


def train() -> None:
    """Train and print, on rank 0, how many of the test pictures are told right."""
    rank, world = distributed.get_rank(), distributed.get_world_size()
    torch.manual_seed(0)  # the same network on all ranks
    model = Classifier()
    parallel = DistributedDataParallel(ddp_ignore(model))
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    pictures, labels, unseen, theirs = data(rank, world)
    drawn = torch.Generator().manual_seed(rank)
    for _ in range(STEPS):
        batch = torch.randint(len(labels), (BATCH,), generator=drawn)
        optimizer.zero_grad()
        parallel(pictures[batch], labels[batch]).backward()
        optimizer.step()
    with torch.no_grad():
        _, found = model.head.topk(model.features(unseen), 1)
    right = torch.tensor([(found[:, 0] == theirs).sum(), len(theirs)])
    distributed.all_reduce(right)
    if rank == 0:
        held = model.head.prototypes.n
        print(f"{world} ranks, {held} of {model.head.n} classes on rank 0: {right[0] / right[1]:.3f} of the test right")


def main() -> None:
    """Train in a process group, and end it."""
    distributed.init_process_group("gloo")
    train()
    # The model and DistributedDataParallel refer to the group, and to each other. A group that something refers to
    # keeps its threads: one that lets go of a tensor while Python ends would abort the process.
    gc.collect()
    distributed.destroy_process_group()


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
