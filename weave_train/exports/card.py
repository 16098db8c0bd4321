"""What an export says of itself: README.md for people, export.json for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jinja2

from weave_train.exports.compare import TOLERANCE, ComparedRow
from weave_train.models.model import VideoLanguageModel

__all__ = ["Facts", "write_card"]


@dataclass(frozen=True)
class Facts:
    """Of one export.

    Attributes:
        kind: `hf` or `hf-remote`.
        run: Name of the run.
        step: Of its checkpoint.
        dtype: Of the stored weights.
        transformers: Version that loaded the export for the comparison.
        rows: Of that comparison.
        same_ids: Which conversations give the run's token ids through the chat template.
        pixel_differences: Largest between an image processor's pixels of noise and the run's, in steps of
            1/255, by backend.
        notes: Sentences for the card.
    """

    kind: str
    run: str
    step: int
    dtype: str
    transformers: str
    rows: Sequence[ComparedRow]
    same_ids: Mapping[str, bool]
    pixel_differences: Mapping[str, float]
    notes: Sequence[str] = ()

    def all_notes(self) -> list[str]:
        """What a user should know, one sentence each."""
        ids = [
            f"The chat template gives other token ids than the run was trained with for {kind}."
            for kind, is_same in self.same_ids.items()
            if not is_same
        ]
        return [*(self._pixels(name) for name in self.pixel_differences), *ids, *self.notes]

    def _pixels(self, backend: str) -> str:
        steps = self.pixel_differences[backend]
        how = "" if backend == "own" else f' with `backend="{backend}"`'
        if steps < 0.01:
            return f"The image processor{how} gives the pixels that the run was trained with."
        if steps < 1.5:
            return f"The image processor{how} gives the run's pixels within 1/255."
        return (
            f"The image processor{how} puts bars or crops of an odd number of pixels one pixel elsewhere "
            f"than the run did; noise then differs by up to {steps:.0f}/255."
        )


def write_card(directory: Path, vlm: VideoLanguageModel, facts: Facts) -> None:
    """Write `export.json` and `README.md`."""
    values = asdict(facts) | {"tolerance": TOLERANCE, "model": vlm.settings.model_dump(mode="json")}
    (directory / "export.json").write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("weave_train.exports", package_path=""),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701  Markdown, not HTML
    )
    environment.filters["shown"] = _shown
    text = environment.get_template("card.md.j2").render(_values(vlm, facts))
    (directory / "README.md").write_text(text, encoding="utf-8")


def _values(vlm: VideoLanguageModel, facts: Facts) -> dict[str, Any]:
    settings, spec = vlm.settings, vlm.tower.spec
    is_remote = facts.kind == "hf-remote"
    return {
        "title": facts.run,
        "tower": settings.vision_backbone_id,
        "projector": settings.projector_id,
        "language": type(vlm.core.language_model).__name__,
        "step": facts.step,
        "dtype": facts.dtype,
        "tokens_per_frame": spec.patches_per_frame,
        "num_frames": settings.num_frames,
        "frame_policy": settings.frame_policy,
        "place": "after BOS" if settings.visual_placement == "after-bos" else "before the first question",
        "resize": settings.image_resize_strategy,
        "image_px": spec.image_px,
        "max_length": settings.llm_max_length,
        "remote": is_remote,
        "others": settings.projector_id != "linear",
        "trust": ", trust_remote_code=True" if is_remote else "",
        "tolerance": f"{TOLERANCE:.0e}",
        "transformers": facts.transformers,
        "rows": facts.rows,
        "notes": facts.all_notes(),
    }


def _shown(difference: float | None) -> str:
    return "" if difference is None else f"{difference:.0e}"
