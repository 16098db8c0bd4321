"""Which GPUs and how many threads a cell gets beside others on one machine."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from weave_data.errors import ConfigError

__all__ = ["cell_environment", "visible_devices"]


def visible_devices() -> tuple[str, ...]:
    """GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return tuple(part for part in named.split(",") if part and part != "-1")
    import torch

    return tuple(str(index) for index in range(torch.cuda.device_count()))


def cell_environment(
    place: int, *, num_parallel: int, ranks: int, devices: Sequence[str], num_cores: int
) -> Mapping[str, str]:
    """Variables of the commands of a cell.

    Args:
        place: Of the cell among those that run at once, from 0.
        num_parallel: Cells at once.
        ranks: Of the cell's widest run.
        devices: GPUs of this machine; cells of one rank may share them.
        num_cores: Of this machine.

    Raises:
        ConfigError: Cells of several ranks ask for more GPUs than there are.
    """
    variables = {}
    if num_parallel > 1 and "OMP_NUM_THREADS" not in os.environ:
        variables["OMP_NUM_THREADS"] = str(max(1, num_cores // (num_parallel * ranks)))
    if not devices or num_parallel == 1:
        return variables
    if ranks == 1:
        mine = [devices[place % len(devices)]]
    elif num_parallel * ranks <= len(devices):
        mine = list(devices[place * ranks : (place + 1) * ranks])
    else:
        raise ConfigError(
            f"num-parallel: {num_parallel} cells of {ranks} ranks need {num_parallel * ranks} GPUs, there "
            f"are {len(devices)}; give at most {max(1, len(devices) // ranks)}"
        )
    return {**variables, "CUDA_VISIBLE_DEVICES": ",".join(mine)}
