"""One run, one format: `weave-train export`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch

from weave_data.errors import ConfigError
from weave_data.torchvision_ops import install
from weave_train.exports.card import Facts, write_card
from weave_train.exports.chat import build_chat
from weave_train.exports.compare import compare_models
from weave_train.exports.directory import check_is_free, whole_directory
from weave_train.exports.files import round_weights, write_generation_config
from weave_train.exports.form import Form
from weave_train.exports.members import normalise
from weave_train.exports.native_form import NATIVE
from weave_train.exports.pictures import largest_pixel_difference
from weave_train.exports.plain import load_plain
from weave_train.exports.remote_form import REMOTE
from weave_train.exports.run_layout import export_prismatic
from weave_train.exports.vocabulary import export_vocabulary
from weave_train.models.model import VideoLanguageModel

__all__ = ["FORMS", "export_run", "write_form"]

FORMS = {form.kind: form for form in (NATIVE, REMOTE)}
"""Formats that transformers loads, by name."""

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def export_run(
    run_or_checkpoint: Path | str,
    path: Path,
    *,
    kind: Literal["prismatic", "hf", "hf-remote"],
    dtype: Literal["fp32", "bf16"] = "fp32",
) -> list[str]:
    """Write a run in one of the formats.

    Args:
        run_or_checkpoint: As `load` takes it.
        path: A new or empty directory; for `prismatic` also a `.pt` file.
        kind: Of the three.
        dtype: Of the weights written; a comparison is in fp32, with weights rounded to it on both sides.

    Returns:
        Lines for people.

    Raises:
        ConfigError: `path` is not free, there is no complete checkpoint, or the format can't hold the model.
        VerificationError: Weights are damaged, or the export does not answer as the run does.
    """
    if kind == "prismatic":
        parts, notes = export_prismatic(run_or_checkpoint, path, dtype=_DTYPES[dtype])
        return [f"{path}: {', '.join(parts)}", *(f"  {note}." for note in notes)]
    facts = _export(run_or_checkpoint, path, FORMS[kind], dtype=_DTYPES[dtype])
    worst = max(row.logits for row in facts.rows)
    tokens = sum(row.greedy_tokens for row in facts.rows)
    lines = [f"{path}: {kind}, step {facts.step}; logits within {worst:.0e}, the same {tokens} greedy tokens"]
    return lines + [f"  {note}" for note in facts.all_notes()]


def _export(run_or_checkpoint: Path | str, path: Path, form: Form, *, dtype: torch.dtype) -> Facts:
    check_is_free(path)
    checkpoint, vlm = load_plain(run_or_checkpoint)
    problems = form.misfits(vlm)
    if problems:
        raise ConfigError([f"--format {form.kind}: {problem}; use {form.instead}" for problem in problems])
    run = Path(checkpoint.store.uri).name or "run"
    with whole_directory(path) as partial:
        return write_form(vlm, partial, form, run=run, step=checkpoint.step, dtype=dtype)


def write_form(
    vlm: VideoLanguageModel, directory: Path, form: Form, *, run: str, step: int, dtype: torch.dtype
) -> Facts:
    """Write a model in hand, load it back, compare, and say so in a card.

    Args:
        vlm: In fp32 on the CPU; its weights are rounded to `dtype`.
        directory: There, and empty.
        form: One that has no misfit with the model.
        run: Name of the run, for the card.
        step: Of the checkpoint.
        dtype: Of the weights written.

    Raises:
        VerificationError: The export is not the model; says where.
    """
    install()
    import transformers

    round_weights(vlm, dtype, folds_scale=form.folds_scale)
    vocabulary = export_vocabulary(vlm)
    form.write_model(vlm, directory, vocabulary, dtype)
    write_generation_config(directory, vlm, vocabulary)
    chat = build_chat(vlm, vocabulary)
    form.write_processor(vlm, directory, vocabulary, chat.template)
    rows = compare_models(
        vlm, form.load(directory), vocabulary, normalise=lambda pixels: normalise(pixels, vlm)
    )
    options: dict[str, Any] = {"trust_remote_code": True} if form.runs_code else {}
    pixels = {
        backend: largest_pixel_difference(vlm, directory, backend=backend, **options)
        for backend in form.backends
    } or {"own": largest_pixel_difference(vlm, directory, **options)}
    facts = Facts(
        kind=form.kind,
        run=run,
        step=step,
        dtype=str(dtype).removeprefix("torch."),
        transformers=transformers.__version__,
        rows=rows,
        same_ids=chat.same_ids,
        pixel_differences=pixels,
        notes=_notes(vlm),
    )
    write_card(directory, vlm, facts)
    return facts


def _notes(vlm: VideoLanguageModel) -> list[str]:
    notes = []
    stop = vlm.prompts.stop_text
    if stop is not None:
        notes.append(
            f"Answers end with the text `{stop}`, which is no token: give `generate` "
            f"`stop_strings=[{stop!r}]` and `tokenizer=processor.tokenizer`."
        )
    if vlm.settings.visual_placement == "per-clip":
        notes.append(
            "The run was trained with a marked block of frames for each clip; the chat template writes one "
            "block, as of a video that is one clip."
        )
    return notes
