"""``fca stream``: raw samples on standard input, separated samples on standard output."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, BinaryIO, Literal

import typer

from fca.cli.options import Seed, chosen
from fca.cli.usage import usage
from fca.cli.values import online_types
from fca.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fca.streaming import OnlineSeparator

_FILES = (b"RIFF", b"RF64", b"FORM", b"fLaC", b"OggS", b"ID3")
"""First bytes of RIFF and RF64 (WAV), AIFF, FLAC, Ogg and MP3 files."""

Rate = Annotated[int, typer.Option("--rate", "-r", min=1, help="Samples per second.")]
Channels = Annotated[int, typer.Option("--channels", "-c", help="Microphones, interleaved.")]
Sources = Annotated[int, typer.Option("--sources", "-n", help="Number of talkers.")]
PCM = Annotated[
    Literal["s16le", "f32le"],
    typer.Option("--format", "-f", help="16-bit integers or 32-bit floats, in and out."),
]
MethodName = Annotated[str, typer.Option("--method", "-m", help="fastmnmf1 or fastmnmf2.")]
Window = Annotated[
    int | None, typer.Option(min=1, help="Window in samples.", show_default="128 ms")
]
Hop = Annotated[
    int | None, typer.Option(min=1, help="Shift in samples.", show_default="window / 4")
]
Block = Annotated[
    int,
    typer.Option(
        help="Shifts that are separated at once. 1 has the shortest latency, but takes two "
        "to three times as long to compute as 4, which may not keep up with real time."
    ),
]
Options = Annotated[
    list[str] | None,
    typer.Option(
        "--option",
        "-O",
        metavar="NAME=VALUE",
        help="Further option of fca.streaming.OnlineSeparator, such as memory=4; repeatable.",
        show_default=False,
    ),
]


def stream(
    rate: Rate,
    channels: Channels,
    sources: Sources = 2,
    pcm: PCM = "s16le",
    method: MethodName = "fastmnmf2",
    window: Window = None,
    hop: Hop = None,
    block: Block = 4,
    option: Options = None,
    seed: Seed = 0,
) -> None:
    """Separate raw PCM from standard input to standard output, as it comes in.

    The talkers come out interleaved and delayed by the latency, which is printed on standard error;
    at the end of the input the rest follows. They add up to the first microphone, delayed as well.
    """
    from fca.streaming import OnlineSeparator

    flags = {
        "sample_rate": rate,
        "n_channels": channels,
        "n_sources": sources,
        "method": method,
        "n_fft": window,
        "hop": hop,
        "block": block,
        "seed": seed,
    }
    options = chosen(flags, option, online_types, stream)
    with usage():
        source, sink = _pipes()
        separator = OnlineSeparator(**options)
    delay = (
        f"{separator.latency} samples, {1000 * separator.latency / separator.sample_rate:.0f} ms"
    )
    typer.echo(f"latency: {delay}", err=True)
    try:
        _run(separator, pcm, source, sink)
    except InputError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    except BrokenPipeError:
        sys.stderr.close()  # the reader is gone; Python would complain at exit


def _pipes() -> tuple[BinaryIO, BinaryIO]:
    """Standard input and output, which Python does not have if they are closed."""
    if sys.stdin is None or sys.stdout is None:
        raise InputError(f"standard {'input' if sys.stdin is None else 'output'} is closed")
    return sys.stdin.buffer, sys.stdout.buffer


def _run(separator: OnlineSeparator, pcm: str, source: BinaryIO, sink: BinaryIO) -> None:
    """Pass the stream on, block by block.

    Raises
    ------
    InputError
        If a sample is not finite, or the input ends within one; what came before is written then.
        If the input is an audio file; nothing is written then.
    """
    frame = separator.n_channels * (2 if pcm == "s16le" else 4)
    size = frame * separator.block * separator.stft.hop
    problem = None
    for content in _contents(source, size):
        whole = len(content) - len(content) % frame
        try:
            sink.write(_encode(separator.push(_decode(content[:whole], pcm, frame)).numpy(), pcm))
        except InputError as error:
            problem = error
            break
        sink.flush()
        if whole < len(content):
            problem = InputError(f"the input ends within a sample: {len(content) - whole} bytes")
    sink.write(_encode(separator.flush().numpy(), pcm))
    sink.flush()
    if problem:
        raise problem


def _contents(source: BinaryIO, size: int) -> Iterator[bytes]:
    """The stream, ``size`` bytes at a time."""
    content = source.read(size)
    if content.startswith(_FILES):
        raise InputError(
            "the input is an audio file, raw samples are expected: arecord -t raw, for example"
        )
    while content:
        yield content
        content = source.read(size)


def _decode(content: bytes, pcm: str, frame: int) -> NDArray[np.float32]:
    """Samples (channels, samples) within ±1."""
    import numpy as np

    kind = "<i2" if pcm == "s16le" else "<f4"
    samples = np.frombuffer(content, kind).astype(np.float32)
    if pcm == "s16le":
        samples /= np.float32(32768)
    return samples.reshape(-1, frame // int(kind[-1])).T


def _encode(samples: NDArray[np.float32], pcm: str) -> bytes:
    """Interleaved bytes of (sources, samples); 16-bit samples saturate."""
    import numpy as np

    if pcm == "s16le":
        return np.rint(samples.T * 32768).clip(-32768, 32767).astype("<i2").tobytes()
    return samples.T.astype("<f4").tobytes()
