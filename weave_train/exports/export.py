"""One run, one format: `weave-train export`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch

from weave_data.errors import ConfigError, VerificationError
from weave_data.torchvision_ops import install
from weave_train.exports.card import Facts, write_card
from weave_train.exports.chat import build_chat
from weave_train.exports.compare import Loaded, compare_models
from weave_train.exports.directory import check_is_free, whole_directory
from weave_train.exports.native import llava_config, llava_misfits, llava_weights
from weave_train.exports.native_tower import native_tower
from weave_train.exports.pictures import largest_pixel_difference, normalise, preprocessor_settings
from weave_train.exports.plain import load_plain
from weave_train.exports.run_layout import export_prismatic
from weave_train.exports.vocabulary import IMAGE_TOKEN, Vocabulary, export_vocabulary
from weave_train.models.model import VideoLanguageModel

__all__ = ["export_native", "export_run", "write_native", "write_native_model"]

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}

_SHARD_BYTES = 4_000_000_000


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
        dtype: Of the weights written.

    Returns:
        Lines for people.

    Raises:
        ConfigError: `path` is not free, there is no complete checkpoint, or the format can't hold the model.
        VerificationError: Weights are damaged, or the export does not answer as the run does.
    """
    if kind == "prismatic":
        parts = export_prismatic(run_or_checkpoint, path, dtype=_DTYPES[dtype])
        return [f"{path}: {', '.join(parts)}"]
    facts = export_native(run_or_checkpoint, path, dtype=_DTYPES[dtype])
    worst = max(row.logits for row in facts.rows)
    tokens = sum(row.greedy_tokens for row in facts.rows)
    lines = [f"{path}: {kind}, step {facts.step}; logits within {worst:.0e}, the same {tokens} greedy tokens"]
    return lines + [f"  {note}" for note in facts.all_notes()]


def export_native(run_or_checkpoint: Path | str, path: Path, *, dtype: torch.dtype = torch.float32) -> Facts:
    """Write a run as a `LlavaForConditionalGeneration` that plain transformers loads.

    Args:
        run_or_checkpoint: As `load` takes it.
        path: A new or empty directory.
        dtype: Of the stored weights; the comparison is in fp32, with weights rounded to it on both sides.

    Raises:
        ConfigError: `path` is not free, there is no complete checkpoint, or LLaVA can't hold this model.
        VerificationError: Weights are damaged, or transformers' answers differ; nothing is left in `path`.
    """
    check_is_free(path)
    checkpoint, vlm = load_plain(run_or_checkpoint)
    problems = llava_misfits(vlm)
    if problems:
        raise ConfigError(
            [f"--format hf: {problem}; use --format hf-remote or prismatic" for problem in problems]
        )
    run = Path(checkpoint.store.uri).name or "run"
    with whole_directory(path) as partial:
        return write_native(vlm, partial, run=run, step=checkpoint.step, dtype=dtype)


def write_native(
    vlm: VideoLanguageModel, directory: Path, *, run: str, step: int, dtype: torch.dtype
) -> Facts:
    """`export_native` of a model in hand, into a directory that is there."""
    install()
    _round(vlm, dtype)
    vocabulary = export_vocabulary(vlm)
    write_native_model(vlm, directory, vocabulary, dtype=dtype)
    chat = build_chat(vlm, vocabulary)
    _write_processor(directory, vlm, vocabulary, chat.template)
    loaded = load_native(directory)
    rows = compare_models(vlm, loaded, vocabulary, normalise=lambda pixels: normalise(pixels, vlm))
    import transformers

    facts = Facts(
        kind="hf",
        run=run,
        step=step,
        dtype=str(dtype).removeprefix("torch."),
        transformers=transformers.__version__,
        rows=rows,
        same_ids=chat.same_ids,
        largest_pixel_difference=largest_pixel_difference(vlm, directory),
    )
    write_card(directory, vlm, facts)
    return facts


def write_native_model(
    vlm: VideoLanguageModel, directory: Path, vocabulary: Vocabulary, *, dtype: torch.dtype
) -> None:
    """Write configuration, weights and what ends an answer; no tokenizer."""
    config = llava_config(vlm, vocabulary)
    config.dtype = dtype
    config.save_pretrained(directory)
    write_weights(directory, llava_weights(vlm, vocabulary), dtype)
    write_generation_config(directory, vlm, vocabulary)


@torch.no_grad()
def _round(vlm: VideoLanguageModel, dtype: torch.dtype) -> None:
    """Round weights to what is stored; buffers stay, rotary frequencies in bf16 would be other ones."""
    for module in (vlm.tower, vlm.core):
        for value in module.parameters():
            value.copy_(value.to(dtype))


def write_weights(directory: Path, weights: Mapping[str, torch.Tensor], dtype: torch.dtype) -> None:
    from huggingface_hub import save_torch_state_dict

    stored = {name: value.detach().to(dtype).contiguous() for name, value in weights.items()}
    save_torch_state_dict(stored, directory, max_shard_size=_SHARD_BYTES, metadata={"format": "pt"})


def write_generation_config(directory: Path, vlm: VideoLanguageModel, vocabulary: Vocabulary) -> None:
    """EOS as the run was trained with, and no token that means nothing."""
    from transformers import GenerationConfig

    GenerationConfig(
        bos_token_id=vlm.tokenizer.bos_token_id,
        eos_token_id=list(vocabulary.stop_ids),
        pad_token_id=vlm.tokenizer.pad_token_id,
        suppress_tokens=vocabulary.never_answered,
    ).save_pretrained(directory)


def _write_processor(directory: Path, vlm: VideoLanguageModel, vocabulary: Vocabulary, template: str) -> None:
    from transformers import LlavaImageProcessor, LlavaProcessor

    tower = native_tower(vlm.tower.vit)
    pictures = LlavaImageProcessor(**preprocessor_settings(vlm))
    processor = LlavaProcessor(
        image_processor=pictures,
        tokenizer=vocabulary.tokenizer,
        patch_size=tower.config.patch_size,
        vision_feature_select_strategy=tower.select_strategy,
        num_additional_image_tokens=tower.prefix_tokens,
        image_token=IMAGE_TOKEN,
        chat_template=template,
    )
    processor.save_pretrained(directory)
    pictures.save_pretrained(directory)  # programs older than processor_config.json read this one


def load_native(directory: Path) -> Loaded:
    """Load an export with transformers alone.

    Raises:
        VerificationError: transformers finds a tensor missing or too many.
    """
    from transformers import AutoModelForImageTextToText

    loaded: Any = AutoModelForImageTextToText.from_pretrained(
        directory, dtype=torch.float32, local_files_only=True, output_loading_info=True
    )
    model, found = loaded
    check_loading(found)
    model.eval()
    strategy, layer = model.config.vision_feature_select_strategy, model.config.vision_feature_layer

    def features(pixels: torch.Tensor) -> torch.Tensor:
        hidden = model.model.vision_tower(pixels, output_hidden_states=True).hidden_states[layer]
        return hidden[:, 1:] if strategy == "default" else hidden

    def projected(pixels: torch.Tensor) -> torch.Tensor:
        return torch.cat(list(model.get_image_features(pixels, return_dict=True).pooler_output))

    return Loaded(model, features, projected)


def check_loading(found: Mapping[str, Any]) -> None:
    """Every tensor of a file has a place in the model, and the other way round."""
    problems = [
        f"{kind}: {name}"
        for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")
        for name in found.get(kind, ())
    ]
    if problems:
        raise VerificationError(
            f"transformers finds {problems[0]} (of {len(problems)}) in the export; nothing was exported"
        )
