"""What a new run begins with: taken whole from where it was asked for, or refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from stored_pieces import cut_evenly, write_checkpoint

from weave_data.errors import ConfigError, DeviceError, VerificationError
from weave_data.storage import LocalStore
from weave_train.checkpoint.frozen import frozen_sha256, save_frozen
from weave_train.checkpoint.prismatic import write_prismatic
from weave_train.config import LoraConfig, ModelSettings, PretrainConfig, load_pretrain_config
from weave_train.engine.stages import apply_stage
from weave_train.loading import model_parts, save_model_files
from weave_train.models.lora import add_lora, merge_lora
from weave_train.models.model import VideoLanguageModel, build_model
from weave_train.models.tokenizer import train_caption_tokenizer
from weave_train.train.warm_start import find_donor

torch.set_num_threads(1)
SETTINGS = ModelSettings(precision="fp32", llm_max_length=256, arch_specifier="gelu-mlp")
ALIGNED = "gelu-mlp"
FINISHED = {"step": 5, "num_steps": 5}


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return train_caption_tokenizer(["a red dot moves", "a blue dot rests"], vocab_size=300)


def make_model(tokenizer: Any, *, seed: int, **changes: Any) -> VideoLanguageModel:
    return build_model(SETTINGS.model_copy(update={"seed": seed, **changes}), tokenizer)


def write_run(
    vlm: VideoLanguageModel, run_dir: Path, *, stage: str, state: dict[str, Any] | None = None
) -> Path:
    """A run as the trainer leaves it after a few steps: every weight moved."""
    apply_stage(vlm, stage)
    with torch.no_grad():
        for value in vlm.core.parameters():
            value.add_(0.01)
    save_model_files(vlm, run_dir)
    pretrain = config(run_dir.parent, stage=stage).model_dump(mode="json")
    values = {"model": vlm.settings.model_dump(mode="json"), "pretrain": pretrain}
    (run_dir / "config.json").write_text(json.dumps(values))
    store, frozen = LocalStore(run_dir), {}
    for part, module in model_parts(vlm).items():
        if not all(value.requires_grad for value in module.parameters()):
            frozen[part] = frozen_sha256(module)
            save_frozen(store, part, module, sha256=frozen[part])
    weights = {name: value for name, value in vlm.core.named_parameters() if value.requires_grad}
    shapes = {name: value.shape for name, value in weights.items()}
    pieces, state = cut_evenly(weights, 2), state or FINISHED
    write_checkpoint(store, pieces, step=5, shapes=shapes, frozen=frozen, state=state)
    return run_dir


def config(root: Path, *, stage: str = "finetune", arch: str = ALIGNED, **flags: Any) -> PretrainConfig:
    values = {
        "dataset.manifest": "out/l4/manifest.json",
        "model.type": "tiny",
        "model.arch_specifier": arch,
        "stage": stage,
        "run_root_dir": str(root),
        **flags,
    }
    return load_pretrain_config(list(values.items()))


def weights_of(vlm: VideoLanguageModel, part: str) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model_parts(vlm)[part].state_dict().items()}


def assert_equal(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert torch.equal(value, theirs[name]), name


def test_finetune_takes_the_projector_of_the_align_run_beside_it(tokenizer: Any, tmp_path: Path) -> None:
    run_id = config(tmp_path, stage="align").resolved_run_id("l4")
    assert run_id.count("+") == 3
    aligned = make_model(tokenizer, seed=1)
    write_run(aligned, tmp_path / run_id, stage="align")
    donor = find_donor(config(tmp_path), recipe="l4")
    assert donor is not None
    vlm = make_model(tokenizer, seed=2)
    language = weights_of(vlm, "language")
    start = donor.give(vlm)
    assert_equal(weights_of(vlm, "projector"), weights_of(aligned, "projector"))
    assert_equal(weights_of(vlm, "language"), language)
    assert start.loaded.keys() == {"projector"}
    assert start.left == ("language", "vision")
    assert "begins with projector (4 tensors)" in start.describe()
    given = donor.tokenizer()
    assert given is not None
    assert given.get_vocab() == tokenizer.get_vocab()


@pytest.mark.parametrize("run_id", ["first", "a+b+c+d+e+stage-align+x1", "x"])
def test_the_align_run_is_found_whatever_it_is_called(tokenizer: Any, tmp_path: Path, run_id: str) -> None:
    write_run(make_model(tokenizer, seed=1), tmp_path / run_id, stage="align")
    write_run(make_model(tokenizer, seed=3), tmp_path / "other", stage="finetune")
    donor = find_donor(config(tmp_path), recipe="l4")
    assert donor is not None
    assert donor.origin == str(tmp_path / run_id)


def test_no_align_run_or_two_of_them_are_an_error(tokenizer: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="starts from a projector trained by --stage align: none in"):
        find_donor(config(tmp_path), recipe="l4")
    for name in ("one", "two"):
        write_run(make_model(tokenizer, seed=1), tmp_path / name, stage="align")
    with pytest.raises(ConfigError, match=r"one, .*two all fit; name one with --pretrained_checkpoint"):
        find_donor(config(tmp_path), recipe="l4")
    named = config(tmp_path, pretrained_checkpoint=str(tmp_path / "two"))
    donor = find_donor(named, recipe="l4")
    assert donor is not None
    assert donor.origin == str(tmp_path / "two")
    assert donor.parts == ("projector",)


def test_an_align_run_that_is_not_finished_is_named_and_not_taken(tokenizer: Any, tmp_path: Path) -> None:
    model, state = make_model(tokenizer, seed=1), {"step": 5, "num_steps": 9}
    run_dir = write_run(model, tmp_path / "begun", stage="align", state=state)
    with pytest.raises(ConfigError, match=rf"none in {tmp_path}; {run_dir} is at step 5 of 9; name one with"):
        find_donor(config(tmp_path), recipe="l4")
    assert find_donor(config(tmp_path, pretrained_checkpoint=str(run_dir)), recipe="l4") is not None
    write_run(make_model(tokenizer, seed=1), tmp_path / "done", stage="align")
    donor = find_donor(config(tmp_path), recipe="l4")
    assert donor is not None
    assert donor.origin == str(tmp_path / "done")


def test_a_damaged_align_run_is_not_taken_for_none(tokenizer: Any, tmp_path: Path) -> None:
    run_dir = write_run(make_model(tokenizer, seed=1), tmp_path / "one", stage="align")
    (complete,) = run_dir.rglob("complete.json")
    complete.write_text("{}")
    with pytest.raises(VerificationError, match="step-000005"):
        find_donor(config(tmp_path), recipe="l4")


def test_one_stage_runs_and_align_itself_begin_as_built(tmp_path: Path) -> None:
    assert find_donor(config(tmp_path, arch="no-align+gelu-mlp"), recipe="l4") is None
    assert find_donor(config(tmp_path, stage="align"), recipe="l4") is None


@pytest.mark.parametrize("as_file", [True, False])
def test_init_from_model_takes_every_part_of_a_run_or_a_file(
    tokenizer: Any, tmp_path: Path, as_file: bool
) -> None:
    source = make_model(tokenizer, seed=1)
    name = write_run(source, tmp_path / "runs" / "source", stage="full-finetune")
    if as_file:
        name = tmp_path / "latest-checkpoint.pt"
        write_prismatic(name, {part: module.state_dict() for part, module in model_parts(source).items()})
    asked = config(tmp_path, arch="no-align+gelu-mlp", **{"model.init_from_model": str(name)})
    donor = find_donor(asked, recipe="l4")
    assert donor is not None
    vlm = make_model(tokenizer, seed=2)
    start = donor.give(vlm)
    assert start.left == ()
    for part in ("projector", "language", "vision"):
        assert_equal(weights_of(vlm, part), weights_of(source, part))


def test_a_file_without_a_tower_leaves_the_tower_and_says_so(tokenizer: Any, tmp_path: Path) -> None:
    source, vlm = make_model(tokenizer, seed=1), make_model(tokenizer, seed=2)
    parts = {p: m.state_dict() for p, m in model_parts(source).items() if p != "vision"}
    write_prismatic(tmp_path / "x.pt", parts)
    tower = weights_of(vlm, "vision")
    asked = config(tmp_path, arch="no-align+gelu-mlp", **{"model.init_from_model": str(tmp_path / "x.pt")})
    start = find_donor(asked, recipe="l4").give(vlm)
    assert start.left == ("vision",)
    assert_equal(weights_of(vlm, "vision"), tower)
    start.write(tmp_path)
    assert json.loads((tmp_path / "warm_start.json").read_text())["left"] == ["vision"]


def test_what_does_not_fit_is_refused_and_nothing_is_copied(tokenizer: Any, tmp_path: Path) -> None:
    source = make_model(tokenizer, seed=1)
    vlm = make_model(tokenizer, seed=2, arch_specifier="fused-gelu-mlp")
    write_prismatic(tmp_path / "x.pt", {p: m.state_dict() for p, m in model_parts(source).items()})
    before = {part: weights_of(vlm, part) for part in ("projector", "language")}
    asked = config(
        tmp_path, arch="no-align+fused-gelu-mlp", **{"model.init_from_model": str(tmp_path / "x.pt")}
    )
    with pytest.raises(ConfigError, match=r"does not fit: projector\.\S+ (is missing|has shape)"):
        find_donor(asked, recipe="l4").give(vlm)
    for part, values in before.items():
        assert_equal(weights_of(vlm, part), values)


def test_names_that_lead_nowhere_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one_stage = "no-align+gelu-mlp"
    for name, message in (
        (str(tmp_path / "no.pt"), "there is no file"),
        (str(tmp_path / "no-run"), "there is no run directory"),
        (str(tmp_path), "no complete checkpoint"),
    ):
        with pytest.raises(ConfigError, match=message):
            find_donor(config(tmp_path, arch=one_stage, **{"model.init_from_model": name}), recipe="l4")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(DeviceError, match="can't be had from TRI-ML/prismatic-vlms"):
        find_donor(
            config(tmp_path, arch=one_stage, **{"model.init_from_model": "prism-clip+7b"}), recipe="l4"
        )


def test_a_hub_id_is_read_from_the_hubs_cache(
    tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, vlm = make_model(tokenizer, seed=1), make_model(tokenizer, seed=2)
    cache = tmp_path / "hub" / "models--me--models"
    folder = cache / "snapshots" / ("0" * 40) / "mine+1b" / "checkpoints"
    folder.mkdir(parents=True)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("0" * 40)
    write_prismatic(
        folder / "latest-checkpoint.pt", {p: m.state_dict() for p, m in model_parts(source).items()}
    )
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    flags = {"model.init_from_model": "mine+1b", "model.repo_id": "me/models"}
    find_donor(config(tmp_path, arch="no-align+gelu-mlp", **flags), recipe="l4").give(vlm)
    assert_equal(weights_of(vlm, "projector"), weights_of(source, "projector"))


def test_a_token_is_sent_to_the_hub_only_when_it_asks_for_one(tmp_path: Path, monkeypatch) -> None:
    from huggingface_hub.errors import GatedRepoError
    from requests import Response

    sent = []

    def download(repository: str, filename: str, *, token: str | bool) -> str:
        sent.append(token)
        if repository == "me/gated" and token is False:
            raise GatedRepoError("gated", response=Response())
        return f"{repository}/{filename}"

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    monkeypatch.setenv("MY_TOKEN", "hf_mine")
    for name, repository, tokens in (
        ("prism-gemma-instruct+2b+siglip", None, [False]),
        ("mine+1b", "me/gated", [False, "hf_mine"]),
    ):
        sent.clear()
        flags = {"model.init_from_model": name, "model.repo_id": repository, "hf_token": "MY_TOKEN"}
        donor = find_donor(config(tmp_path, arch="no-align+gelu-mlp", **flags), recipe="l4")
        assert sent == tokens
        place = repository or "RylanSchaeffer/prismatic-vlms"
        folder = name.removeprefix("prism-")
        assert str(donor.file) == f"{place}/{folder}/checkpoints/latest-checkpoint.pt"


def test_an_unknown_published_id_names_the_nearest(tmp_path: Path) -> None:
    flags = {"model.init_from_model": "prism-clip+8b"}
    with pytest.raises(ConfigError, match="init_from_model: .*did you mean 'prism-clip"):
        find_donor(config(tmp_path, arch="no-align+gelu-mlp", **flags), recipe="l4")


def test_a_run_with_adapters_gives_its_merged_weights(tokenizer: Any, tmp_path: Path) -> None:
    lora = LoraConfig(rank=2)
    source = make_model(tokenizer, seed=1, lora=lora)
    add_lora(source.core, lora, seed=1)
    name = write_run(source, tmp_path / "source", stage="finetune")
    merge_lora(source.core)
    arch = "no-align+gelu-mlp"
    donor = find_donor(config(tmp_path, arch=arch, **{"model.init_from_model": str(name)}), recipe="l4")
    assert donor is not None
    vlm = make_model(tokenizer, seed=2)
    donor.give(vlm)
    for part in ("projector", "language", "vision"):
        assert_equal(weights_of(vlm, part), weights_of(source, part))
    add_lora(vlm.core, lora, seed=3)  # the next run's own, on top of them
