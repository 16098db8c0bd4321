"""An estimate is what the run would count: tokens, FLOPs, states and activations, without weights."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from builders import make_world, publish_world, write_woven_dataset
from tiny_rows import CAPTIONS, jpeg, woven_row

from weave_data.storage import open_store
from weave_train import cli
from weave_train.config import ModelSettings, PretrainConfig, load_pretrain_config
from weave_train.engine.stages import apply_stage, trains_tower
from weave_train.feed import open_source
from weave_train.models.language import language_config
from weave_train.models.lora import add_lora
from weave_train.models.model import VideoLanguageModel, assemble_model, build_model
from weave_train.models.tokenizer import resolve_tokenizer, train_caption_tokenizer
from weave_train.numbers import flops_model
from weave_train.numbers.activations import MicroBatchShape, activations, saved_bytes
from weave_train.rows.batch import EncodedRow, collate, make_row
from weave_train.rows.pixels import blank_pixels
from weave_train.train.data import open_data, sample_texts
from weave_train.train.estimate import estimate
from weave_train.train.estimate_report import Speed
from weave_train.train.run_directory import model_settings
from weave_train.train.token_lengths import index_data_sets


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_woven_dataset(tmp_path_factory.mktemp("estimated"), rows=21, frames_per_sample=8)


def configuration(manifest: str, **values: Any) -> PretrainConfig:
    model = {"type": "tiny", "finetune_global_batch_size": 6, "finetune_per_device_batch_size": 2}
    model |= values.pop("model", {})
    return load_pretrain_config([], values={"model": model, "dataset": {"manifest": manifest}, **values})


def all_rows(config: PretrainConfig, manifest: str) -> tuple[VideoLanguageModel, list[EncodedRow]]:
    """The real model of a run, and every row as it trains on it."""
    data = open_data(config, world_size=1)
    settings = model_settings(config, data.configuration)
    tokenizer = resolve_tokenizer(settings, sample_texts(data))
    vlm = build_model(settings, tokenizer, trains_vision=trains_tower(config.stage, config.trainable))
    if settings.lora is not None:
        add_lora(vlm.core, settings.lora, seed=settings.seed)
    apply_stage(vlm, config.stage, config.trainable)
    source = open_source(manifest, split="train")
    rows = [
        make_row(row, tokenizer=tokenizer, settings=settings)
        for shard, count in enumerate(source.shard_rows[0])
        for group in range(-(-count // source.group_rows))
        for row in source.read(0, shard, group, epoch=0).to_pylist()
    ]
    return vlm, rows


@pytest.mark.parametrize("is_indexed", [False, True])
def test_tokens_flops_and_hours_are_those_of_the_rows_of_all_epochs(
    manifest: str, is_indexed, tmp_path
) -> None:
    to = {"manifest": manifest, "token_index": str(tmp_path)}
    config = configuration(manifest, model={"finetune_epochs": 3}, dataset=to)
    if is_indexed:
        list(index_data_sets(config))
    found = estimate(config, Speed(gpu="NVIDIA H100 80GB HBM3", mfu=0.25))
    vlm, rows = all_rows(config, manifest)
    work = sum(
        flops_model(vlm, recompute=False).of_rows(
            [len(row.input_ids)], num_frames=len(row.pixels), num_supervised=row.num_supervised
        )
        for row in rows
    )
    assert found.is_indexed is is_indexed
    assert found.num_steps == 3 * 4
    assert found.tokens == pytest.approx(3 * sum(len(row.input_ids) for row in rows))
    assert found.flops == pytest.approx(3 * work)
    assert found.seconds == pytest.approx(3 * work / (67e12 * 0.25))  # fp32
    assert found.trained == sum(value.numel() for value in vlm.core.parameters())
    assert found.checkpoint_bytes == found.snapshot_bytes == found.host_bytes == 12 * found.trained
    assert found.tower_bytes == found.frozen_bytes == sum(value.nbytes for value in vlm.tower.parameters())
    assert found.num_checkpoints == 3
    longest = max(rows, key=lambda row: len(row.input_ids))
    assert found.shape == MicroBatchShape(2, len(longest.input_ids), 16, 2 * longest.num_supervised)


@pytest.mark.parametrize(
    "values",
    [
        {"lora": {"rank": 4, "dropout": 0.1}},
        {"trainable": [{"match": "vision.vit.blocks.0.*", "train": True}]},
        {"trainable": [{"match": "language_model.model.embed_tokens.*", "freeze": True}]},
    ],
    ids=["adapters", "a block of the tower", "frozen embeddings"],
)
def test_what_is_trained_is_what_the_run_trains(manifest: str, values: dict[str, Any]) -> None:
    config = configuration(manifest, **values)
    found = estimate(config, Speed())
    vlm, rows = all_rows(config, manifest)
    assert found.trained == sum(value.numel() for value in vlm.core.parameters() if value.requires_grad)
    assert found.trained != estimate(configuration(manifest), Speed()).trained
    assert found.checkpoint_bytes == 12 * found.trained
    assert found.states.optimizer == 8 * found.trained
    work = flops_model(vlm, recompute=False)
    whole = sum(
        work.of_rows([len(row.input_ids)], num_frames=len(row.pixels), num_supervised=row.num_supervised)
        for row in rows
    )
    assert found.flops == pytest.approx(whole)


def test_a_measured_speed_wins_and_ranks_share_the_work(manifest: str) -> None:
    alone, both = (estimate(configuration(manifest, num_ranks=count), Speed(gpu="A100")) for count in (1, 2))
    assert both.seconds == pytest.approx(alone.seconds / 2)
    assert both.states.masters == alone.states.masters // 2
    assert both.snapshot_bytes == alone.snapshot_bytes // 2
    measured = estimate(configuration(manifest, num_ranks=2), Speed(gpu="A100", tokens_per_second=100.0))
    assert measured.seconds == pytest.approx(measured.tokens / 100)
    assert estimate(configuration(manifest), Speed()).seconds is None


def make_shape(vlm: VideoLanguageModel) -> tuple[Any, MicroBatchShape]:
    rows = [
        make_row(
            woven_row(str(index), [jpeg((10, 90, 30 * index))] * 2, CAPTIONS[0]),
            tokenizer=vlm.tokenizer,
            settings=vlm.settings,
        )
        for index in range(3)
    ]
    batch = collate(rows, pad_id=0)
    shape = MicroBatchShape(3, batch.input_ids.shape[1], len(batch.pixels), batch.num_supervised)
    return batch, shape


@pytest.mark.parametrize("stage", ["align", "finetune", "full-finetune"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_activations_without_memory_are_those_autograd_keeps(stage, precision) -> None:
    tokenizer = train_caption_tokenizer(CAPTIONS, vocab_size=320)
    settings = ModelSettings(precision=precision, llm_max_length=128)
    is_trained = stage == "full-finetune"
    real = build_model(settings, tokenizer, trains_vision=is_trained)
    apply_stage(real, stage)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    real.core.to(dtype)
    batch, shape = make_shape(real)
    features = real.frozen_features(batch)
    modules = [real.core, real.tower]
    kept = saved_bytes(lambda: real.core(features, batch), modules)
    with torch.device("meta"):
        empty = assemble_model(
            settings,
            tokenizer,
            language_config=language_config(settings, tokenizer),
            trains_vision=is_trained,
        )
    apply_stage(empty, stage)
    found = activations(empty, shape, recompute=False)
    # the head's gradient is not kept by autograd, but there at the same time
    gradient = shape.supervised * real.core.language_model.config.vocab_size * 8
    assert found.total - gradient == pytest.approx(kept, rel=0.1)
    assert (found.tower > 0) == is_trained


def test_recomputing_keeps_inputs_and_one_layer() -> None:
    tokenizer = train_caption_tokenizer(CAPTIONS, vocab_size=320)
    settings = ModelSettings(precision="fp32", llm_max_length=128)

    def count(*, recompute: bool) -> Any:
        with torch.device("meta"):
            vlm = assemble_model(settings, tokenizer, language_config=language_config(settings, tokenizer))
        apply_stage(vlm, "finetune")
        return activations(vlm, MicroBatchShape(2, 100, 8, 50), recompute=recompute)

    whole, again = count(recompute=False), count(recompute=True)
    assert again.layers == 2 * (2 * 100 * 96 * 4) + whole.layers // 2
    assert replace(again, layers=0) == replace(whole, layers=0)


@pytest.mark.usefixtures("small_towers")
def test_every_member_of_a_trained_tower_keeps_activations() -> None:
    tokenizer = train_caption_tokenizer(CAPTIONS, vocab_size=320)
    settings = ModelSettings(
        vision_backbone_id="dinosiglip-vit-so-224px", precision="fp32", llm_max_length=128
    )

    def build() -> VideoLanguageModel:
        vlm = assemble_model(
            settings,
            tokenizer,
            language_config=language_config(settings, tokenizer),
            trains_vision=True,
        )
        apply_stage(vlm, "full-finetune")
        return vlm

    pixels = blank_pixels(8, settings)
    real = build()
    kept = saved_bytes(lambda: real.tower(pixels), [real.tower])
    found = []
    for recompute in (False, True):
        with torch.device("meta"):
            empty = build()
        found.append(activations(empty, MicroBatchShape(2, 100, 8, 50), recompute=recompute).tower)
    assert found[0] == pytest.approx(kept, rel=0.05)
    # one block of each runs on 2 x 2 patches, DINO's five prefix tokens beside them
    assert found[1] == 8 * (4 + 5 + 4) * 32 * 4 + found[0] // 2


def test_no_weights_are_needed(manifest: str, assets: Path, tmp_path: Path) -> None:
    whole = assets / "models" / "stories260k_hf"
    for file in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(whole / file, tmp_path / file)

    def of(directory: Path) -> PretrainConfig:
        model = {"llm_backbone_id": f"hf:{directory}", "llm_max_length": 256}
        return configuration(manifest, model=model)

    found = estimate(of(tmp_path), Speed())
    vlm, rows = all_rows(of(whole), manifest)
    assert found.trained == sum(value.numel() for value in vlm.core.parameters())
    assert found.tokens == pytest.approx(sum(len(row.input_ids) for row in rows))


def test_what_is_not_known_is_said(manifest: str, tmp_path: Path, monkeypatch, capsys) -> None:
    for arguments, message in (
        (["--gpu", "H101"], "gpu: 'H101' is not known; give one of "),
        (["--gpu", "H100", "--mfu", "30"], "mfu: 30.0 is not a share"),
        (["--model.llm_max_length", "34"], "model.llm_max_length: rows do not fit, the first has "),
    ):
        monkeypatch.setattr(
            "sys.argv",
            ["weave-train", "estimate", "--dataset.manifest", manifest, "--model.type", "tiny", *arguments],
        )
        with pytest.raises(SystemExit) as caught:
            cli.main()
        assert caught.value.code == 2
        assert capsys.readouterr().err.startswith(f"weave-train: {message}")


def test_the_command_prints_every_part(manifest: str, monkeypatch, capsys) -> None:
    arguments = ["--model.type", "tiny", "--num_ranks", "4", "--tokens_per_second", "50"]
    monkeypatch.setattr("sys.argv", ["weave-train", "estimate", "--dataset.manifest", manifest, *arguments])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert not caught.value.code
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert names == [
        "trained",
        "states",
        "buffers",
        "activations",
        "peak",
        "lengths",
        "run",
        "time",
        "storage",
    ]


def test_steps_that_are_asked_for_count_whatever_the_epochs(manifest: str) -> None:
    rows = 21  # four steps an epoch, of which the last has three rows
    epoch = estimate(configuration(manifest), Speed()).tokens
    found = estimate(configuration(manifest, max_steps=10), Speed())
    assert found.num_steps == 10
    assert found.tokens == pytest.approx(epoch * (2 * rows + 2 * 6) / rows)
    assert estimate(configuration(manifest, max_steps=2), Speed()).tokens == pytest.approx(epoch * 12 / rows)


def test_the_peak_is_at_least_the_model_as_it_is_loaded(manifest: str) -> None:
    on_many = configuration(
        manifest, zero_stage=3, num_ranks=6, model={"enable_gradient_checkpointing": True}
    )
    found = estimate(on_many, Speed())
    vlm, _ = all_rows(on_many, manifest)
    assert found.loaded_bytes == sum(
        value.nbytes for module in (vlm.core, vlm.tower) for value in module.parameters()
    )
    assert found.peak_bytes >= found.loaded_bytes
    huge = replace(found, loaded_bytes=10**12)
    assert huge.peak_bytes == 10**12


def test_all_stored_epochs_are_sampled(tmp_path: Path) -> None:
    publish_world(make_world(rows=8, num_epochs=2), open_store(str(tmp_path)))
    found = estimate(configuration(f"{tmp_path}/l4/manifest.json", model={"finetune_epochs": 2}), Speed())
    assert found.rows == 16
