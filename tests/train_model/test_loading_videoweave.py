"""Files of VideoWeave and Prismatic load without the base model's weights; code in them is not run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from talkative import language_config
from tiny_rows import CAPTIONS, jpeg

from weave_data.errors import ConfigError, DeviceError, VerificationError
from weave_train.checkpoint.prismatic import write_prismatic
from weave_train.config import ModelSettings
from weave_train.loading import load, model_parts
from weave_train.models.model import VideoLanguageModel, assemble_model
from weave_train.models.tokenizer import train_caption_tokenizer

FRAMES = [jpeg((200, 30, 30)), jpeg((30, 30, 200))]
PROMPT = "In: What happens?\nOut:"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A local copy of a language model without its weights: tokenizer and configuration."""
    tokenizer = train_caption_tokenizer(CAPTIONS, vocab_size=320)
    tokenizer.save_pretrained(tmp_path / "base")
    language_config("llama", tokenizer).save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def their_config(base: Path, **more: Any) -> dict[str, Any]:
    model = {
        "model_id": "one-stage+7b",
        "vision_backbone_id": "video-tiny-vit",
        "llm_backbone_id": f"hf:{base}",
        "arch_specifier": "no-align+gelu-mlp",
        "image_resize_strategy": "resize-naive",
        "llm_max_length": 64,
        "num_frames": 4,
        "enable_mixed_precision_training": False,
        "finetune_epochs": 1,
        "rope_scaling_factor": None,
        "init_from_model": None,
        **more,
    }
    return {"model": model, "run_id": "x", "stage": "finetune"}


def write_theirs(base: Path, run_dir: Path, *, parts: tuple[str, ...], **more: Any) -> VideoLanguageModel:
    """A run of theirs; the model that is in it."""
    from transformers import AutoConfig

    from weave_train.models.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(base)
    settings = ModelSettings(precision="fp32", llm_max_length=80, llm_backbone_id=f"hf:{base}")
    vlm = assemble_model(settings, tokenizer, language_config=AutoConfig.from_pretrained(base))
    with torch.no_grad():
        for module in model_parts(vlm).values():
            for value in module.parameters():
                value.mul_(3.0)
    (run_dir / "checkpoints").mkdir(parents=True)
    states = {part: module.state_dict() for part, module in model_parts(vlm).items() if part in parts}
    write_prismatic(run_dir / "checkpoints" / "latest-checkpoint.pt", states)
    (run_dir / "config.json").write_text(json.dumps(their_config(base, **more)))
    vlm.core.eval()
    return vlm


WHOLE = ("projector", "language", "vision")


def test_a_run_of_theirs_says_what_its_weights_say(base: Path, tmp_path: Path) -> None:
    theirs = write_theirs(base, tmp_path / "run", parts=WHOLE)
    file = tmp_path / "run" / "checkpoints" / "latest-checkpoint.pt"
    for source in (tmp_path / "run", str(tmp_path / "run"), file, str(file)):
        vlm = load(source, device="cpu")
        for part, module in model_parts(vlm).items():
            expected = model_parts(theirs)[part].state_dict()
            assert all(torch.equal(value, expected[name]) for name, value in module.state_dict().items())
        assert vlm.generate(FRAMES, PROMPT, max_new_tokens=9) == theirs.generate(
            FRAMES, PROMPT, max_new_tokens=9
        )
    assert vlm.settings.num_frames == 4
    assert vlm.settings.llm_max_length == 64 + 4 * 4  # theirs counts text alone
    assert load(file, num_frames=2, device="cpu").settings.llm_max_length == 64 + 2 * 4
    with pytest.raises(ConfigError, match="num_frames: .*greater than or equal to 1"):
        load(file, num_frames=0)


def test_positions_bound_what_visual_tokens_add(base: Path, tmp_path: Path) -> None:
    write_theirs(base, tmp_path / "run", parts=WHOLE, llm_max_length=500)
    assert load(tmp_path / "run", device="cpu").settings.llm_max_length == 512
    longer = tmp_path / "longer"
    write_theirs(base, longer, parts=WHOLE, llm_max_length=1000, rope_scaling_factor=3.0)
    vlm = load(longer, device="cpu")
    assert vlm.settings.llm_max_length == 1016
    assert vlm.core.language_model.config.rope_parameters["rope_type"] == "dynamic"


def test_the_tower_is_the_published_one_where_the_file_has_none(base: Path, tmp_path: Path) -> None:
    write_theirs(base, tmp_path / "run", parts=("projector", "language"))
    vlm = load(tmp_path / "run", device="cpu")  # video-tiny-vit: seeded, never published
    settings = ModelSettings(precision="fp32")
    from weave_train.models.vision import build_tower, tower_sha256

    assert tower_sha256(vlm.tower) == tower_sha256(build_tower(settings))
    write_theirs(base, tmp_path / "clip", parts=("projector", "language"), vision_backbone_id="clip-vit-b")
    with pytest.raises(DeviceError, match="model.vision_weights: 'pretrained' gives no weights"):
        load(tmp_path / "clip")


def saved(run_dir: Path) -> dict[str, Any]:
    return dict(torch.load(run_dir / "checkpoints" / "latest-checkpoint.pt", weights_only=True))


def drop(model: dict[str, Any]) -> None:
    del model["llm_backbone"]["llm.model.norm.weight"]


def add(model: dict[str, Any]) -> None:
    model["llm_backbone"]["llm.model.other.weight"] = torch.zeros(2)


def reshape(model: dict[str, Any]) -> None:
    model["projector"]["projector.2.bias"] = torch.zeros(3)


def shrink(model: dict[str, Any]) -> None:
    rows = model["llm_backbone"]["llm.model.embed_tokens.weight"]
    model["llm_backbone"]["llm.model.embed_tokens.weight"] = rows[:64].clone()


def drop_language(model: dict[str, Any]) -> None:
    del model["llm_backbone"]


def drop_projector(model: dict[str, Any]) -> None:
    del model["projector"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (drop, r"language: model\.norm\.weight is missing"),
        (add, r"language: model\.other\.weight is not part of this model"),
        (reshape, r"projector: 2\.bias has shape \[3\], the model has \[32\]"),
        (shrink, r"its embedding has 64 rows, the tokenizer of hf:.* \d+ ids"),
        (drop_language, "holds no language model"),
        (drop_projector, "holds no projector"),
    ],
)
def test_files_that_do_not_fit_are_refused(base: Path, tmp_path: Path, damage: Any, message: str) -> None:
    write_theirs(base, tmp_path / "run", parts=WHOLE)
    content = saved(tmp_path / "run")
    damage(content["model"])
    torch.save(content, tmp_path / "run" / "checkpoints" / "latest-checkpoint.pt")
    with pytest.raises(VerificationError, match=message):
        load(tmp_path / "run")


def test_frequencies_that_old_files_hold_are_left_out(base: Path, tmp_path: Path) -> None:
    write_theirs(base, tmp_path / "run", parts=WHOLE)
    content = saved(tmp_path / "run")
    content["model"]["llm_backbone"]["llm.model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(8)
    torch.save(content, tmp_path / "run" / "checkpoints" / "latest-checkpoint.pt")
    load(tmp_path / "run", device="cpu")


class Payload:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def test_code_in_a_file_is_not_run(base: Path, tmp_path: Path) -> None:
    write_theirs(base, tmp_path / "run", parts=WHOLE)
    content = saved(tmp_path / "run")
    content["model"]["projector"]["projector.0.bias"] = Payload(tmp_path / "was-run")
    torch.save(content, tmp_path / "run" / "checkpoints" / "latest-checkpoint.pt")
    with pytest.raises(VerificationError, match="no checkpoint of Prismatic or VideoWeave"):
        load(tmp_path / "run")
    assert not (tmp_path / "was-run").exists()


def test_truncated_files_are_refused(base: Path, tmp_path: Path) -> None:
    write_theirs(base, tmp_path / "run", parts=WHOLE)
    file = tmp_path / "run" / "checkpoints" / "latest-checkpoint.pt"
    data = file.read_bytes()
    for cut in (data[:-2000], data[: len(data) // 2], data[:100], b""):
        file.write_bytes(cut)
        with pytest.raises(VerificationError, match="no checkpoint of Prismatic"):
            load(file)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "there is no .*config.json; keep the run's config.json beside"),
        ("{", "no configuration of VideoWeave"),
        ("[]", "no configuration of VideoWeave"),
        ('{"model": {}}', "model.vision_backbone_id is missing"),
        ('{"model": [1]}', "model.vision_backbone_id is missing"),
    ],
)
def test_configurations_that_are_none_are_refused(
    base: Path, tmp_path: Path, text: str | None, message: str
) -> None:
    write_theirs(base, tmp_path / "run", parts=WHOLE)
    path = tmp_path / "run" / "config.json"
    path.unlink()
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load(tmp_path / "run" / "checkpoints" / "latest-checkpoint.pt")


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no file '.*none\.pt'"):
        load(tmp_path / "none.pt")
    with pytest.raises(ConfigError, match=r"there is no directory 'prism-klip\+7b'.*did you mean"):
        load("prism-klip+7b")


def test_a_hub_that_is_not_reached_is_one_error() -> None:
    for model_id, repository in [
        ("prism-clip+7b", "TRI-ML/prismatic-vlms"),
        ("prism-gemma-instruct+2b+siglip", "RylanSchaeffer/prismatic-vlms"),
        ("phi-instruct-3+4b+clip", "RylanSchaeffer/prismatic-vlms"),
    ]:
        with pytest.raises(DeviceError, match=f"can't be had from {repository}: ") as caught:
            load(model_id)
        assert "\n" not in str(caught.value)
        assert "prism-gemma" not in str(caught.value)  # their folders have no such prefix
