"""The ranks of a process group: rank 0 leads, the others follow it, and all end together."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, distributed
from torch.distributed import ProcessGroup, ReduceOp

from protogen.errors import BadRequest, RankLost

from .messages import receive, send

Result = TypeVar("Result")


@dataclass(frozen=True)
class _Call:
    """Tell the followers to call a function with their ranks and these arguments."""

    work: Callable[..., Any]
    arguments: tuple[Any, ...]


@dataclass(frozen=True)
class _End:
    """Tell the followers that the work is done: what it returned, or the error that it raised."""

    value: Any = None
    error: BaseException | None = None


class Ranks:
    """The ranks of a process group, of which this process is one.

    Rank 0 leads: it alone decides what is done, and calls `together`, upon which every rank calls the same function
    for its share. The other ranks follow, in `led` or `follow`, until rank 0 has done.

    - A function that is called together says by `agreeing` what has failed. A failure of one rank is raised on all,
      and the followers wait for the next call.
    - Ctrl-C counts on rank 0 alone, and where the ranks agree, so that none waits for another in vain.
    - RankLost is raised where a rank is gone: nothing can be agreed on then.
    """

    _active: ClassVar[dict[str, "Ranks"]] = {}  # by the names of their groups: those that lead or follow now

    def __init__(self, group: ProcessGroup) -> None:
        self.group = group
        self.rank, self.world = distributed.get_rank(group), distributed.get_world_size(group)
        if self.rank < 0:
            raise BadRequest("group is one that this process does not belong to; allowed is a group of its own")
        self.kept: dict[str, Any] = {}
        """What functions that are called together leave to later ones, by name."""
        self._first = distributed.get_global_rank(group, 0)
        nccl = distributed.get_backend(group) == "nccl"
        self._where = torch.device("cuda", torch.cuda.current_device()) if nccl else torch.device("cpu")
        self._scatters = nccl
        self._interrupted = False
        self._told: BaseException | None = None
        self._lost: RankLost | None = None

    @classmethod
    def of(cls, group: ProcessGroup | None) -> "Ranks | None":
        """The ranks of a group; None where there is no group, or one of this process alone."""
        if group is None or distributed.get_world_size(group) == 1:
            return None
        return cls._active.get(group.group_name) or cls(group)

    @classmethod
    def leading(cls) -> "Ranks | None":
        """The ranks that this process leads now, if it leads any."""
        return next((ranks for ranks in cls._active.values() if ranks.rank == 0), None)

    # Leading and following

    def led(self, work: Callable[[], Result]) -> Result:
        """Do some work on rank 0, which the others follow; all return what it returns, or raise what it raises."""
        if self._active.get(self.group.group_name) is self and self.rank == 0:
            return work()  # on the way already
        if self.rank:
            value: Result = self.follow()
            return value
        end = _End(error=RankLost("rank 0 has ended; look at what it said"))
        with self._on_the_way():
            try:
                end = _End(value := work())
                if self._interrupted:
                    raise KeyboardInterrupt
            except RankLost:
                raise
            except BaseException as error:
                end = _End(error=error)
                raise
            finally:
                self._send_end(end)
        return value

    def follow(self) -> Any:
        """Do what rank 0 says until it has done; return what it returns, or raise what it raises."""
        with self._on_the_way(), _sigint(lambda: None):
            while True:
                message = self._tried(receive, self._first, self.group, self._where)
                if isinstance(message, _End):
                    if message.error is not None:
                        raise message.error
                    return message.value
                try:
                    message.work(self, *message.arguments)
                except BaseException as error:
                    if error is not self._told:
                        raise

    def together(self, work: Callable[..., Result], *arguments: object, **here: object) -> Result:
        """Have every rank call `work` with its Ranks and these arguments; return what it returns on this one, rank 0.

        `work` is a function of a module, `arguments` can be pickled; `here` are for this rank alone.
        """
        with _sigint(self._interrupt):
            self._tried(send, _Call(work, arguments), self._first, self.group, self._where)
            return work(self, *arguments, **here)

    def _send_end(self, end: _End) -> None:
        if isinstance(end.error, RankLost):
            return
        try:
            self._tried(send, end, self._first, self.group, self._where)
        except (TypeError, AttributeError, ValueError) as error:  # of a thing that cannot be pickled
            told = _End(error=RuntimeError(f"rank 0 has a result that cannot be sent: {error}; {end.error!r}"))
            self._tried(send, told, self._first, self.group, self._where)

    @contextlib.contextmanager
    def _on_the_way(self) -> Iterator[None]:
        self._active[self.group.group_name] = self
        try:
            yield
        finally:
            del self._active[self.group.group_name]
            self.kept.clear()

    # Agreement

    @contextlib.contextmanager
    def agreeing(self) -> Iterator[None]:
        """Raise on every rank what one rank raises within; on rank 0 also a Ctrl-C that has come meanwhile."""
        failure: BaseException | None = None
        try:
            yield
        except RankLost:
            raise
        except BaseException as error:
            if error is self._told:
                raise
            failure = error
        if failure is None and self._interrupted:
            failure = KeyboardInterrupt()
        failed = torch.tensor(float(failure is not None), device=self._where)
        self.raise_to_largest(failed)
        if not failed.item():
            return
        self._interrupted = False
        failures = [each for each in self.gathered(failure) if each is not None]
        self._told = failure or failures[0]
        raise self._told

    def _interrupt(self) -> None:
        self._interrupted = True

    # Exchange. Each of these is called by all ranks.

    def add(self, tensor: Tensor) -> Tensor:
        """Put the sum over the ranks in the place of a tensor, and return it."""
        return self._reduced(tensor, ReduceOp.SUM)

    def raise_to_largest(self, tensor: Tensor) -> Tensor:
        """Put the largest of all ranks in the place of each number of a tensor, and return it."""
        return self._reduced(tensor, ReduceOp.MAX)

    def gathered(self, thing: Any) -> list[Any]:
        """Return what each rank gives, by rank: small things that can be pickled."""
        found: list[Any] = [None] * self.world
        self._tried(distributed.all_gather_object, found, thing, self.group)
        return found

    def range(self, n: int) -> tuple[int, int]:
        """The rows (start, stop) of n that are this rank's, as torch.chunk cuts them."""
        return cut(n, self.rank, self.world)

    def gather_rows(self, own: Tensor, n: int) -> Tensor:
        """Return all n rows (n, ...) of which each rank gives those of its range."""
        if own.device.type != self._where.type:
            return self.gather_rows(own.to(self._where), n).to(own.device)
        size = -(-n // self.world)
        whole = own.new_empty(self.world * size, *own.shape[1:])
        padded = own if len(own) == size else torch.cat((own, own.new_zeros(size - len(own), *own.shape[1:])))
        self._tried(distributed.all_gather, list(whole.split(size)), padded.contiguous(), self.group)
        return whole[:n]

    def add_rows(self, rows: Tensor) -> Tensor:
        """Return the sum over the ranks of rows (n, ...), of which this rank's range alone; overwrites them."""
        start, stop = self.range(len(rows))
        if not self._scatters:  # gloo's own is three times slower than its sum of all (BENCHMARKS.md)
            return self.add(rows)[start:stop]
        size = -(-len(rows) // self.world)
        padded = torch.cat((rows, rows.new_zeros(self.world * size - len(rows), *rows.shape[1:])))
        own = torch.empty_like(padded[:size])
        self._tried(distributed.reduce_scatter, own, list(padded.split(size)), ReduceOp.SUM, self.group)
        return own[: stop - start]

    def deal_rows(self, whole: Tensor | None, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Return this rank's range of rows of a shape, all of which rank 0 has and sends."""
        start, stop = self.range(shape[0])
        if self.rank:
            own = torch.empty((stop - start, *shape[1:]), dtype=dtype, device=self._where)
            self._trade([(distributed.irecv, own, 0)])
            return own
        assert whole is not None, "rank 0 has the rows"
        for rank in range(1, self.world):
            part = slice(*cut(len(whole), rank, self.world))
            self._trade([(distributed.isend, whole[part].to(self._where), rank)])
        return whole[start:stop].clone()

    def collect_rows(self, own: Tensor, n: int) -> Tensor | None:
        """Return on rank 0, on the CPU, all n rows (n, ...) of which each rank gives those of its range."""
        if self.rank:
            self._trade([(distributed.isend, own.to(self._where), 0)])
            return None
        whole = torch.empty((n, *own.shape[1:]), dtype=own.dtype, device="cpu")
        for rank in range(self.world):
            start, stop = cut(n, rank, self.world)
            arriving = own if rank == 0 else torch.empty_like(whole[start:stop], device=self._where)
            if rank:
                self._trade([(distributed.irecv, arriving, rank)])
            whole[start:stop] = arriving
        return whole

    def pass_on(self, tensor: Tensor, by: int, shape: tuple[int, ...]) -> Tensor:
        """Send a tensor to the rank `by` places on; return what comes, of a shape, from the rank as many before."""
        sent = tensor.to(self._where)
        arriving = sent.new_empty(shape)
        to, source = ((self.rank + step) % self.world for step in (by, -by))
        self._trade([(distributed.isend, sent, to), (distributed.irecv, arriving, source)])
        return arriving.to(tensor.device)

    def _trade(self, messages: list[tuple[Callable[..., Any], Tensor, int]]) -> None:
        """Send and receive tensors to and from single ranks, all at once; empty ones are not sent."""
        trades = [
            distributed.P2POp(way, tensor.contiguous(), distributed.get_global_rank(self.group, rank), self.group)
            for way, tensor, rank in messages
            if tensor.numel()
        ]
        if trades:
            self._tried(_done, trades)

    def _reduced(self, tensor: Tensor, operation: Any) -> Tensor:
        there = tensor.to(self._where) if tensor.device.type != self._where.type else tensor
        self._tried(distributed.all_reduce, there, operation, self.group)
        return tensor if there is tensor else tensor.copy_(there)

    def _tried(self, exchange: Callable[..., Result], *arguments: Any) -> Result:
        """Exchange something with the other ranks. Raises RankLost where one is gone, now or before."""
        if self._lost is not None:
            raise self._lost
        try:
            return exchange(*arguments)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            self._lost = RankLost(
                f"rank {self.rank} of {self.world} has lost another: {str(error).splitlines()[0][:200]}",
                "look at what that one said; the same command goes on from the last state",
            )
            raise self._lost from error


def _done(trades: list[Any]) -> None:
    for each in distributed.batch_isend_irecv(trades):
        each.wait()


def cut(n: int, rank: int, world: int) -> tuple[int, int]:
    """The range (start, stop) of n things that is a rank's, as torch.chunk cuts: the last ranks may have none."""
    size = -(-n // world)
    return min(n, rank * size), min(n, (rank + 1) * size)


@contextlib.contextmanager
def _sigint(instead: Callable[[], None]) -> Iterator[None]:
    """Call a function in place of what Ctrl-C does, as long as this lasts; in the main thread, which alone gets it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, lambda *_: instead())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
