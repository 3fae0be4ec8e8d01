"""Whether a sound file ends where its header says: libsndfile reads it silently if it does not."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import BinaryIO, Literal, TypeAlias

import soundfile

from fca.errors import InputError

__all__ = ["check_complete", "check_decoded"]

Order: TypeAlias = Literal["little", "big"]

# libsndfile's log lines on sizes that go beyond the end of the file.
_SIZES = re.compile(r"^\s*(?:data|SSND|riff|Data Size) *: (\d+) \(should be (\d+)\)", re.MULTILINE)
# Its log lines on Ogg; a stream that was stopped has no end either, but whole pages.
_OGG_SIGNS = ("Last page lacks an end-of-stream bit", "Junk after the last page")
# Programs that write to a pipe cannot know the size and claim (nearly) the largest there is.
_UNKNOWN_SIZES = (
    range(0x7FFF0000, 0x80010000),
    range(0xFFFF0000, 1 << 32),
    range(1 << 62, 1 << 64),
)
_UNKNOWN_FRAMES = 1 << 62

_RIFF_ORDERS: dict[bytes, Order] = {b"RIFF": "little", b"RIFX": "big", b"RF64": "little"}
_SIZE_IN_DS64 = 0xFFFFFFFF
# What may follow the samples of a WAV: these even if they are cut off, or are not in a chunk.
_TAGS = (b"LIST", b"bext", b"iXML", b"id3 ", b"ID3", b"TAG", b"APETAGEX")
# Bytes at the end of a WAV that are overlooked, as some programs fill a last sector.
_SLACK = 4096
_PIECE = 1 << 20
# Samples of an MP3 frame, and how far into the first one its count of frames may begin, at least.
_MPEG_FRAME = 1152
_MPEG_HEADER = 64


def check_complete(path: Path, file: soundfile.SoundFile) -> None:
    """Refuse a file that ends before its header says, or a WAV that goes on after that.

    Nothing is said of files whose header leaves the size open, as those from a pipe do. An Ogg file
    (Vorbis or Opus) has no size in its header: it counts as truncated if its last page is.

    Raises
    ------
    InputError
        If samples are missing, or would not be read.
    """
    if file.frames >= _UNKNOWN_FRAMES:
        raise InputError(
            f"{path}: the header does not tell the length, as in {file.format} from a pipe; write "
            f"it anew, as by ffmpeg -i IN OUT.wav"
        )
    log = file.extra_info
    for claimed, present in _SIZES.findall(log):
        _check_present(path, int(claimed), int(present))
    if all(sign in log for sign in _OGG_SIGNS):
        raise InputError(f"{path}: truncated, the last page of the stream is not all there")
    with path.open("rb") as stream:
        _check_riff(path, stream)


def check_decoded(path: Path, file: soundfile.SoundFile, count: int) -> None:
    """Refuse an MP3 file of which fewer samples could be decoded than it says at its beginning.

    Not all MP3 files say how long they are; of the others no one can tell.

    Raises
    ------
    InputError
        If more than the last frame is missing.
    """
    if file.format == "MP3" and count < file.frames - _MPEG_FRAME and _says_length(path):
        raise InputError(f"{path}: truncated, {count} of {file.frames} samples are there")


def _check_present(path: Path, claimed: int, present: int) -> None:
    unknown = any(claimed in sizes for sizes in _UNKNOWN_SIZES)
    if present < claimed and not unknown:
        raise InputError(f"{path}: truncated, {present} of {claimed} bytes of audio are there")


def _check_riff(path: Path, stream: BinaryIO) -> None:
    """Compare the size that a WAV or RF64 file claims with what is there."""
    order = _RIFF_ORDERS.get(stream.read(4))
    found = None if order is None else _find_samples(stream, order)
    if order is None or found is None:
        return
    start, claimed = found
    present = path.stat().st_size - start
    _check_present(path, claimed, present)
    if claimed + _SLACK < present and _unexplained(stream, start + claimed, order) > _SLACK:
        raise InputError(
            f"{path}: the header claims {claimed} bytes of audio, but {present} are there, as if "
            f"the recorder crashed or counted to 4 GB only; repair it, as by ffmpeg "
            f"-ignore_length 1 -i IN.wav -c copy -rf64 auto OUT.wav"
        )


def _find_samples(stream: BinaryIO, order: Order) -> tuple[int, int] | None:
    """Where the samples of a WAV file begin, and how many bytes it claims; None if unclear."""
    stream.seek(12)
    long_size = _SIZE_IN_DS64
    while len(head := stream.read(8)) == 8:
        size, start = int.from_bytes(head[4:], order), stream.tell()
        if head[:4] == b"ds64":
            long_size = int.from_bytes(stream.read(16)[8:], order)
        if head[:4] == b"data":
            return start, long_size if size == _SIZE_IN_DS64 else size
        stream.seek(start + size + size % 2)
    return None


def _unexplained(stream: BinaryIO, start: int, order: Order) -> int:
    """How many bytes at the end are neither chunks that begin at ``start`` nor all zeros."""
    end = stream.seek(0, os.SEEK_END)
    while start + 8 < end:
        stream.seek(start)
        head = stream.read(9)
        padding = head[0] == 0
        name, size = head[padding:][:4], int.from_bytes(head[padding:][4:8], order)
        if name.startswith(_TAGS):
            return 0
        stop = start + padding + 8 + size
        if not name.isascii() or not name.decode().isprintable() or stop > end:
            break
        start = stop
    return 0 if _only_zeros(stream, start) else max(0, end - start)


def _only_zeros(stream: BinaryIO, start: int) -> bool:
    stream.seek(start)
    return all(piece == bytes(len(piece)) for piece in iter(lambda: stream.read(_PIECE), b""))


def _says_length(path: Path) -> bool:
    """Whether an MP3 file counts its frames in a header, which comes after tags."""
    with path.open("rb") as stream:
        head = stream.read(10)
        while head[:3] == b"ID3" and len(head) == 10:
            size = sum(byte << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True))
            stream.seek(size, os.SEEK_CUR)
            head = stream.read(10)
        first = head + stream.read(_MPEG_HEADER)
    return b"Xing" in first or b"Info" in first
