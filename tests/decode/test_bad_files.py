"""Every content reason, from files as they are found in the field; never a picture in place of one."""

from __future__ import annotations

import io
import random
import struct

import pytest
from clips import packet_places, rendered
from hostile_boxes import Box, parse_boxes, serialise_boxes, walk
from PIL import Image
from rendering import Rendering, audio_only_bytes, render_video, without_samples

from weave_data.decode import load_decoder
from weave_data.decode.container import check_promised_bytes
from weave_data.decode.pyav_decoder import PyavDecoder
from weave_data.errors import DecodeError
from weave_data.records import CONTENT_REASONS, RejectReason


def reason_of(data: bytes, decoder: str = "pyav") -> str:
    with pytest.raises(DecodeError) as caught:
        load_decoder(decoder).decode(data, choose=lambda n, _: range(0, n, 7), keep=lambda _, rgb: rgb)
    assert RejectReason(caught.value.reason) in CONTENT_REASONS
    return caught.value.reason


def png_bytes() -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", (64, 48), (200, 10, 10)).save(sink, "PNG")
    return sink.getvalue()


def song_with_cover() -> bytes:
    """An MP3 whose only picture is its cover."""
    import av

    sink = io.BytesIO()
    with av.open(sink, "w", format="mp3") as output:
        audio = output.add_stream("libmp3lame", rate=16_000)
        cover = output.add_stream("png", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 48, "rgb24"
        cover.disposition = av.stream.Disposition.attached_pic
        packet = av.Packet(png_bytes())
        packet.stream, packet.pts, packet.dts = cover, 0, 0
        with av.open(io.BytesIO(audio_only_bytes())) as silence:
            frames = list(silence.decode(audio=0))
        output.start_encoding()
        output.mux(packet)
        for frame in frames:
            output.mux(audio.encode(frame))
        output.mux(audio.encode(None))
    return sink.getvalue()


def without_packets(container: str) -> bytes:
    """A finished file with a video track and nothing in it."""
    import av

    sink = io.BytesIO()
    with av.open(sink, "w", format=container) as output:
        stream = output.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        output.start_encoding()
    return sink.getvalue()


FILES = {
    "empty": (lambda: b"", "empty_file"),
    "text": (lambda: b"this was a 404 page\n" * 40, "not_a_video"),
    "html": (lambda: b"<!DOCTYPE html><html><body>Not found</body></html>" * 9, "not_a_video"),
    "zeros": (lambda: bytes(9000), "not_a_video"),
    "picture": (png_bytes, "not_a_video"),
    "audio mp4": (audio_only_bytes, "no_video_stream"),
    "audio wav": (lambda: audio_only_bytes(container="wav", codec="pcm_f32le"), "no_video_stream"),
    "song with cover": (song_with_cover, "no_video_stream"),
    "mp4 without moov": (lambda: rendered("h264")[: rendered("h264").index(b"moov") - 4], "truncated"),
    "mp4 cut in mdat": (lambda: rendered("h264")[:6000], "truncated"),
    "mp4 cut in moov": (lambda: rendered("h264")[:-100], "truncated"),
    "webm cut": (lambda: rendered("vp8")[:5000], "truncated"),
    "avi cut": (lambda: rendered("mpeg4-avi")[:9000], "truncated"),
    "zero duration": (lambda: without_samples(rendered("h264")), "no_frames"),
    "mkv without packets": (lambda: without_packets("matroska"), "no_frames"),
}


@pytest.mark.parametrize("decoder", ["pyav", "decord"])
@pytest.mark.parametrize("name", FILES)
def test_a_bad_file_has_its_reason(decoder: str, name: str) -> None:
    make, reason = FILES[name]
    assert reason_of(make(), decoder) == reason


@pytest.mark.parametrize("name", ["h264", "vp8", "mpeg4-avi"])
def test_a_file_cut_anywhere_is_rejected_and_a_whole_or_padded_one_is_not(name: str) -> None:
    data = rendered(name)
    check_promised_bytes(data)
    check_promised_bytes(data + bytes(700))
    for stop in range(1, len(data) - 1, len(data) // 40):
        assert reason_of(data[:stop]) in ("truncated", "not_a_video")


@pytest.mark.parametrize("codec", ["h264", "mpeg4"])
def test_pictures_that_the_decoder_reports_as_damaged_are_rejected(codec: str) -> None:
    data, chance, rejected = rendered(codec), random.Random(3), 0
    places = packet_places(data)
    for _ in range(20):
        position, size = chance.choice(places)
        middle = position + size // 2
        damaged = (
            data[:middle]
            + bytes(byte ^ 0xFF for byte in data[middle : position + size])
            + data[position + size :]
        )
        try:
            PyavDecoder(is_sparse=False).decode(
                damaged, choose=lambda n, _: range(n), keep=lambda _, rgb: None
            )
        except DecodeError as error:
            rejected += error.reason == "corrupt"
    assert rejected >= 15  # what the decoder does not notice nobody can


def test_damage_outside_the_wanted_groups_does_not_cost_the_clip() -> None:
    data = bytearray(rendered("mpeg4"))
    position, size = packet_places(bytes(data))[30]
    data[position + 8 : position + size] = bytes(byte ^ 0xFF for byte in data[position + 8 : position + size])
    damaged = bytes(data)
    clip = PyavDecoder().decode(damaged, choose=lambda n, _: [0, 5], keep=lambda _, rgb: None)
    assert [frame.index for frame in clip.frames] == [0, 5]
    with pytest.raises(DecodeError, match="corrupt"):
        PyavDecoder().decode(damaged, choose=lambda n, _: range(n), keep=lambda _, rgb: None)


@pytest.mark.parametrize("decoder", ["pyav", "decord"])
@pytest.mark.parametrize(
    "text", ["#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{uri}\n", "ffconcat version 1.0\nfile {uri}\n"]
)
def test_playlists_named_mp4_open_nothing_else(decoder: str, text: str, tmp_path) -> None:
    clip = tmp_path / "other.mp4"
    clip.write_bytes(rendered("h264"))
    assert reason_of(text.format(uri=clip).encode(), decoder) == "not_a_video"


def test_a_clip_of_one_frame_gives_it_for_every_k() -> None:
    data = render_video(Rendering(num_frames=1))
    clip = PyavDecoder().decode(data, choose=lambda n, _: [0], keep=lambda _, rgb: rgb.shape)
    assert (clip.num_source_frames, [frame.kept for frame in clip.frames]) == (1, [(64, 96, 3)])


def test_a_file_of_thousands_of_streams_is_refused_while_it_is_opened() -> None:
    boxes = parse_boxes(rendered("h264"))
    movie = next(box for box in boxes if box.kind == b"moov")
    movie.children += [box for box in movie.children if box.kind == b"trak"] * 5000
    assert reason_of(serialise_boxes(boxes)) == "not_a_video"


def test_tables_that_name_the_same_bytes_again_and_again_are_refused_before_decoding() -> None:
    boxes, number = parse_boxes(rendered("h264")), 20_000
    tables = {
        b"stsz": struct.pack(">III", 0, 900, number),
        b"stts": struct.pack(">IIII", 0, 1, number, 40),
        b"stsc": struct.pack(">IIIII", 0, 1, 1, 1, 1),
        b"stco": struct.pack(">II", 0, number) + struct.pack(">I", 48) * number,
    }
    for box in walk(boxes):
        box.payload = tables.get(box.kind, box.payload)
    with pytest.raises(DecodeError, match=r"corrupt: the first \d+ packets take \d+ bytes of \d+"):
        PyavDecoder().decode(serialise_boxes(boxes), choose=lambda n, _: [0], keep=lambda _, rgb: None)


def test_a_clip_whose_frames_go_back_in_time_is_refused() -> None:
    boxes = parse_boxes(rendered("h264-interlaced"))
    table = next(box for box in walk(boxes) if box.kind == b"stbl")
    offsets = struct.pack(">IIIiIi", 1 << 24, 2, 20, 0, 20, -5000)  # the second half 10 frames earlier
    table.children = [box for box in table.children if box.kind != b"ctts"] + [Box(b"ctts", offsets)]
    with pytest.raises(DecodeError, match=r"corrupt: frame 20 is shown at pts \d+, the one before it at \d+"):
        PyavDecoder().decode(serialise_boxes(boxes), choose=lambda n, _: [0], keep=lambda _, rgb: None)
