"""Files that end before or after their header says so are refused; others are read."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from fca import audio
from fca.errors import InputError
from fca.pieces import Reader

RATE = 16000
LENGTH = 48000


def write(path: Path, channels: int = 2, **kind: str) -> bytearray:
    """Write noise, and return the content of the file."""
    noise = 0.1 * np.random.default_rng(0).standard_normal((LENGTH, channels))
    soundfile.write(path, noise, RATE, **kind)
    return bytearray(path.read_bytes())


def refused(path: Path, message: str) -> None:
    for read in (audio.read, Reader):
        with pytest.raises(InputError, match=message) as caught:
            read(path)
        assert "\n" not in str(caught.value)


def is_whole(path: Path) -> bool:
    return audio.read(path)[0].shape[1] == Reader(path).n_samples == LENGTH


def claim(content: bytearray, size: int, order: str = "<") -> bytes:
    """The content of a WAV file whose header claims so many bytes of samples."""
    at = content.index(b"data") + 4
    return bytes(content[:at] + struct.pack(f"{order}I", size) + content[at + 4 :])


class TestWavBeyondItsClaim:
    @pytest.mark.parametrize("share", [0.0, 0.5])
    @pytest.mark.parametrize("kind", ["WAV", "WAVEX", "RIFX"])
    def test_it_is_refused_and_its_repair_told(
        self, tmp_path: Path, share: float, kind: str
    ) -> None:
        endian = {"endian": "BIG"} if kind == "RIFX" else {}
        form = "WAV" if kind == "RIFX" else kind
        content = write(tmp_path / "x.wav", subtype="PCM_16", format=form, **endian)
        size = round(4 * LENGTH * share)
        (tmp_path / "x.wav").write_bytes(claim(content, size, ">" if endian else "<"))
        refused(tmp_path / "x.wav", f"claims {size} bytes of audio, but 192000 are there.*repair")

    @pytest.mark.parametrize("size", [0, 64000])
    def test_so_is_rf64(self, tmp_path: Path, size: int) -> None:
        content = write(tmp_path / "x.wav", subtype="PCM_16", format="RF64")
        at = content.index(b"ds64") + 16
        content[at : at + 8] = struct.pack("<Q", size)
        (tmp_path / "x.wav").write_bytes(content)
        refused(tmp_path / "x.wav", f"claims {size} bytes of audio, but 192000 are there")

    @pytest.mark.parametrize(
        "after",
        [
            b"LIST" + struct.pack("<I", 9000) + b"INFO" + bytes(range(1, 250)) * 37,
            b"bext\x05\0\0\0hello\0iXML" + struct.pack("<I", 9001) + b"<" * 9001,
            b"cue \x04\0\0\0abcdXYZ " + struct.pack("<I", 9000) + b"x" * 9000,
            b"ID3\x03\0\0\0\0\x7f\x7f" + b"x" * 9000,
            b"x" * 1000,
            bytes(20000),
        ],
        ids=["LIST", "odd chunks", "unknown chunk", "ID3 tag", "half a sector", "zeros"],
    )
    @pytest.mark.parametrize("channels", [1, 2])
    def test_chunks_tags_and_fillings_may_follow(
        self, tmp_path: Path, after: bytes, channels: int
    ) -> None:
        content = write(tmp_path / "x.wav", channels, subtype="PCM_24")
        (tmp_path / "x.wav").write_bytes(bytes(content) + after)
        assert is_whole(tmp_path / "x.wav")

    @pytest.mark.parametrize("padding", [b"", b"\0"])
    def test_an_odd_number_of_bytes_may_be_padded(self, tmp_path: Path, padding: bytes) -> None:
        content = write(tmp_path / "x.wav", 1, subtype="PCM_U8")
        odd = claim(content[: content.index(b"data") + 8 + LENGTH - 1], LENGTH - 1)
        chunk = b"LIST" + struct.pack("<I", 9000) + b"x" * 9000
        (tmp_path / "x.wav").write_bytes(odd + padding + chunk)
        assert Reader(tmp_path / "x.wav").n_samples == LENGTH - 1

    def test_chunks_that_explain_a_part_only(self, tmp_path: Path) -> None:
        content = write(tmp_path / "x.wav", subtype="PCM_16")
        more = b"cue \x04\0\0\0abcd" + content[-48000:]
        (tmp_path / "x.wav").write_bytes(bytes(content) + more)
        refused(tmp_path / "x.wav", "claims 192000 bytes of audio, but 240012 are there")


class TestTruncated:
    @pytest.mark.parametrize(
        ("name", "kind"),
        [
            ("x.wav", {"subtype": "PCM_16"}),
            ("x.wav", {"subtype": "FLOAT"}),
            ("x.wav", {"subtype": "PCM_16", "format": "RF64"}),
            ("x.aiff", {"subtype": "PCM_16"}),
            ("x.w64", {"subtype": "FLOAT"}),
            ("x.au", {"subtype": "PCM_16"}),
            ("x.ogg", {"subtype": "VORBIS"}),
            ("x.opus", {"subtype": "OPUS", "format": "OGG"}),
            ("x.mp3", {"format": "MP3"}),
            ("x.flac", {"subtype": "PCM_24"}),
        ],
    )
    def test_it_is_refused(self, tmp_path: Path, name: str, kind: dict[str, str]) -> None:
        content = write(tmp_path / name, **kind)
        assert is_whole(tmp_path / name)
        (tmp_path / name).write_bytes(content[: 2 * len(content) // 3])
        refused(tmp_path / name, "cannot be read" if name == "x.flac" else "truncated")

    def test_a_wav_of_three_gigabytes_is_no_stream(self, tmp_path: Path) -> None:
        content = write(tmp_path / "x.wav", subtype="PCM_16")
        (tmp_path / "x.wav").write_bytes(claim(content, 3_000_000_000))
        refused(tmp_path / "x.wav", "truncated, 192000 of 3000000000 bytes")


class TestUnknownLength:
    @pytest.mark.parametrize("size", [0xFFFFFFFF, 0xFFFFFFDB, 0x7FFFFFFF, 0x7FFFF000, 0x80000000])
    def test_a_wav_from_a_pipe_is_read(self, tmp_path: Path, size: int) -> None:
        content = write(tmp_path / "x.wav", subtype="PCM_16")
        (tmp_path / "x.wav").write_bytes(claim(content, size))
        assert is_whole(tmp_path / "x.wav")

    def test_an_au_from_a_pipe_is_read(self, tmp_path: Path) -> None:
        content = write(tmp_path / "x.au", subtype="PCM_16")
        content[8:12] = b"\xff" * 4
        (tmp_path / "x.au").write_bytes(content)
        assert is_whole(tmp_path / "x.au")

    @pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
    def test_a_stopped_stream_of_whole_pages_is_read(self, tmp_path: Path, subtype: str) -> None:
        content = write(tmp_path / "x.ogg", subtype=subtype)
        (tmp_path / "x.ogg").write_bytes(content[: content.rindex(b"OggS")])
        assert 0 < audio.read(tmp_path / "x.ogg")[0].shape[1] < LENGTH

    def test_an_mp3_without_its_length_is_read(self, tmp_path: Path) -> None:
        content = write(tmp_path / "x.mp3", format="MP3")
        second = content.index(content[:2], 10)
        (tmp_path / "x.mp3").write_bytes(content[second : len(content) // 2])
        assert 0 < audio.read(tmp_path / "x.mp3")[0].shape[1] < LENGTH

    def test_a_flac_from_a_pipe_is_refused_and_its_repair_told(self, tmp_path: Path) -> None:
        content = write(tmp_path / "x.flac", subtype="PCM_16")
        content[21] &= 0xF0
        content[22:26] = bytes(4)
        (tmp_path / "x.flac").write_bytes(content)
        refused(tmp_path / "x.flac", "does not tell the length.*ffmpeg")
