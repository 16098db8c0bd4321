from __future__ import annotations

import base64
import dataclasses
import io
import re

import numpy as np
import pytest
from builders import CountingStore
from PIL import Image

from weave_data.records import WovenSample
from weave_data.report import ReportInputs, read_inputs, render_report
from weave_data.report.collage import make_collage
from weave_data.report.histograms import HEIGHT, histogram
from weave_data.report.inputs import RefusedClip
from weave_data.report.stored import stored_vectors
from weave_data.report.thumbnails import Thumbnails, shrink_picture
from weave_data.shard import read_manifest
from weave_data.storage import Store

EVIL = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def inputs(store: Store) -> ReportInputs:
    return read_inputs(store)


def with_text(sample: WovenSample, text: str) -> WovenSample:
    clips = tuple(dataclasses.replace(clip, caption=text) for clip in sample.clips)
    turns = tuple(dataclasses.replace(turn, value=text) for turn in sample.conversations)
    return dataclasses.replace(sample, clips=clips, conversations=turns, strategy=text)


def test_the_page_shows_every_recipe_with_pictures_and_captions(inputs: ReportInputs, store: Store) -> None:
    text = render_report(inputs)
    for name in ("l1", "l4"):
        assert f">{name}</h3>" in text
        first = inputs.samples[name][0]
        assert first.sample_id in text
        assert first.clips[0].caption in text
        assert f"{first.frame_seconds[1]:.2f} s" in text
    pictures = re.findall(r'<img src="data:image/jpeg;base64,([^"]+)"', text)
    assert len(pictures) >= 8
    for data in pictures:
        Image.open(io.BytesIO(base64.b64decode(data))).verify()


def test_foreign_text_never_becomes_markup(inputs: ReportInputs) -> None:
    refused = RefusedClip("decode", EVIL, EVIL, EVIL, EVIL, EVIL, EVIL, None)
    samples = {name: tuple(with_text(s, EVIL) for s in found) for name, found in inputs.samples.items()}
    stored = dataclasses.replace(inputs.stored, licences={EVIL: 3})
    recipe = {**inputs.manifests[0].configuration["recipe"], "prompt": EVIL}
    manifest = dataclasses.replace(inputs.manifests[0], configuration={"recipe": recipe})
    text = render_report(
        dataclasses.replace(
            inputs,
            manifests=(manifest, *inputs.manifests[1:]),
            samples=samples,
            refused={EVIL: (refused,)},
            stored=stored,
        )
    )
    assert text.count("&lt;script&gt;") >= 8
    assert "<script" not in text
    assert not re.search(r"<img src=x|onerror=alert\(1\)>", text)


def test_the_page_asks_for_nothing_outside_itself(inputs: ReportInputs) -> None:
    text = render_report(inputs)
    assert not re.search(r"(?:src|href)=\"(?!data:|#)", text)
    assert not re.search(r"https?://|url\(|@import", text)
    assert "default-src 'none'" in text


def test_the_page_is_a_function_of_the_output(store: Store, inputs: ReportInputs) -> None:
    assert render_report(inputs) == render_report(read_inputs(store))
    assert store.uri not in render_report(inputs)


def test_the_accounting_is_on_the_page(inputs: ReportInputs) -> None:
    text = render_report(inputs)
    assert "empty_caption 1" in text
    assert "too_short 1, truncated 1" in text
    assert "does not balance" not in text
    manifest = inputs.manifests[0]
    lost = dataclasses.replace(manifest.totals[1], num_out=0)
    broken = dataclasses.replace(manifest, totals=(manifest.totals[0], lost))
    assert "does not balance" in render_report(dataclasses.replace(inputs, manifests=(broken,)))


def test_a_sample_without_frames_and_one_of_a_single_picture_are_shown(inputs: ReportInputs) -> None:
    sample = inputs.samples["l1"][0]
    image = dataclasses.replace(
        sample,
        frames=sample.frames[:1],
        frame_clip=(0,),
        frame_index=(0,),
        frame_seconds=(0.0,),
        num_frames=1,
    )
    none = dataclasses.replace(
        sample, frames=(), frame_clip=(), frame_index=(), frame_seconds=(), num_frames=0, clips=()
    )
    text = render_report(dataclasses.replace(inputs, samples={"l1": (image, none)}))
    assert text.count(sample.sample_id) == 2
    assert "0 frames" in text


def test_an_empty_output_still_makes_a_page(inputs: ReportInputs) -> None:
    empty = dataclasses.replace(inputs, manifests=(), samples={}, collages={}, refused={})
    assert "What was built" in render_report(empty)


def test_the_tightest_group_is_the_one_whose_clips_point_the_same_way(inputs: ReportInputs) -> None:
    samples = inputs.samples["l4"]
    rng = np.random.default_rng(3)
    vectors: dict[str, np.ndarray] = {}
    for number, sample in enumerate(samples):
        for clip in sample.clips:
            vector = rng.normal(size=16) + 3.0 * number * np.eye(16)[0]
            vectors[clip.clip_id] = vector / np.linalg.norm(vector)

    def read(clip_ids: list[str]) -> np.ndarray:
        return np.array([vectors[clip_id] for clip_id in clip_ids], np.float32)

    collage = make_collage(samples, read)  # type: ignore[arg-type]
    assert collage is not None
    expected = []
    for sample in samples:
        rows = read([clip.clip_id for clip in sample.clips])
        cosines = rows @ rows.T
        expected.append(float(cosines[np.triu_indices(len(rows), 1)].mean()))
    assert collage.cosines == pytest.approx(expected, abs=1e-5)
    assert collage.tightest[0].cosine == pytest.approx(max(expected), abs=1e-5)
    assert collage.loosest[0].cosine == pytest.approx(min(expected), abs=1e-5)
    captions = [clip.caption for clip in samples[int(np.argmax(expected))].clips]
    assert [caption for _, caption in collage.tightest[0].clips] == captions
    assert "most alike" not in render_report(inputs)
    assert "most alike" in render_report(dataclasses.replace(inputs, collages={"l4": collage}))


def test_groups_without_vectors_have_no_collage(inputs: ReportInputs, store: Store) -> None:
    assert make_collage(inputs.samples["l4"], lambda ids: None) is None
    assert make_collage(inputs.samples["l1"], lambda ids: np.ones((len(ids), 2), np.float32)) is None
    assert stored_vectors(store, read_manifest(store, "l4")) is None


def test_a_histogram_counts_every_value_and_marks_what_is_cut() -> None:
    values = np.array([0.0, 0.1, 0.2, 0.2, 0.9, 1.0])
    found = histogram("motion", values, low=0.15, high=2.0)
    assert (found.num_values, found.num_cut) == (6, 2)
    assert [mark.label for mark in found.marks] == ["min 0.15", "max 2"]
    assert found.marks[0].x / 300 == pytest.approx(0.15 / 2)
    assert sum(bar.is_cut for bar in found.bars) == 2
    assert max(bar.height for bar in found.bars) == HEIGHT
    constant = histogram("luma", np.array([3.0, 3.0]))
    assert (constant.low, constant.middle, constant.high, len(constant.bars)) == ("", "3", "", 1)
    assert histogram("size_bytes", np.array([10.0, 1e6])).is_log


def test_pictures_stay_within_their_budget() -> None:
    rng = np.random.default_rng(1)
    sink = io.BytesIO()
    Image.fromarray(rng.integers(0, 255, (300, 400, 3), dtype=np.uint8)).save(sink, "PNG")
    assert len(shrink_picture(sink.getvalue(), max_bytes=4000)) <= 4000
    made = Thumbnails(1500, 4_800_000)(sink.getvalue())
    assert len(made) * 1500 < 6_000_000


def test_reading_is_bounded_in_row_groups(store: Store) -> None:
    counting = CountingStore(store)
    inputs = read_inputs(counting)  # type: ignore[arg-type]
    assert len(inputs.samples["l4"]) <= 8 * 4
    assert len(counting.named("get_range")) <= 2 * 2 * 9
