"""Long recordings: blocks cover them, tracks keep their talkers, and one block changes nothing."""

from __future__ import annotations

import gc
import itertools
import signal
import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import MixtureMaker, decaying_responses

from fca import audio
from fca.activity import Segment
from fca.blocks import OVERLAP, Block, BlockSeparator, _Overall, block_spans, stitch
from fca.errors import InputError
from fca.inference import Progress
from fca.separation import Separation
from fca.separator import Separator
from fca.simulate import mix
from fca.sorting import ALIKE

RATE = 16000
FAST: dict[str, Any] = {"n_fft": 512, "n_iter": 3}
BLOCK = 4.0
TURNS = [(0, 0), (1, 2), (0, 6), (2, 9), (1, 12), (2, 15), (0, 18), (1, 19)]
"""Talker and second at which each 2.5 s turn begins: talker 0 is silent for three blocks."""


class Oracle(Separator):
    """Knows the images and hands them out in another order for every block, with a surplus one."""

    def __init__(self, images: np.ndarray, seed: int = 0) -> None:
        super().__init__("auxiva", len(images) + 1)
        self.images = torch.from_numpy(images)
        self.rng = np.random.default_rng(seed)
        self.alive: list[weakref.ref[Separation]] = []
        self.most_alive = 0

    def follow(self, spans: list[tuple[int, int]]) -> Oracle:
        self.spans = iter(spans)
        return self

    def __call__(self, mixture, sample_rate=None, callbacks=()) -> Separation:  # type: ignore[override]
        gc.collect()
        alive = sum(reference() is not None for reference in self.alive)
        assert alive <= self.most_alive, "models of earlier blocks are still there"
        start, stop = next(self.spans)
        for callback in callbacks:
            callback(Progress(10, 10, 0.0, 1.0))
        images = self.images[:, :, start:stop]
        images = torch.cat([images, 1e-4 * torch.randn(1, *images.shape[1:])])
        images = images[torch.from_numpy(self.rng.permutation(len(images)))]
        sources = images[:, 0]
        residual = mixture[0] - sources.sum(0)
        model: Any = None
        result = Separation(sources, residual, RATE, self.method, 0, [(10, 0.0)], 0.0, model, model)
        self.alive.append(weakref.ref(result))
        return result


@pytest.fixture(scope="module")
def meeting(speech: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """22 s of three talkers at three microphones: mixture (3, samples), images (3, 3, samples)."""
    rng = np.random.default_rng(0)
    dry = np.zeros((3, 22 * RATE))
    for talker, second in TURNS:
        begin = round(second * RATE)
        dry[talker, begin : begin + 40000] = speech[talker, 8000:48000]
    parts = mix(list(dry), decaying_responses(rng, (3, 3), 0.15), rng, snr_db=40)
    return parts.mixture.astype(np.float32), parts.images.astype(np.float32)


def names(block: Block) -> dict[str, torch.Tensor]:
    named = {f"source{n}": x for n, x in enumerate(block.sources)}
    return {**named, "residual": block.residual}


def assemble(blocks: Any, n_samples: int) -> dict[str, np.ndarray]:
    """Stitched waveforms in memory."""
    whole: dict[str, np.ndarray] = {}
    for start, pieces in stitch(blocks, names):
        for name, x in pieces.items():
            target = whole.setdefault(name, np.zeros(n_samples, np.float32))
            target[start : start + x.shape[-1]] = x.numpy()
    return whole


@pytest.fixture
def wav(tmp_path: Path, meeting: tuple[np.ndarray, np.ndarray]) -> Path:
    audio.write(tmp_path / "meeting.wav", meeting[0], RATE)
    return tmp_path / "meeting.wav"


@pytest.mark.parametrize("n_samples", [1, 99, 100, 101, 150, 184, 1000, 12345])
def test_blocks_cover_a_recording_and_overlap(n_samples: int) -> None:
    spans = block_spans(n_samples, 100)
    assert spans[0][0] == 0
    assert spans[-1][1] == n_samples
    lengths = {stop - start for start, stop in spans}
    assert len(lengths) == 1
    assert lengths.pop() <= min(100, n_samples)
    for (start, stop), (following, _) in itertools.pairwise(spans):
        assert start < following
        assert stop - following >= OVERLAP * (stop - start) - 2
    assert (len(spans) == 1) == (n_samples <= 100)


@pytest.mark.parametrize("method", ["fastmnmf2", "auxiva"])
def test_one_block_is_the_whole_recording(
    tmp_path: Path, make_mixture: MixtureMaker, method: str
) -> None:
    mixture = make_mixture(2, 3, seconds=1.5).mixture.astype(np.float32)
    audio.write(tmp_path / "x.wav", mixture, RATE)
    separator = Separator(method, 2, **FAST)
    (block,) = BlockSeparator(separator, 1.5)(tmp_path / "x.wav")
    whole = separator(mixture, RATE)
    assert torch.equal(block.sources, whole.sources)
    assert torch.equal(block.residual, whole.residual)
    assert torch.equal(block.images(), whole.images())


@pytest.mark.parametrize("count", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_talkers_stay_in_their_tracks(
    wav: Path, meeting: tuple[np.ndarray, np.ndarray], count: bool, seed: int
) -> None:
    mixture, images = meeting
    oracle = Oracle(images, seed)
    if not count:
        oracle.n_sources = len(images)
    oracle.follow(block_spans(mixture.shape[1], round(BLOCK * RATE)))
    blocks = BlockSeparator(oracle, BLOCK, count=count)(wav)
    found = assemble(blocks, mixture.shape[1])
    tracks = np.stack([found[name] for name in sorted(found) if name != "residual"])
    assert len(tracks) == 3
    # Exact but for what is too short to be told from noise.
    for image in images[:, 0]:
        error = np.square(tracks - image).sum(-1).min() / np.square(image).sum()
        assert error < 1e-2
    np.testing.assert_allclose(tracks.sum(0) + found["residual"], mixture[0], atol=1e-6)


def test_blocks_fade_without_a_seam(wav: Path, meeting: tuple[np.ndarray, np.ndarray]) -> None:
    """Equal estimates on both sides of a seam come out as they went in."""
    mixture, images = meeting
    oracle = Oracle(images).follow(block_spans(mixture.shape[1], round(BLOCK * RATE)))
    oracle.most_alive = 100
    blocks = list(BlockSeparator(oracle, BLOCK)(wav))
    total = np.zeros(mixture.shape[1], np.float32)
    for start, pieces in stitch(iter(blocks), lambda b: {"all": b.sources.sum(0) + b.residual}):
        total[start : start + pieces["all"].shape[-1]] = pieces["all"]
    np.testing.assert_allclose(total, mixture[0], atol=1e-6)


def test_a_real_separator_keeps_tracks(wav: Path, meeting: tuple[np.ndarray, np.ndarray]) -> None:
    mixture, images = meeting
    separator = Separator("auxiva", 3, n_iter=20, n_fft=2048)
    found = assemble(BlockSeparator(separator, 8.0)(wav), mixture.shape[1])
    tracks = np.stack([found[f"source{n}"] for n in range(3)])
    scale = np.linalg.norm(tracks, axis=1) * np.linalg.norm(images[:, :1], axis=2)
    agreement = np.abs(images[:, 0] @ tracks.T) / scale
    assert sorted(agreement.argmax(1)) == [0, 1, 2]
    assert agreement.max(1).min() > 0.8


def test_what_cannot_be_separated_is_silent_and_told(
    tmp_path: Path, meeting: tuple[np.ndarray, np.ndarray]
) -> None:
    """Digital silence in the middle."""
    mixture = meeting[0].copy()
    mixture[:, 4 * RATE : 12 * RATE] = 0
    audio.write(tmp_path / "x.wav", mixture, RATE)
    blocks = list(BlockSeparator(Separator("auxiva", 2, **FAST), BLOCK)(tmp_path / "x.wav"))
    failed = [block for block in blocks if block.problem]
    assert failed
    assert len(failed) < len(blocks)
    for block in failed:
        assert not block.sources.any()
        assert not block.images().any()
    found = assemble(iter(blocks), mixture.shape[1])
    assert all(np.isfinite(x).all() for x in found.values())
    total = found["source0"] + found["source1"] + found["residual"]
    np.testing.assert_allclose(total, mixture[0], atol=1e-6)


@pytest.mark.parametrize("guided", [False, True])
def test_where_the_reference_dies_another_channel_is_heard(
    tmp_path: Path, meeting: tuple[np.ndarray, np.ndarray], guided: bool
) -> None:
    mixture = meeting[0].copy()
    mixture[0, 11 * RATE :] = 0
    audio.write(tmp_path / "x.wav", mixture, RATE)
    turns = [Segment(str(talker), start, 2.5) for talker, start in TURNS] if guided else None
    separator = BlockSeparator(Separator("auxiva", 2, **FAST), BLOCK, guide=turns)
    for block in separator(tmp_path / "x.wav"):
        assert not block.problem
        assert block.reference_channel == (1 if block.stop > 11 * RATE else 0)
        heard = mixture[block.reference_channel, block.start : block.stop]
        total = (block.sources.sum(0) + block.residual).numpy()
        np.testing.assert_allclose(total, heard, atol=1e-6)
        assert block.separation is None or block.sources.any()


def test_a_reference_that_fails_for_a_second_is_replaced(
    tmp_path: Path, meeting: tuple[np.ndarray, np.ndarray]
) -> None:
    mixture = meeting[0].copy()
    mixture[0, 6 * RATE : 7 * RATE] = 0
    audio.write(tmp_path / "x.wav", mixture, RATE)
    for block in BlockSeparator(Separator("auxiva", 2, **FAST), BLOCK)(tmp_path / "x.wav"):
        fails = block.start < 6.5 * RATE and block.stop > 6.5 * RATE
        assert block.reference_channel == fails


@pytest.mark.parametrize("guided", [False, True])
def test_what_cannot_be_separated_is_heard_on_the_tracks_of_all_who_may_speak(
    tmp_path: Path, meeting: tuple[np.ndarray, np.ndarray], guided: bool
) -> None:
    mixture = meeting[0].copy()
    mixture[:2, 11 * RATE :] = 0
    audio.write(tmp_path / "x.wav", mixture, RATE)
    turns = [Segment(str(talker), start, 2.5) for talker, start in TURNS] if guided else None
    separator = BlockSeparator(Separator("auxiva", 3, **FAST), BLOCK, guide=turns)
    failed = [block for block in separator(tmp_path / "x.wav") if block.problem]
    assert failed
    for block in failed:
        assert "only channel 2 carries a signal" in block.problem
        assert block.reference_channel == 2
        whole = mixture[:, block.start : block.stop]
        spoken = [
            not guided or any(block.start < (t + 2.5) * RATE and block.stop > t * RATE for t in own)
            for own in ([t for talker, t in TURNS if talker == n] for n in range(3))
        ]
        for track, images, heard in zip(block.sources, block.images(), spoken, strict=True):
            share = heard / sum(spoken)
            np.testing.assert_allclose(track, share * whole[2], atol=1e-7)
            np.testing.assert_allclose(images, share * whole, atol=1e-7)
        assert float(block.residual.abs().max()) < 1e-6


def test_speakers_with_the_same_turns_are_told_apart_by_where_they_are(
    tmp_path: Path, meeting: tuple[np.ndarray, np.ndarray]
) -> None:
    mixture, images = meeting
    audio.write(tmp_path / "x.wav", mixture, RATE)
    turns = [Segment(str(talker), start, 2.5) for talker, start in TURNS[:4]]
    turns += [Segment(name, 12.0, 10.0) for name in "012"]
    separator = Separator("deep-fca-fast", n_refine=0)
    blocks = list(BlockSeparator(separator, 12.0, guide=turns)(tmp_path / "x.wav"))
    assert [block.remark for block in blocks] == ["", ALIKE]
    last = blocks[-1]
    true = images[:, 0, last.start : last.stop]
    scale = last.sources.norm(dim=1).numpy()[:, None] * np.linalg.norm(true, axis=1)
    agreement = np.abs(last.sources.numpy() @ true.T) / scale
    assert agreement.argmax(1).tolist() == [0, 1, 2]


def test_a_recording_without_a_block_that_can_be_separated(tmp_path: Path) -> None:
    audio.write(tmp_path / "x.wav", np.zeros((2, 10 * RATE)), RATE)
    with pytest.raises(InputError, match="silent"):
        list(BlockSeparator(Separator("auxiva", **FAST), 2.0)(tmp_path / "x.wav"))


def test_blocks_without_anybody_do_not_count_as_separated(wav: Path) -> None:
    """If no other block could be separated, nothing was."""
    guide = [Segment("ann", 0.0, 2.0), Segment("bob", 1.0, 2.0)]
    blocks = BlockSeparator(Separator("auxiva", 2, reference_channel=9), BLOCK, guide=guide)
    with pytest.raises(InputError, match="channel 9"):
        list(blocks(wav))


def test_the_error_of_most_blocks_is_told(
    tmp_path: Path, meeting: tuple[np.ndarray, np.ndarray]
) -> None:
    mixture = meeting[0][:2].copy()
    mixture[:, 17 * RATE :] = 0
    audio.write(tmp_path / "x.wav", mixture, RATE)
    with pytest.raises(InputError, match="3 sources"):
        list(BlockSeparator(Separator("auxiva", 3), BLOCK)(tmp_path / "x.wav"))


def test_a_recording_that_shrinks_is_told(wav: Path) -> None:
    blocks = BlockSeparator(Separator("auxiva", **FAST), BLOCK)(wav)
    next(blocks)
    with wav.open("r+b") as file:
        file.truncate(5 * RATE * 3 * 4)
    with pytest.raises(InputError, match=r"meeting\.wav: changed while it was read"):
        list(blocks)


def test_progress_counts_all_blocks(wav: Path, meeting: tuple[np.ndarray, np.ndarray]) -> None:
    mixture, images = meeting
    spans = block_spans(mixture.shape[1], round(BLOCK * RATE))
    told: list[Progress] = []
    for _ in BlockSeparator(Oracle(images).follow(spans), BLOCK)(wav, [told.append]):  # type: ignore[list-item]
        del _
    done = [(k + 1) / len(spans) for k in range(len(spans))]
    assert [progress.share for progress in told] == pytest.approx(done)


@pytest.mark.parametrize("seconds", [0.01, -1.0, float("nan"), float("inf")])
def test_blocks_need_a_length(seconds: float) -> None:
    with pytest.raises(InputError, match="blocks of"):
        BlockSeparator(Separator("auxiva"), seconds)


def test_known_speakers_guide_every_block(
    wav: Path, meeting: tuple[np.ndarray, np.ndarray]
) -> None:
    mixture, images = meeting
    names = ["cat", "ann", "bob"]
    guide = [Segment(names[talker], second, 2.7) for talker, second in TURNS]
    blocks = list(BlockSeparator(Separator("auxiva", n_iter=20), 8.0, guide=guide)(wav))
    assert {name for block in blocks for name in block.names} == set(names)
    assert all(len(block.sources) == 3 for block in blocks)
    found = assemble(iter(blocks), mixture.shape[1])
    for row, name in enumerate(blocks[0].names):
        image, track = images[names.index(name), 0], found[f"source{row}"]
        assert image @ track > 0.8 * np.linalg.norm(image) * np.linalg.norm(track)
    silent = [Segment("ann", 100.0, 1.0)]
    (first, *_) = BlockSeparator(Separator("auxiva", **FAST), 8.0, guide=silent)(wav)
    assert not first.sources.any()
    assert (first.separation, first.problem) == (None, "")


def test_a_block_without_anybody_is_like_the_others(
    wav: Path, meeting: tuple[np.ndarray, np.ndarray]
) -> None:
    separator = Separator("auxiva", **FAST, dtype=torch.float64)
    guide = [Segment("ann", 0.0, 2.0), Segment("bob", 1.0, 3.0)]
    blocks = list(BlockSeparator(separator, 8.0, guide=guide)(wav))
    assert blocks[-1].separation is None
    assert {block.sources.dtype for block in blocks} == {torch.float64}


def test_a_single_talker_is_never_dropped(tmp_path: Path) -> None:
    """Not even one who has become faint, at another place."""
    rng = np.random.default_rng(0)
    loud, faint = rng.standard_normal((2, 2, 4 * RATE)) * np.array([1.0, 0.01])[:, None, None]
    loud[1], faint[1] = 0.2 * loud[0], -3 * faint[0]
    mixture = np.concatenate([loud, faint], axis=1) + 1e-3 * rng.standard_normal((2, 8 * RATE))
    audio.write(tmp_path / "x.wav", mixture.astype(np.float32), RATE)
    blocks = list(BlockSeparator(Separator("auxiva", 1, **FAST), 3.0)(tmp_path / "x.wav"))
    assert len(blocks) > 2
    assert [block.track for block in blocks] == [[0]] * len(blocks)


def test_blocks_at_the_same_time_are_the_same(wav: Path) -> None:
    one, two = (
        list(BlockSeparator(Separator("auxiva", 3, n_iter=5), BLOCK, jobs=jobs)(wav))
        for jobs in (1, 2)
    )
    assert [block.track for block in one] == [block.track for block in two]
    for alone, beside in zip(one, two, strict=True):
        assert (alone.start, alone.stop) == (beside.start, beside.stop)
        torch.testing.assert_close(alone.sources, beside.sources, rtol=1e-3, atol=1e-4)


def test_progress_of_several_blocks_never_falls(wav: Path) -> None:
    told: list[Progress] = []
    separator = BlockSeparator(Separator("auxiva", 3, n_iter=5), BLOCK, jobs=3)
    n_blocks = sum(1 for _ in separator(wav, [told.append]))  # type: ignore[list-item]
    done = [progress.share for progress in told]
    assert len(done) == 5 * n_blocks and done == sorted(done) and done[-1] == pytest.approx(1)


def test_progress_of_blocks_in_different_phases_is_a_share() -> None:
    """One block in the second iteration of two, another in the last of its 30."""
    told: list[Progress] = []
    overall = _Overall([told.append], 3)  # type: ignore[list-item]
    overall.of(0)(Progress(30, 30, None, 1.0))
    overall.of(1)(Progress(1, 2, None, 0.5))
    assert [progress.share for progress in told] == pytest.approx([1 / 3, 1 / 2])


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="POSIX signals")
def test_blocks_on_their_way_end_when_nobody_listens(wav: Path) -> None:
    """Otherwise an interrupted command would go on for as long as its longest block."""
    told: list[Progress] = []
    separator = BlockSeparator(Separator("auxiva", 3, n_iter=10**4), BLOCK, jobs=2)

    def interrupt(progress: Progress) -> None:
        told.append(progress)
        if len(told) == 10:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)  # type: ignore[arg-type]

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # it may be ignored
    try:
        with pytest.raises(KeyboardInterrupt):
            list(separator(wav, [interrupt]))
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(told) < 100


def test_jobs_are_counted() -> None:
    with pytest.raises(InputError, match="jobs must be at least 1"):
        BlockSeparator(Separator("auxiva"), jobs=0)
