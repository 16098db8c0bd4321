"""What others have published is found by id, and by names that are a model's own."""

from __future__ import annotations

import collections
import json
import subprocess
import sys

import pytest

import weave_train
from weave_data.errors import ConfigError
from weave_train import available_model_ids, available_model_ids_and_names, get_model_description
from weave_train.config.model_presets import VIDEOWEAVE_PRESETS
from weave_train.config.published import published_model

SHARED = {
    "Gemma Instruct 2B", "Gemma Instruct 8B", "Llama-2 Chat 7B", "Llama-3 Instruct 8B",
    "Mistral Instruct v0.2 7B", "Phi-3 4B",
}  # fmt: skip


def test_there_are_as_many_ids_and_names_as_videoweave_has() -> None:
    ids, rows = available_model_ids(), available_model_ids_and_names()
    assert len(ids) == len(set(ids)) == 66
    assert [row[0] for row in rows] == ids
    assert len({name for row in rows for name in row}) == 134
    counts = collections.Counter(name for row in rows for name in row)
    assert {name: count for name, count in counts.items() if count > 1} == dict.fromkeys(SHARED, 3)


@pytest.mark.parametrize("name", sorted(SHARED))
def test_a_name_of_several_models_is_refused_with_their_ids(name: str) -> None:
    with pytest.raises(ConfigError, match="names 3 models; give one of their ids: .*clip, .*siglip"):
        get_model_description(name)


@pytest.mark.parametrize(
    ("asked", "model_id", "repository"),
    [
        ("prism-clip+7b", "prism-clip+7b", "TRI-ML/prismatic-vlms"),
        ("Prism 13B (Controlled)", "prism-dinosiglip-controlled+13b", "TRI-ML/prismatic-vlms"),
        ("Base", "one-stage+7b", "TRI-ML/prismatic-vlms"),
        ("gemma-instruct+8b+siglip", "gemma-instruct+8b+siglip", "RylanSchaeffer/prismatic-vlms"),
        ("prism-phi-instruct-3+4b+clip", "phi-instruct-3+4b+clip", "RylanSchaeffer/prismatic-vlms"),
        ("prism-llama2-chat+7b+dinosiglip", "llama2-chat+7b+dinosiglip", "RylanSchaeffer/prismatic-vlms"),
    ],
)
def test_a_model_is_sought_where_it_is(asked: str, model_id: str, repository: str) -> None:
    model = published_model(asked)
    assert (model.model_id, model.repository) == (model_id, repository)


@pytest.mark.parametrize("unknown", ["prism-one-stage+7b", "prism-clip+8b", "tiny"])
def test_an_unknown_model_names_the_nearest(unknown: str) -> None:
    with pytest.raises(ConfigError, match="is not a published model"):
        get_model_description(unknown)
    with pytest.raises(ConfigError, match=r"did you mean 'prism-clip\+13b'"):
        get_model_description("prism-clip+14b")


@pytest.mark.parametrize(
    ("model_id", "expected"),
    [
        (
            "full-ft-multi-stage+7b",
            ["multi-stage-full-finetune", "CLIP ViT-L/14 @ 336px", "Letterbox", "Vicuña v1.5 7B", 1, 1],
        ),
        (
            "prism-siglip+13b",
            ["single-stage", "SigLIP ViT-SO/14 @ 384px", "Naive Resize", "Llama-2 13B", 3, 2],
        ),
        (
            "phi-instruct-3+4b+dinosiglip",
            ["single-stage", "DINOv2 ViT-L/14 + SigLIP ViT-SO/14 @ 384px", "Letterbox", "Phi-3 4B", 1, 1],
        ),
        (
            "train-1.25-epochs+7b",
            ["single-stage", "CLIP ViT-L/14 @ 336px", "Letterbox", "Vicuña v1.5 7B", 1, 1.25],
        ),
    ],
)
def test_a_description_is_printed_and_returned(model_id: str, expected: list, capsys) -> None:
    text = get_model_description(model_id)
    assert capsys.readouterr().out == text + "\n"
    said = json.loads(text)
    keys = ("optimization_procedure", "visual_representation", "image_processing", "language_model")
    assert [*(said[key] for key in keys), len(said["datasets"]), said["train_epochs"]] == expected


def test_every_model_has_a_description_and_prismatics_are_presets(capsys) -> None:
    for model_id in available_model_ids():
        get_model_description(model_id)
        model = published_model(model_id)
        if model.repository.startswith("TRI-ML/"):
            assert model_id in VIDEOWEAVE_PRESETS
    assert capsys.readouterr().out.count('"name"') == 66


@pytest.mark.process
def test_asking_what_there_is_loads_no_torch() -> None:
    script = "import sys, weave_train; weave_train.available_model_ids(); print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"


def test_the_package_says_what_it_has() -> None:
    assert all(hasattr(weave_train, name) for name in weave_train.__all__)
    with pytest.raises(AttributeError, match="no attribute 'available_models'"):
        _ = weave_train.available_models
