"""`--format hf`: a run becomes a directory that plain transformers loads, or nothing at all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from small_exports import language_model, make_vlm, write_run
from small_tokenizers import load_asset
from small_towers import shrink_towers
from tiny_rows import jpeg
from torch import nn

from weave_data.errors import ConfigError, VerificationError
from weave_train.config import LoraConfig
from weave_train.exports import files, native_form, native_tower
from weave_train.exports.export import FORMS, export_run, write_form
from weave_train.exports.native import llava_misfits
from weave_train.loading import load
from weave_train.models.lora import add_lora, is_adapter
from weave_train.models.model import VideoLanguageModel
from weave_train.models.vision import build_tower
from weave_train.rows.pixels import to_images
from weave_train.towers import TOWERS

FRAMES = [jpeg((200, 30, 30)), jpeg((30, 30, 200))]
QUESTION = "What happens?"


@pytest.fixture
def vlm(tokenizer: Any) -> VideoLanguageModel:
    return make_vlm(tokenizer)


@pytest.fixture
def run_dir(vlm: VideoLanguageModel, tmp_path: Path) -> Path:
    return write_run(vlm, tmp_path / "run")


def ask(directory: Path, *, backend: str = "pil") -> tuple[Any, Any, str]:
    """Model, its inputs and its answer, as a user of transformers has them."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    processor = AutoProcessor.from_pretrained(directory, backend=backend)
    model = AutoModelForImageTextToText.from_pretrained(directory)
    content = [{"type": "image", "image": image} for image in to_images(FRAMES)]
    messages = [{"role": "user", "content": [*content, {"type": "text", "text": QUESTION}]}]
    inputs = processor.apply_chat_template(messages, tokenize=True, return_dict=True, return_tensors="pt")
    answer = model.generate(**inputs, max_new_tokens=24, do_sample=False)
    new = answer[0, inputs["input_ids"].shape[1] :]
    return model, inputs, processor.decode(new, skip_special_tokens=True).strip()


@pytest.mark.parametrize("tower", ["clip", "siglip"])
def test_an_export_answers_as_the_run_does(tokenizer: Any, tmp_path: Path, tower: str) -> None:
    run_dir = write_run(make_vlm(tokenizer, tower=tower), tmp_path / "run")
    lines = export_run(run_dir, tmp_path / "llava", kind="hf")
    ours = load(run_dir, device="cpu")
    builder = ours.get_prompt_builder()
    builder.add_turn("human", QUESTION)
    model, inputs, answer = ask(tmp_path / "llava")
    assert answer == ours.generate(FRAMES, builder, max_new_tokens=24)
    assert answer
    assert type(model).__name__ == "LlavaForConditionalGeneration"
    assert int((inputs["input_ids"] == model.config.image_token_id).sum()) == 2 * 16  # T * P
    assert inputs["input_ids"][0, 0] == tokenizer.bos_token_id
    assert (inputs["input_ids"][0, 1:33] == model.config.image_token_id).all()  # right after BOS
    assert "the same 96 greedy tokens" in lines[0]


@torch.no_grad()
def test_adapters_are_merged_in_every_format(tokenizer: Any, tmp_path: Path) -> None:
    from transformers import AutoModelForImageTextToText

    vlm = make_vlm(tokenizer)
    vlm.settings = vlm.settings.model_copy(update={"lora": LoraConfig(rank=4, alpha=6.0)})
    ids = torch.arange(3, 40)[None]
    before = vlm.core.language_model(input_ids=ids).logits
    add_lora(vlm.core, vlm.settings.lora, seed=7)
    for name, value in vlm.core.named_parameters():
        if is_adapter(name):
            value.add_(torch.randn(value.shape, generator=torch.Generator().manual_seed(4)) * 0.2)
    vlm.core.eval()
    expected = vlm.core.language_model(input_ids=ids).logits
    assert float((expected - before).abs().max()) > 0.01
    run_dir = write_run(vlm, tmp_path / "run")
    for kind, options in (("hf", {}), ("hf-remote", {"trust_remote_code": True})):
        export_run(run_dir, tmp_path / kind, kind=kind)
        model = AutoModelForImageTextToText.from_pretrained(tmp_path / kind, **options)
        torch.testing.assert_close(model(input_ids=ids).logits, expected, rtol=1e-4, atol=1e-5)
    export_run(run_dir, tmp_path / "x.pt", kind="prismatic")
    names = torch.load(tmp_path / "x.pt", weights_only=True)["model"]["llm_backbone"]
    assert names.keys() == {f"llm.{name}" for name in make_vlm(tokenizer).core.language_model.state_dict()}


def test_what_was_compared_is_recorded(run_dir: Path, tmp_path: Path) -> None:
    export_run(run_dir, tmp_path / "llava", kind="hf")
    facts = json.loads((tmp_path / "llava" / "export.json").read_text())
    assert [row["num_frames"] for row in facts["rows"]] == [2, 1, 0]
    assert all(row["greedy_tokens"] == 32 and row["logits"] <= 1e-4 for row in facts["rows"])
    assert facts["rows"][2]["features"] is None
    assert (facts["kind"], facts["step"], facts["run"], facts["dtype"]) == ("hf", 30, "run", "float32")
    assert facts["same_ids"]["one question"]
    card = (tmp_path / "llava" / "README.md").read_text()
    assert "| 2 | 80 |" in card
    assert "without code from this directory" in card
    assert str(tmp_path) not in card + json.dumps(facts)


def test_the_cards_code_runs(run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    export_run(run_dir, tmp_path / "llava", kind="hf")
    monkeypatch.chdir(tmp_path / "llava")
    code = Path("README.md").read_text().split("```python\n")[1].split("```")[0]
    exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out.strip()


def test_torchvisions_kernels_are_within_one_step_of_ours(run_dir: Path, tmp_path: Path) -> None:
    export_run(run_dir, tmp_path / "llava", kind="hf")
    exact, close = (ask(tmp_path / "llava", backend=b)[1]["pixel_values"] for b in ("pil", "torchvision"))
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)
    assert float(((exact - close) * std * 255).abs().max()) < 1.01
    facts = json.loads((tmp_path / "llava" / "export.json").read_text())
    assert facts["pixel_differences"]["pil"] < 0.01
    assert 0.5 < facts["pixel_differences"]["torchvision"] < 1.01


def test_weights_in_bf16_are_half_as_large_and_load(run_dir: Path, tmp_path: Path) -> None:
    for dtype in ("fp32", "bf16"):
        export_run(run_dir, tmp_path / dtype, kind="hf", dtype=dtype)
    full, half = ((tmp_path / x / "model.safetensors").stat().st_size for x in ("fp32", "bf16"))
    assert full > 1.6 * half
    assert ask(tmp_path / "bf16")[0].dtype == torch.bfloat16


def test_large_models_are_cut_into_files_with_an_index(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_SHARD_BYTES", 100_000)
    export_run(run_dir, tmp_path / "llava", kind="hf")
    assert len(list((tmp_path / "llava").glob("model-*.safetensors"))) > 2
    assert (tmp_path / "llava" / "model.safetensors.index.json").is_file()
    assert ask(tmp_path / "llava")[2]


def test_no_answer_holds_a_token_that_means_nothing(tokenizer: Any, tmp_path: Path) -> None:
    vlm = make_vlm(tokenizer)
    with torch.no_grad():  # a padding row and the end of an answer would win everywhere
        vlm.core.language_model.lm_head.weight[310:] *= 30
    export_run(write_run(vlm, tmp_path / "run"), tmp_path / "llava", kind="hf")
    facts = json.loads((tmp_path / "llava" / "export.json").read_text())
    assert all(row["greedy_tokens"] == 32 for row in facts["rows"])


def test_an_answer_ends_at_the_tokenizers_eos(tokenizer: Any, tmp_path: Path) -> None:
    vlm = make_vlm(tokenizer)
    with torch.no_grad():
        vlm.core.language_model.lm_head.weight[tokenizer.eos_token_id] *= 30
    export_run(write_run(vlm, tmp_path / "run"), tmp_path / "llava", kind="hf")
    facts = json.loads((tmp_path / "llava" / "export.json").read_text())
    assert min(row["greedy_tokens"] for row in facts["rows"]) < 32


def test_a_mismatch_fails_says_where_and_leaves_nothing(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native_tower, "activation_name", lambda module: "gelu")
    with pytest.raises(VerificationError, match=r"2 frames, 80 tokens: features of the tower differ by \d"):
        export_run(run_dir, tmp_path / "llava", kind="hf")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


def test_another_projector_or_head_is_found_and_named(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = native_form.llava_weights
    for name, what in (
        ("multi_modal_projector.linear_2.bias", "projected features differ"),
        ("language_model.model.norm.weight", "logits differ"),
    ):
        monkeypatch.setattr(
            native_form,
            "llava_weights",
            lambda *a, name=name: {k: v + (k == name) for k, v in whole(*a).items()},
        )
        with pytest.raises(VerificationError, match=what):
            export_run(run_dir, tmp_path / "llava", kind="hf")
    monkeypatch.setattr(
        native_form,
        "llava_weights",
        lambda *a: {k: v for k, v in whole(*a).items() if "linear_2.bias" not in k},
    )
    with pytest.raises(VerificationError, match=r"missing_keys: \S*linear_2\.bias"):
        export_run(run_dir, tmp_path / "llava", kind="hf")


class Headed(nn.Linear):
    """A head that is more than a matrix, as Phi-2's."""


def test_models_that_llava_cannot_hold_are_refused_with_what_to_use(tokenizer: Any, tmp_path: Path) -> None:
    fused = write_run(make_vlm(tokenizer, projector="fused-gelu-mlp"), tmp_path / "fused")
    with pytest.raises(ConfigError, match="fused-gelu-mlp has more layers than LLaVA's; use hf-remote or"):
        export_run(fused, tmp_path / "x", kind="hf")
    language = language_model("phi", vocab_size=320)
    headed = write_run(make_vlm(tokenizer, language=language), tmp_path / "phi")
    with pytest.raises(ConfigError, match="PhiForCausalLM has a head that is no matrix alone"):
        export_run(headed, tmp_path / "x", kind="hf")
    assert not (tmp_path / "x").exists()
    language = language_model("gemma2", vocab_size=320)
    (problem,) = llava_misfits(make_vlm(tokenizer, language=language))
    assert "sets final_logit_softcapping" in problem


def test_towers_of_other_forms_are_refused(tokenizer: Any) -> None:
    from timm.models.vision_transformer import VisionTransformer

    plain = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 4, "num_classes": 0}
    for form, message in (
        ({}, "neither CLIP's class token"),
        ({"init_values": 1e-5}, "scales its layers"),
        ({"qk_norm": True}, "normalises inside"),
        ({"reg_tokens": 4}, "register tokens"),
        ({"no_embed_class": True}, "register tokens, or positions"),
        ({"class_token": False, "global_pool": "avg", "act_layer": "relu"}, "activation ReLU"),
    ):
        assert message in str(native_tower.tower_misfit(VisionTransformer(**plain, **form)))
    assert "no plain ViT" in str(native_tower.tower_misfit(nn.Linear(1, 1)))


def test_llava_holds_every_single_clip_and_siglip_tower_and_no_other(
    tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shrink_towers(monkeypatch)
    for name in TOWERS:
        if name.startswith("small-"):
            continue
        problems = llava_misfits(make_vlm(tokenizer, vision_id=name, build=build_tower))
        is_held = name.removeprefix("video-").startswith(("clip-", "siglip-"))
        assert (problems == []) == is_held, (name, problems)
    (problem,) = llava_misfits(make_vlm(tokenizer, vision_id="clip-vit-l+pool2", build=build_tower))
    assert "averages patches" in problem


@pytest.mark.parametrize(
    ("name", "strategy", "pil"),
    [
        ("clip-vit-b", "resize-crop", "odd"),
        ("siglip-vit-so400m-384px", "resize-crop", "exact"),
        ("siglip-vit-b16-256px", "letterbox", "odd"),
        ("siglip-vit-so400m", "resize-naive", "exact"),
    ],
)
def test_every_transform_is_the_runs_up_to_a_pixel_of_place_which_is_said(
    tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, strategy: str, pil: str
) -> None:
    shrink_towers(monkeypatch)
    vlm = make_vlm(tokenizer, vision_id=name, build=build_tower, image_resize_strategy=strategy)
    facts = write_form(vlm, tmp_path, FORMS["hf"], run="x", step=1, dtype=torch.float32)
    said = (tmp_path / "README.md").read_text()
    assert (facts.pixel_differences["pil"] < 0.01) == (pil == "exact")
    assert ('with `backend="pil"` puts bars or crops' in said) == (pil == "odd")


def test_what_a_user_has_to_know_is_said(assets: Path, tokenizer: Any, tmp_path: Path) -> None:
    vlm = make_vlm(tokenizer, language=language_model("llama", vocab_size=128_320))
    vlm.tokenizer = load_asset(assets / "tokenizers" / "llama3-lenml", tmp_path)
    changes = {"llm_backbone_id": "llama3-8b-pure", "visual_placement": "per-clip"}
    vlm.settings = vlm.settings.model_copy(update=changes)
    (tmp_path / "llava").mkdir()
    write_form(vlm, tmp_path / "llava", FORMS["hf"], run="x", step=1, dtype=torch.float32)
    card = (tmp_path / "llava" / "README.md").read_text()
    assert "Answers end with the text `</s>`, which is no token" in card
    assert "a marked block of frames for each clip" in card
    assert "before the first question" in card


def test_a_target_that_holds_something_is_left_alone(run_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name, kind in (("full", "a directory with files in it"), ("file", "a file")):
        for form in ("hf", "prismatic"):
            with pytest.raises(ConfigError, match=f"{name} is {kind}; name a new or an empty"):
                export_run(run_dir, tmp_path / name, kind=form)
    assert (tmp_path / "full" / "mine.txt").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    export_run(run_dir, tmp_path / "empty", kind="hf")
    assert (tmp_path / "empty" / "config.json").is_file()


def test_what_a_killed_export_left_is_no_export_and_is_replaced(run_dir: Path, tmp_path: Path) -> None:
    partial = tmp_path / ".llava.partial"
    partial.mkdir()
    (partial / "model-00009-of-00009.safetensors").write_bytes(b"old")
    export_run(run_dir, tmp_path / "llava", kind="hf")
    assert not partial.exists()
    assert not (tmp_path / "llava" / "model-00009-of-00009.safetensors").exists()


def test_runs_without_a_complete_checkpoint_are_refused(run_dir: Path, tmp_path: Path) -> None:
    shutil.rmtree(run_dir / "checkpoints")
    for form in ("hf", "prismatic"):
        with pytest.raises(ConfigError, match="no complete checkpoint"):
            export_run(run_dir, tmp_path / "x", kind=form)
