"""Simulate a meeting: talkers take turns for minutes, fall silent for minutes, and come back.

    python -m recipes.meeting.simulate --speech DIR -o OUT [--minutes 20] [--talkers 4] [--mics 4]

writes `meeting.wav` (all microphones), `talker1.wav`, ... (reverberant images at the first
microphone), `meeting.rttm` (who speaks when) and `meeting.json` (all that was drawn).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from fca import audio
from fca.activity import Segment, write_rttm
from fca.errors import InputError
from fca.files import write_json
from fca.simulate import Scene, diffuse_noise, random_scene, room_responses
from fca.simulate.corpora import find_speakers
from fca.simulate.images import TALKER_RMS, convolve
from recipes import program

SAMPLE_RATE = 16000
TOPIC_SECONDS = (60.0, 150.0)
"""A topic is discussed by two or three; the others are silent meanwhile."""
GAP_SECONDS = (0.2, 0.8)
"""Mean and standard deviation of the pause between turns; talkers overlap where it is negative."""
INTERRUPTION = 0.15
"""Probability that a turn begins in the middle of the one before."""
LEVEL_DB = 3.0
SNR_DB = 30.0
SILENCE_DB = 40.0
PAUSE_SECONDS = 0.5
_NOISE_SECONDS = 10

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Turn:
    """An utterance `file` of talker `talker` that begins at sample `start`."""

    talker: int
    start: int
    file: Path


def take_turns(
    speakers: list[list[Path]], lengths: dict[Path, int], samples: int, rng: np.random.Generator
) -> list[Turn]:
    """Who says what when; utterances are used in order and again from the first."""
    turns: list[Turn] = []
    said, silent_from = [0] * len(speakers), [0] * len(speakers)
    at, topic_ends, present, speaking = 0, 0, list(range(len(speakers))), -1
    while at < samples:
        if at >= topic_ends:
            present = _participants(len(speakers), present, rng)
            topic_ends = at + round(rng.uniform(*TOPIC_SECONDS) * SAMPLE_RATE)
        others = [n for n in present if n != speaking] or present
        speaking = int(rng.choice(others))
        file = speakers[speaking][said[speaking] % len(speakers[speaking])]
        said[speaking] += 1
        at = max(at, silent_from[speaking])  # nobody says two things at once
        silent_from[speaking] = at + lengths[file]
        turns.append(Turn(speaking, at, file))
        interrupted = rng.random() < INTERRUPTION
        gap = round(np.clip(rng.normal(*GAP_SECONDS), -2, 2) * SAMPLE_RATE)
        at = at + lengths[file] // 2 if interrupted else max(at + lengths[file] + gap, at + 1)
    return turns


def _participants(count: int, before: list[int], rng: np.random.Generator) -> list[int]:
    """Two or three talkers (all, if there are fewer), another set than before where there is."""
    while True:
        chosen = rng.choice(count, min(count, int(rng.integers(2, 4))), replace=False)
        participants = sorted(int(n) for n in chosen)
        if count <= 2 or participants != before:
            return participants


def speech_segments(speaker: str, utterance: Array, start: int) -> list[Segment]:
    """Where an utterance is louder than :data:`SILENCE_DB` below its peak, short pauses filled."""
    hop = SAMPLE_RATE // 100
    frames = utterance[: len(utterance) // hop * hop].reshape(-1, hop)
    level = 10 * np.log10(np.square(frames).mean(1) + 1e-12)
    (active,) = np.nonzero(level > level.max() - SILENCE_DB)
    gaps = np.nonzero(np.diff(active) > PAUSE_SECONDS * 100)[0]
    begins = [active[0], *active[gaps + 1]]
    ends = [*active[gaps] + 1, active[-1] + 1]
    offset = start / SAMPLE_RATE
    return [
        Segment(speaker, offset + b / 100, (e - b) / 100) for b, e in zip(begins, ends, strict=True)
    ]


@dataclass
class Meeting:
    """`mixture` (M, samples) and the talkers' `images` (N, samples) at the first microphone."""

    mixture: Array
    images: Array
    segments: list[Segment]
    scene: Scene
    turns: list[Turn]


def simulate(
    speakers: list[list[Path]], n_mics: int, samples: int, rng: np.random.Generator
) -> Meeting:
    """Meeting of so many samples at 16 kHz in one random room; nobody moves."""
    scene = random_scene(rng, n_talkers=len(speakers), n_mics=n_mics, rt60=(0.2, 0.4))
    responses = room_responses(scene, SAMPLE_RATE)
    utterances = {file: audio.read(file) for files in speakers for file in files}
    dry = {f: audio.resample(w, rate, SAMPLE_RATE)[0] for f, (w, rate) in utterances.items()}
    turns = take_turns(speakers, {f: len(w) for f, w in dry.items()}, samples, rng)
    gains = 10 ** (rng.uniform(-LEVEL_DB, LEVEL_DB, len(speakers)) / 20)
    mixture = np.zeros((n_mics, samples), np.float32)
    images = np.zeros((len(speakers), samples), np.float32)
    segments = []
    for turn in turns:
        image = _image(dry[turn.file], responses[turn.talker]) * gains[turn.talker]
        stop = min(samples, turn.start + image.shape[1])
        mixture[:, turn.start : stop] += image[:, : stop - turn.start]
        images[turn.talker, turn.start : stop] += image[0, : stop - turn.start]
        segments += speech_segments(f"talker{turn.talker + 1}", dry[turn.file], turn.start)
    mixture += _noise(np.array(scene.mics), samples, rng)
    return Meeting(mixture, images, within(segments, samples / SAMPLE_RATE), scene, turns)


def within(segments: list[Segment], seconds: float) -> list[Segment]:
    """What of segments is in the first so many seconds."""
    begun = [s for s in segments if s.start < seconds]
    return [Segment(s.speaker, s.start, min(s.end, seconds) - s.start) for s in begun]


def _image(utterance: Array, responses: NDArray[np.float64]) -> Array:
    """Reverberant utterance (M, samples + taps) at :data:`TALKER_RMS`."""
    image = convolve(utterance, responses, len(utterance) + responses.shape[1])
    scaled: Array = (image * TALKER_RMS / np.sqrt(np.mean(image**2))).astype(np.float32)
    return scaled


def _noise(mics: NDArray[np.float64], samples: int, rng: np.random.Generator) -> Array:
    """Spherically isotropic white noise, :data:`SNR_DB` below a talker."""
    size = _NOISE_SECONDS * SAMPLE_RATE
    pieces = [
        diffuse_noise(rng.standard_normal((len(mics), size)), mics, SAMPLE_RATE).astype(np.float32)
        for _ in range(-(-samples // size))
    ]
    noise: Array = np.concatenate(pieces, axis=1)[:, :samples]
    return noise * np.float32(TALKER_RMS * 10 ** (-SNR_DB / 20) / noise.std())


def draw_speakers(folder: Path, count: int, rng: np.random.Generator) -> dict[str, list[Path]]:
    """So many random speakers with their files."""
    found = find_speakers(folder)
    if len(found) < count:
        raise InputError(f"{folder}: speech of {len(found)} speakers, {count} speakers needed")
    names = rng.choice(sorted(found), count, replace=False)
    return {str(name): found[name] for name in names}


def write(meeting: Meeting, folder: Path, facts: dict[str, Any]) -> None:
    """The files that the module's docstring lists."""
    folder.mkdir(parents=True, exist_ok=True)
    audio.write(folder / "meeting.wav", meeting.mixture, SAMPLE_RATE)
    for n, image in enumerate(meeting.images, start=1):
        audio.write(folder / f"talker{n}.wav", image, SAMPLE_RATE)
    write_rttm(folder / "meeting.rttm", meeting.segments, "meeting")
    write_json(folder / "meeting.json", {**facts, "scene": asdict(meeting.scene)})


def main(
    speech: Annotated[Path, typer.Option(help="folder of speech, one folder per speaker")],
    output: Annotated[Path, typer.Option("--output", "-o", help="folder to write")],
    minutes: float = 20.0,
    talkers: int = 4,
    mics: int = 4,
    seed: int = 0,
) -> None:
    """Simulate a meeting."""
    rng = np.random.default_rng(seed)
    speakers = draw_speakers(speech, talkers, rng)
    samples = round(minutes * 60 * SAMPLE_RATE)
    meeting = simulate(list(speakers.values()), mics, samples, rng)
    write(meeting, output, {"speakers": list(speakers), "minutes": minutes, "seed": seed})
    typer.echo(f"{minutes:g} minutes, {len(meeting.turns)} turns in {output}")


if __name__ == "__main__":
    program.run(main)
