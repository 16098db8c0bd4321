"""`--format hf-remote`: what LLaVA can't hold goes with code of its own, which needs nothing of ours."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from small_exports import language_model, make_vlm, write_run
from small_towers import shrink_towers

from weave_data.errors import ConfigError
from weave_train.exports import remote_code
from weave_train.exports.export import FORMS, export_run, write_form
from weave_train.exports.native import llava_misfits
from weave_train.loading import load
from weave_train.models.vision import build_tower

IDS = ("video-tiny-vit", "dinov2-vit-l", "in1k-vit-l", "dinoclip-vit-l-336px", "dinosiglip-vit-so-384px")


@pytest.mark.parametrize("name", [*IDS, "clip-vit-l+pool2", "siglip-vit-so400m-384px+pool2"])
def test_every_kind_of_tower_is_held(
    tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    shrink_towers(monkeypatch)
    vlm = make_vlm(tokenizer, vision_id=name, projector="fused-gelu-mlp", build=build_tower)
    assert llava_misfits(vlm)
    facts = write_form(vlm, tmp_path, FORMS["hf-remote"], run="x", step=1, dtype=torch.float32)
    assert all(row.greedy_tokens > 0 and row.logits <= 1e-4 for row in facts.rows)
    assert len(facts.rows) == 3
    assert facts.pixel_differences == {"own": 0.0}
    config = json.loads((tmp_path / "config.json").read_text())
    assert len(config["towers"]) == 1 + name.startswith(("dinoclip", "dinosiglip"))


@pytest.mark.parametrize("strategy", ["resize-naive", "resize-crop", "letterbox"])
@pytest.mark.parametrize("name", ["dinosiglip-vit-so-384px", "clip-vit-b", "dinov2-vit-l"])
def test_every_transform_is_held(
    tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, strategy: str
) -> None:
    shrink_towers(monkeypatch)
    vlm = make_vlm(tokenizer, vision_id=name, build=build_tower, image_resize_strategy=strategy)
    facts = write_form(vlm, tmp_path, FORMS["hf-remote"], run="x", step=1, dtype=torch.float32)
    assert facts.pixel_differences == {"own": 0.0}


@pytest.mark.parametrize("family", ["phi", "gemma", "gemma2", "gpt2"])
def test_every_causal_language_model_is_held(tokenizer: Any, tmp_path: Path, family: str) -> None:
    """A head with a bias, a scaled embedding, a cap on logits, and names unlike Llama's."""
    rows = len(tokenizer)  # no room for <image>: embedding, head and its bias grow
    vlm = make_vlm(tokenizer, language=language_model(family, vocab_size=rows))
    facts = write_form(vlm, tmp_path, FORMS["hf-remote"], run="x", step=1, dtype=torch.bfloat16)
    assert max(row.logits for row in facts.rows) <= 1e-4
    assert json.loads((tmp_path / "config.json").read_text())["text_config"]["vocab_size"] == 320


SCRIPT = """
import importlib.abc, sys
import torch

class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("weave_train", "weave_data"):
            raise ImportError(f"{name} must not be needed")

sys.meta_path.insert(0, Blocked())
if not hasattr(torch.ops.torchvision, "nms"):  # a CPU build of torch beside torchvision's only build
    torch.library.define("torchvision::nms", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    torch.library.define("torchvision::qnms", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
code = open("README.md", encoding="utf-8").read().split("```python\\n")[1].split("```")[0]
exec(compile(code, "README.md", "exec"), {})
"""


@pytest.mark.process
def test_an_export_answers_as_the_run_does_without_anything_of_ours(tokenizer: Any, tmp_path: Path) -> None:
    from PIL import Image

    run_dir = write_run(make_vlm(tokenizer, projector="fused-gelu-mlp"), tmp_path / "run")
    export_run(run_dir, tmp_path / "remote", kind="hf-remote")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment["HF_HOME"] = str(tmp_path / "cache")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=tmp_path / "remote",
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    vlm = load(run_dir, device="cpu")
    builder = vlm.get_prompt_builder()
    builder.add_turn("human", "Describe what is happening in the video.")
    frames = [Image.new("RGB", (320, 240), colour) for colour in ("red", "green")]
    assert done.stdout.strip() == vlm.generate(frames, builder, max_new_tokens=32).strip()


def test_the_card_says_that_code_runs(tokenizer: Any, tmp_path: Path) -> None:
    write_form(make_vlm(tokenizer), tmp_path, FORMS["hf-remote"], run="x", step=1, dtype=torch.float32)
    card = (tmp_path / "README.md").read_text()
    assert "runs code of its own" in card
    assert card.count("trust_remote_code=True") == 3


def test_the_code_needs_transformers_torch_and_pil_alone() -> None:
    allowed = {"__future__", "itertools", "typing", "numpy", "torch", "PIL", "transformers"}
    for path in Path(remote_code.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert {alias.name.partition(".")[0] for alias in node.names} <= allowed
            if isinstance(node, ast.ImportFrom) and not node.level:
                assert str(node.module).partition(".")[0] in allowed


def test_image_tokens_that_do_not_fit_the_frames_are_an_error(tokenizer: Any, tmp_path: Path) -> None:
    vlm = make_vlm(tokenizer)
    write_form(vlm, tmp_path, FORMS["hf-remote"], run="x", step=1, dtype=torch.float32)
    model = FORMS["hf-remote"].load(tmp_path).model
    ids = torch.full((1, 17), model.config.image_token_id)
    with pytest.raises(ValueError, match="1 frames are 16 visual tokens, but input_ids hold 17"):
        model(input_ids=ids, pixel_values=torch.zeros(1, 3, 32, 32))


def test_towers_that_are_no_plain_vits_are_refused(
    tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = write_run(make_vlm(tokenizer), tmp_path / "run")
    monkeypatch.setattr("weave_train.exports.remote_form.plain_misfit", lambda vit: "is no plain ViT of timm")
    with pytest.raises(ConfigError, match="tower small-clip is no plain ViT of timm; use prismatic"):
        export_run(run_dir, tmp_path / "x", kind="hf-remote")
