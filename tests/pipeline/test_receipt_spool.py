"""What the spool gives back is what the receipts held, in part order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from weave_data.decode import DecodeReceipt
from weave_data.decode.receipt import INDEX_SCHEMA
from weave_data.pipeline import receipt_spool
from weave_data.pipeline.address_rows import AddressRows
from weave_data.pipeline.receipt_spool import ReceiptSpool, SpooledReceipts
from weave_data.records import QUALITY_SCHEMA, StageCount, rejects_table
from weave_data.shard import ADDRESS_SCHEMA

FRAMES_KEY = "0123456789abcdef" * 2


def random_receipt(random: np.random.Generator, part: str) -> DecodeReceipt:
    """Up to five clips in up to three layers, some rejected; sometimes nothing, sometimes an open clip."""
    layers = [f"layer{number}" for number in range(random.integers(1, 4))]
    rows, quality, rejects = [], [], []
    for number in range(random.integers(0, 6)):
        clip_id = f"{part}-clip-{number}"
        if random.random() < 0.2:
            refusal = {
                "stage": "decode",
                "part": part,
                "recipe": None,
                "clip_id": clip_id,
                "key": f"{clip_id}.mp4",
            }
            rejects.append({**refusal, "reason": "corrupt", "detail": "häßlich"})
            continue
        size = int(random.integers(0, 7))
        rows.append(
            {
                "clip_id": clip_id,
                "source_frames": int(random.integers(1, 900)),
                "source_seconds": float(np.float32(random.random())),
                "width": int(random.integers(1, 900)),
                "height": int(random.integers(1, 900)),
                "frame_index": random.integers(0, 900, size).tolist(),
                "frame_seconds": random.random(size).astype(np.float32).tolist(),
                "frame_offset": random.integers(0, 1 << 40, size).tolist(),
                "frame_bytes": random.integers(0, 1 << 30, size).tolist(),
                "frame_layer": random.choice(layers, size).tolist(),
            }
        )
        values = {name: float(np.float32(random.random())) for name in QUALITY_SCHEMA.names}
        texts = {"clip_id": clip_id, "sha256": random.bytes(32).hex(), "width": 5, "height": 6}
        quality.append({**values, **texts})
    return DecodeReceipt(
        part=part,
        frames_key=FRAMES_KEY,
        index=pa.Table.from_pylist(rows, schema=INDEX_SCHEMA),
        quality=pa.Table.from_pylist(quality, schema=QUALITY_SCHEMA),
        rejects=rejects_table(rejects),
        count=StageCount("decode", len(rows) + len(rejects), len(rows), {}, {"corrupt": len(rejects)}),
        open_clips=((f"{part}-open", "timeout: 60 s"),) if random.random() < 0.1 else (),
    )


@pytest.fixture(params=[0, 1])
def random(request: pytest.FixtureRequest) -> np.random.Generator:
    return np.random.default_rng(request.param)


@pytest.fixture
def receipts(random: np.random.Generator) -> list[DecodeReceipt]:
    return [random_receipt(random, f"part-{number:03d}") for number in range(70)]


def spooled(folder: Path, receipts: list[DecodeReceipt], order: list[int]) -> SpooledReceipts:
    spool = ReceiptSpool(folder, FRAMES_KEY)
    for position in order:
        spool.add(position, receipts[position])
    return spool.finish()


@pytest.mark.parametrize(("tables", "rows", "chunk"), [(256, 16_384, 32_768), (4, 9, 20), (1, 1, 1)])
def test_random_receipts_in_random_order_come_back_in_part_order(
    receipts: list[DecodeReceipt],
    random: np.random.Generator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tables: int,
    rows: int,
    chunk: int,
) -> None:
    monkeypatch.setattr(receipt_spool, "_BATCH_TABLES", tables)
    monkeypatch.setattr(receipt_spool, "_BATCH_ROWS", rows)
    monkeypatch.setattr(receipt_spool, "_CHUNK_ROWS", chunk)
    found = spooled(tmp_path / "new", receipts, random.permutation(len(receipts)).tolist())

    addresses = pa.concat_tables([receipt.addresses() for receipt in receipts])
    found.addresses.validate(full=True)
    assert found.addresses.cast(ADDRESS_SCHEMA).equals(addresses.cast(ADDRESS_SCHEMA))
    assert pa.types.is_dictionary(found.addresses.schema.field("frame_tar").type.value_type)
    assert found.quality.equals(pa.concat_tables([receipt.quality for receipt in receipts]))
    assert found.rejects.equals(pa.concat_tables([receipt.rejects for receipt in receipts]))
    assert found.open_clips == tuple(clip for receipt in receipts for clip in receipt.open_clips)
    assert len(found.open_clips) > 0
    assert len(found.rejects) > 0


def test_every_tar_is_in_the_dictionary_once(receipts: list[DecodeReceipt], tmp_path: Path) -> None:
    found = spooled(tmp_path, receipts, list(range(len(receipts))))
    tars = found.addresses["frame_tar"].chunk(0).values.dictionary.to_pylist()
    used = {
        tar for receipt in receipts for tars in receipt.addresses()["frame_tar"].to_pylist() for tar in tars
    }
    assert sorted(tars) == sorted(used)


def test_nothing_came_in(tmp_path: Path) -> None:
    found = spooled(tmp_path, [], [])
    assert [table.num_rows for table in (found.addresses, found.quality, found.rejects)] == [0, 0, 0]
    assert found.addresses.cast(ADDRESS_SCHEMA).schema.equals(ADDRESS_SCHEMA)
    assert found.open_clips == ()


def test_rows_are_taken_as_arrow_takes_them(
    receipts: list[DecodeReceipt],
    random: np.random.Generator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(receipt_spool, "_CHUNK_ROWS", 10)
    table = spooled(tmp_path, receipts, list(range(len(receipts)))).addresses
    assert table["clip_id"].num_chunks > 5
    rows = AddressRows(table)
    for size in (0, 1, 40):
        wanted = random.integers(0, len(table), size)
        assert rows.take(wanted).equals(table.cast(ADDRESS_SCHEMA).take(pa.array(wanted)))
