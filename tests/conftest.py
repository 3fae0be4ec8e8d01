"""Speech and small simulated mixtures that the tests share; see ``tests/data/README.md``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fca import audio
from fca.simulate import Mixture, mix

DATA = Path(__file__).parent / "data"
RATE = 16000
MixtureMaker = Callable[..., Mixture]


@pytest.fixture(scope="session")
def speech() -> np.ndarray:
    """Four utterances (4, samples), 4 s at 16 kHz: low, high, low and high voice."""
    return np.stack([audio.read(DATA / f"{k}.flac")[0][0] for k in (3005, 533, 2414, 1998)])


@pytest.fixture(scope="session")
def make_mixture(speech: np.ndarray) -> MixtureMaker:
    """Function that makes a mixture of the utterances in a random room of its own.

    Responses are a direct sound with a random delay and a decaying Gaussian tail that starts
    after it, 6 dB below it in energy; talkers are equally loud.
    """

    def make(
        n_talkers: int = 2,
        n_channels: int = 2,
        *,
        seconds: float = 4.0,
        rt60: float = 0.15,
        snr_db: float | None = None,
        seed: int = 0,
    ) -> Mixture:
        rng = np.random.default_rng(seed)
        responses = decaying_responses(rng, (n_talkers, n_channels), rt60)
        utterances = speech[:n_talkers, : round(seconds * RATE)]
        return mix(utterances, responses, rng, level_db=(0, 0), snr_db=snr_db)

    return make


@pytest.fixture(scope="session")
def two_talker_mixture(make_mixture: MixtureMaker) -> Mixture:
    """Two talkers, two microphones, 4 s, RT60 0.15 s."""
    return make_mixture()


@pytest.fixture(scope="module")
def recording(two_talker_mixture) -> np.ndarray:
    """One second of two talkers at two microphones."""
    return two_talker_mixture.mixture[:, RATE : 2 * RATE].astype(np.float32)


@pytest.fixture
def wav(tmp_path: Path, recording: np.ndarray) -> Path:
    audio.write(tmp_path / "talk.wav", recording, RATE)
    return tmp_path / "talk.wav"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def decaying_responses(rng: np.random.Generator, shape: tuple[int, ...], rt60: float) -> np.ndarray:
    """Room responses (*shape, taps) without a room: cheap, and as long as rt60 says."""
    taps = np.arange(round(rt60 * RATE))
    tail = rng.standard_normal((*shape, len(taps))) * 10 ** (-3 * taps / len(taps))
    delay = rng.integers(0, 16, (*shape, 1))
    tail *= taps > delay
    tail *= 10 ** (-6 / 20) / np.linalg.norm(tail, axis=-1, keepdims=True)
    return tail + (taps == delay)
