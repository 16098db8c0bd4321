"""Each of VideoWeave's data set ids names its own lists and media, below a root that can be chosen."""

from __future__ import annotations

import pytest

from weave_train.config import DATASET_IDS, load_pretrain_config
from weave_train.config.dataset_presets import DATASET_PRESETS
from weave_train.feed import list_components

LAION = ("download/llava-laion-cc-sbu-558k/chat.json", "download/llava-laion-cc-sbu-558k")
INSTRUCT = "download/llava-v1.5-instruct"
TRAIN = ("dataset_splits/webvid_train_45k_cluster_size=4.json", "webvid_num_frames=1")
VAL = ("dataset_splits/webvid_val_5k_cluster_size=4.json", "webvid_num_frames=1")

COMPONENTS = {
    "llava-v15": (LAION, (f"{INSTRUCT}/llava_v1_5_mix665k.json", INSTRUCT)),
    "llava-multimodal": (LAION, (f"{INSTRUCT}/llava_v1_5_stripped625k.json", INSTRUCT)),
    "llava-lvis4v": (LAION, (f"{INSTRUCT}/llava_v1_5_lvis4v_mix888k.json", INSTRUCT)),
    "llava-lrv": (LAION, (f"{INSTRUCT}/llava_v1_5_lrv_mix1008k.json", INSTRUCT)),
    "llava-lvis4v-lrv": (LAION, (f"{INSTRUCT}/llava_v1_5_lvis4v_lrv_mix1231k.json", INSTRUCT)),
    "video-llava-v15": (LAION, (f"{INSTRUCT}/llava_v1_5_mix665k_videos_2frame.json", INSTRUCT)),
    "webvid": (TRAIN, TRAIN),
    "webvid_val": (VAL, VAL),
}
"""(list, media) of stage align, of the others."""


@pytest.fixture(autouse=True)
def _no_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WEAVE_DATA_ROOT", raising=False)


def components(flags: dict, *, stage: str = "finetune") -> tuple[str, str]:
    (listed,), media = list_components(load_pretrain_config(list(flags.items())).dataset, stage=stage)
    return listed, media


def test_the_ids_are_videoweaves_eight() -> None:
    assert len(DATASET_IDS) == 8
    assert set(DATASET_IDS) == set(DATASET_PRESETS) == set(COMPONENTS)


@pytest.mark.parametrize("dataset_id", COMPONENTS)
def test_an_id_names_its_components_in_each_stage(dataset_id: str) -> None:
    align, finetune = (tuple(f"data/{path}" for path in pair) for pair in COMPONENTS[dataset_id])
    assert components({"dataset.type": dataset_id}, stage="align") == align
    assert components({"dataset.type": dataset_id}, stage="finetune") == finetune
    assert components({"dataset.type": dataset_id}, stage="full-finetune") == finetune


def test_a_root_is_a_flag_else_the_environments_else_data(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = {"dataset.type": "webvid"}
    assert components(plain)[1] == "data/webvid_num_frames=1"
    monkeypatch.setenv("WEAVE_DATA_ROOT", "s3://bucket/lists/")
    assert components(plain)[1] == "s3://bucket/lists/webvid_num_frames=1"
    assert components({**plain, "dataset.dataset_root_dir": "/big"})[1] == "/big/webvid_num_frames=1"


def test_a_root_is_written_into_the_configuration_that_ranks_elsewhere_get(monkeypatch) -> None:
    monkeypatch.setenv("WEAVE_DATA_ROOT", "/big")
    parts = [{"name": "a", "slots": 128, "type": "webvid"}]
    for flags in ({"dataset.type": "webvid", "val_dataset.type": "webvid_val"}, {"dataset.mixture": parts}):
        config = load_pretrain_config(list(flags.items()))
        assert config.dataset.dataset_root_dir == "/big"
        if "val_dataset.type" in flags:
            assert config.val_dataset.dataset_root_dir == "/big"


def test_a_root_stays_out_of_runs_that_read_no_lists(monkeypatch) -> None:
    monkeypatch.setenv("WEAVE_DATA_ROOT", "/big")
    config = load_pretrain_config([("dataset.manifest", "out/l4/manifest.json")])
    assert config.dataset.dataset_root_dir is None
    assert config.validation_dataset is None


def test_absolute_paths_and_uris_stay_as_they_are() -> None:
    given = ["/lists/a.json", "s3://bucket/frames"]
    flags = {"dataset.type": "webvid", "dataset.finetune_stage_components": given}
    assert components(flags) == tuple(given)
