"""Let torchvision import next to a torch build that its compiled operators don't fit.

PyPI ships torchvision with CUDA operators only. Beside a CPU build of torch they don't load, and
`import torchvision` fails because it describes two operators that don't exist. Declaring those two
(without a kernel) cures it: transforms, timm, open_clip and transformers work; calling the compiled
operators still fails, as it should. Where the real operators load, nothing is declared.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from types import ModuleType

__all__ = ["install"]

_SCHEMAS = {
    "torchvision::nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "torchvision::qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}


class _DeclareMissingOps(MetaPathFinder):
    """Finds nothing; acts between `torchvision.extension` and the module that describes the ops.

    torchvision imports its compiled extension before everything else, so at the next submodule it
    is known whether the operators loaded.
    """

    def find_spec(  # the signature is the import system's
        self,
        fullname: str,
        path: Sequence[str] | None = None,  # noqa: ARG002
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> None:
        """Declare the schemas once the extension has tried to load and could not."""
        extension = sys.modules.get("torchvision.extension")
        if fullname.startswith("torchvision.") and hasattr(extension, "_check_cuda_version"):
            sys.meta_path.remove(self)
            if extension is not None and not extension._has_ops():
                _declare()


def _declare() -> None:
    import torch  # only reached from inside the import of torchvision

    for name, schema in _SCHEMAS.items():
        torch.library.define(name, schema)


def install() -> None:
    """Install the hook; call before importing torchvision, timm, open_clip or transformers.

    Cheap and idempotent: it imports nothing and does nothing once torchvision is loaded.
    """
    installed = any(isinstance(finder, _DeclareMissingOps) for finder in sys.meta_path)
    if not installed and "torchvision" not in sys.modules:
        sys.meta_path.insert(0, _DeclareMissingOps())
