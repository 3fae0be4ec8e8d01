"""The transform equals its definition and is undone exactly."""

from __future__ import annotations

import math

import pytest
import torch

from fca.errors import InputError
from fca.stft import STFT


def signal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("n_fft", "hop"), [(64, 16), (64, 32), (60, 7), (4, 1)])
@pytest.mark.parametrize("length", [1, 50, 64, 1000])
def test_synthesis_undoes_analysis(n_fft: int, hop: int, length: int) -> None:
    stft, x = STFT(n_fft, hop), signal(2, 3, length)
    spectrum = stft.analyse(x)
    assert spectrum.shape == (2, 3, stft.n_freq, length // hop + 1)
    torch.testing.assert_close(stft.synthesise(spectrum, length), x)


def test_analysis_is_the_windowed_fourier_transform() -> None:
    n_fft, hop, x = 16, 4, signal(40)
    spectrum = STFT(n_fft, hop).analyse(x)
    padded = torch.nn.functional.pad(x, (n_fft // 2, n_fft // 2))
    for t in range(spectrum.shape[-1]):
        for f in range(spectrum.shape[-2]):
            expected = sum(
                float(padded[t * hop + n])
                * (0.5 - 0.5 * math.cos(2 * math.pi * n / n_fft))
                * complex(
                    math.cos(2 * math.pi * f * n / n_fft), -math.sin(2 * math.pi * f * n / n_fft)
                )
                for n in range(n_fft)
            )
            assert abs(complex(spectrum[f, t]) - expected) < 1e-12


@pytest.mark.parametrize(("n_fft", "hop"), [(63, 16), (64, 0), (64, 33), (2, 1), (0, 1)])
def test_windows_that_cannot_be_inverted_are_refused(n_fft: int, hop: int) -> None:
    with pytest.raises(InputError, match=r"n_fft must be even|hop must be from 1"):
        STFT(n_fft, hop)


def test_sizes_are_whole_numbers_of_any_type() -> None:
    assert STFT(64.0, 16.0).analyse(signal(100)).shape == (33, 7)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"hop must be a whole number, got 16\.5"):
        STFT(64, 16.5)  # type: ignore[arg-type]


def test_gradients_pass_both_ways() -> None:
    stft = STFT(16, 4)
    x = signal(2, 30).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: stft.synthesise(stft.analyse(x) * 2, 30), (x,))
