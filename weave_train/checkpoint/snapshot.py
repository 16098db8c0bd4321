"""A rank's masters and optimizer states, copied into memory that already is the files' bytes.

    plan_files     which piece lies where in which file; the same at every save of a run
    Snapshot       anonymous files in memory (memfd), filled by one copy per piece, pinned where there
                   is a GPU; another process reads them through their descriptors

Nothing with a name is left behind, however the process ends. Memory is taken once, when a run starts.
"""

from __future__ import annotations

import itertools
import json
import mmap
import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from weave_data.errors import DeviceError, TrainingError
from weave_train.checkpoint.commit import SnapshotFile
from weave_train.checkpoint.pieces import TensorRange, piece_key

__all__ = ["MAX_FILE_BYTES", "FilePlan", "Snapshot", "plan_files"]

MAX_FILE_BYTES = 512 << 20
"""Of a file; objects of a store are one PUT of at most 1 GiB."""

_HEADER_BYTES = 1 << 20  # room kept for a header
_MAX_SLOTS = 4096  # pieces in a file, so that the header fits
_ALIGNMENT = 64
_CHUNK_BYTES = 16 << 20
_COPY_THREADS = 4
_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int64: "I64",
    torch.uint8: "U8",
}


@dataclass(frozen=True)
class _Source:
    """One tensor to be saved: all of it has the key `name` from element `start` on."""

    kind: str
    name: str
    start: int
    numel: int
    dtype: torch.dtype


@dataclass(frozen=True)
class _Slot:
    """Elements `[start, stop)` of source number `source`, at byte `offset` of a file."""

    source: int
    start: int
    stop: int
    offset: int


@dataclass(frozen=True)
class FilePlan:
    """A file before it is written: its name, its header and where each piece goes."""

    name: str
    kind: str
    num_bytes: int
    header: bytes
    slots: tuple[_Slot, ...]


def plan_files(
    ranges: Iterable[TensorRange], *, rank: int, max_file_bytes: int = MAX_FILE_BYTES
) -> list[FilePlan]:
    """Lay a rank's pieces out in files; a range is cut where a file is full.

    Args:
        ranges: This rank's; those it does not own are left out.
        rank: Names the files.
        max_file_bytes: Of a file, its header not counted where this is less than 2 MiB.
    """
    return _plan([source for source, _ in _sources(ranges)], rank, max_file_bytes)


class Snapshot:
    """Memory for one save of one rank.

    Args:
        ranges: This rank's, as every later `fill` has them.
        rank: Names the files.
        is_pinned: Register the memory with CUDA, so that copies from the GPU run at full speed.
        max_file_bytes: See `plan_files`.

    Raises:
        DeviceError: There is not enough memory for it.
    """

    def __init__(
        self,
        ranges: Iterable[TensorRange],
        *,
        rank: int,
        is_pinned: bool = False,
        max_file_bytes: int = MAX_FILE_BYTES,
    ) -> None:
        self._sources = [source for source, _ in _sources(ranges)]
        self._plans = _plan(self._sources, rank, max_file_bytes)
        self._is_pinned = is_pinned
        self._descriptors: list[int] = []
        self._pages: list[torch.Tensor] = []
        self._views: list[tuple[_Slot, torch.Tensor]] = []
        try:
            for plan in self._plans:
                self._allocate(plan)
        except OSError as error:
            self.close()
            raise DeviceError(
                f"rank {rank}: no memory for a snapshot of {self.bytes / 2**30:.1f} GiB ({error.strerror}): "
                "checkpoints copy a rank's weights and optimizer states to host memory: give more of it, or "
                "use more ranks"
            ) from error

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(plan.num_bytes for plan in self._plans)

    @property
    def files(self) -> tuple[SnapshotFile, ...]:
        """As another process gets them, by their descriptors here."""
        return tuple(
            SnapshotFile(plan.name, plan.kind, plan.num_bytes, len(plan.header), descriptor)
            for plan, descriptor in zip(self._plans, self._descriptors, strict=True)
        )

    @torch.no_grad()
    def fill(self, ranges: Iterable[TensorRange]) -> None:
        """Copy values in; returns when they are all here.

        Raises:
            TrainingError: These are not the ranges that memory was taken for.
        """
        found = list(_sources(ranges))
        if [source for source, _ in found] != self._sources:
            raise TrainingError("what a rank holds changed between two saves; restart the run")
        flat = [tensor.detach().reshape(-1) for _, tensor in found]
        pairs = [(view, flat[slot.source][slot.start : slot.stop]) for slot, view in self._views]
        on_host = [pair for pair in pairs if pair[1].device.type == "cpu"]
        for target, values in pairs:
            if values.device.type != "cpu":
                target.copy_(values, non_blocking=self._is_pinned)
        _copy_on_host(on_host)
        if self._is_pinned:
            torch.cuda.synchronize()

    def close(self) -> None:
        """Give the memory back; a process that still has the descriptors keeps it."""
        self._views.clear()
        if self._is_pinned:
            for page in self._pages:
                torch.cuda.cudart().cudaHostUnregister(page.data_ptr())
        self._pages.clear()
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors.clear()

    def _allocate(self, plan: FilePlan) -> None:
        descriptor = os.memfd_create("checkpoint")
        self._descriptors.append(descriptor)
        os.posix_fallocate(descriptor, 0, plan.num_bytes)
        # populated now, so that the first save is as fast as the others
        memory = mmap.mmap(descriptor, plan.num_bytes, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE)
        memory[: len(plan.header)] = plan.header
        page = torch.frombuffer(memory, dtype=torch.uint8)  # keeps the mapping alive
        self._pages.append(page)
        if self._is_pinned:
            code = torch.cuda.cudart().cudaHostRegister(page.data_ptr(), plan.num_bytes, 0)
            if int(code) != 0:
                raise DeviceError(f"CUDA can't pin {plan.num_bytes} bytes of host memory (error {int(code)})")
        for slot in plan.slots:
            source = self._sources[slot.source]
            num_bytes = (slot.stop - slot.start) * source.dtype.itemsize
            view = page[slot.offset : slot.offset + num_bytes].view(source.dtype)
            self._views.append((slot, view))


def _copy_on_host(pairs: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> None:
    """Copy (target, values) in a few threads that meet once at the end.

    torch's own copy meets after every tensor: 512 MiB in 128 pieces took nine times as long as in one
    on a busy machine.
    """
    chunks = [
        (target[start : start + _CHUNK_BYTES], values[start : start + _CHUNK_BYTES])
        for target, values in ((_as_bytes(target), _as_bytes(values)) for target, values in pairs)
        for start in range(0, len(target), _CHUNK_BYTES)
    ]
    with ThreadPoolExecutor(max(1, min(_COPY_THREADS, torch.get_num_threads()))) as threads:
        list(threads.map(lambda chunk: np.copyto(*chunk), chunks))


def _as_bytes(tensor: torch.Tensor) -> npt.NDArray[np.uint8]:
    return tensor.contiguous().view(torch.uint8).numpy()


def _sources(ranges: Iterable[TensorRange]) -> Iterator[tuple[_Source, torch.Tensor]]:
    for piece in ranges:
        if piece.is_owned and piece.stop > piece.start:
            tensors = {piece.name: piece.weight}
            tensors |= {f"{state}/{piece.name}": tensor for state, tensor in piece.states.items()}
            for key, tensor in tensors.items():
                kind = "weights" if key == piece.name else "optimizer"
                yield _Source(kind, key, piece.start, piece.stop - piece.start, tensor.dtype), tensor


def _plan(sources: Sequence[_Source], rank: int, max_file_bytes: int) -> list[FilePlan]:
    room = max_file_bytes - _HEADER_BYTES if max_file_bytes > 2 * _HEADER_BYTES else max_file_bytes
    plans = []
    for kind in ("weights", "optimizer"):
        chosen = [(index, source) for index, source in enumerate(sources) if source.kind == kind]
        # the widest elements first: each piece starts at a multiple of its element's size
        chosen.sort(key=lambda item: -item[1].dtype.itemsize)
        for number, cuts in enumerate(_cut(chosen, room)):
            plans.append(_plan_file(f"{kind}-{rank:05d}-{number:03d}.safetensors", kind, cuts, sources))
    return plans


def _cut(sources: Sequence[tuple[int, _Source]], room: int) -> Iterator[list[tuple[int, int, int]]]:
    """Fill files of `room` bytes one after the other with (source, start, stop)."""
    cuts: list[tuple[int, int, int]] = []
    left = room
    for index, source in sources:
        position, size = 0, source.dtype.itemsize
        while position < source.numel:
            if left < size or len(cuts) == _MAX_SLOTS:
                yield cuts
                cuts, left = [], room
            stop = min(source.numel, position + max(1, left // size))
            cuts.append((index, position, stop))
            left -= (stop - position) * size
            position = stop
    if cuts:
        yield cuts


def _plan_file(
    name: str, kind: str, cuts: Sequence[tuple[int, int, int]], sources: Sequence[_Source]
) -> FilePlan:
    sizes = [(stop - start) * sources[index].dtype.itemsize for index, start, stop in cuts]
    ends = list(itertools.accumulate(sizes))
    entries = {}
    for (index, start, stop), end, size in zip(cuts, ends, sizes, strict=True):
        source = sources[index]
        key = piece_key(source.name, source.start + start, source.start + stop)
        entries[key] = {
            "dtype": _DTYPES[source.dtype],
            "shape": [stop - start],
            "data_offsets": [end - size, end],
        }
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % _ALIGNMENT)
    header = struct.pack("<Q", len(text)) + text
    slots = tuple(
        _Slot(index, start, stop, len(header) + end - size)
        for (index, start, stop), end, size in zip(cuts, ends, sizes, strict=True)
    )
    return FilePlan(name, kind, len(header) + ends[-1], header, slots)
