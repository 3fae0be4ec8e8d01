"""Scores agree with mir_eval and closed forms, and are defined on silence."""

from __future__ import annotations

import subprocess
import sys
import warnings

import numpy as np
import pytest

from fca.errors import InputError
from fca.evaluation.metrics import evaluate, si_sdr, summarise

RATE = 16000


def speechlike(rng: np.random.Generator, n: int, samples: int = 2 * RATE) -> np.ndarray:
    """Coloured noise with a moving envelope."""
    noise = rng.standard_normal((n, samples + 8))
    coloured = sum(noise[:, k : k + samples] * 0.7**k for k in range(8))
    knots = rng.uniform(0, 1, (n, 20)) ** 2
    grid = np.linspace(0, 19, samples)
    return coloured * np.stack([np.interp(grid, np.arange(20), row) for row in knots])


def separated(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """References and imperfect estimates of them, in the reverse order."""
    references = speechlike(rng, n)
    leak = np.eye(n)[::-1] + 0.2 * rng.standard_normal((n, n))
    filtered = np.apply_along_axis(np.convolve, 1, references, [1, 0.5, 0.2], "same")
    return references, leak @ filtered + 0.01 * rng.standard_normal(references.shape)


@pytest.mark.parametrize("n", [2, 3])
def test_bss_eval_equals_mir_eval(n: int) -> None:
    from mir_eval.separation import bss_eval_sources

    references, estimates = separated(np.random.default_rng(n), n)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        *oracle, order = bss_eval_sources(references, estimates)
    for protocol in ("fast_bss_eval", "mir_eval"):
        scores = evaluate(references, estimates, protocol=protocol)
        assert scores.permutation == list(order)
        for name, expected in zip(("sdr", "sir", "sar"), oracle, strict=True):
            np.testing.assert_allclose(scores.values[name], expected, atol=1e-2)


SEVERAL_THREADS = """
import numpy as np
import torch
from fca.evaluation.metrics import evaluate

torch.set_num_threads(2)
references = np.random.default_rng(0).standard_normal((3, 8000))
estimates = references + 0.3 * np.roll(references, 1, axis=0)
scores = [evaluate(references, estimates, protocol=name) for name in ("fast_bss_eval", "mir_eval")]
np.testing.assert_allclose(*(score.values["sdr"] for score in scores), atol=1e-2)
"""


def test_bss_eval_does_not_depend_on_the_threads() -> None:
    # in a process of its own, as that number stays
    command = [sys.executable, "-c", SEVERAL_THREADS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_improvement_is_over_the_mixture() -> None:
    references, estimates = separated(np.random.default_rng(0), 2)
    mixture = references.sum(axis=0)
    scores = evaluate(references, estimates, mixture=mixture)
    untouched = evaluate(references, np.stack([mixture, mixture]), mixture=mixture)
    for name in ("sdr", "sir", "si_sdr"):
        assert np.all(scores.improvement[name] > 3)
        np.testing.assert_allclose(untouched.improvement[name], 0, atol=1e-9)


def test_si_sdr_of_known_error() -> None:
    rng = np.random.default_rng(0)
    reference = rng.standard_normal(4 * RATE)
    error = rng.standard_normal(4 * RATE)
    error -= reference * (error @ reference) / (reference @ reference)  # orthogonal
    error *= np.linalg.norm(reference) / np.linalg.norm(error)
    for level in (-10, 0, 30):
        estimate = 3.0 * (reference + 10 ** (-level / 20) * error)
        assert si_sdr(reference, estimate) == pytest.approx(level, abs=1e-6)


def test_silence_is_defined() -> None:
    references, estimates = separated(np.random.default_rng(1), 3)
    lost = estimates.copy()
    lost[2] = 0.0  # the estimate of the first reference
    quiet = references.copy()
    quiet[1] = 0.0
    for protocol in ("fast_bss_eval", "mir_eval"):
        scores = evaluate(references, lost, protocol=protocol)
        assert scores.permutation == [2, 1, 0]
        for value in scores.values.values():
            assert np.isneginf(value[0])
            assert np.isfinite(value[1:]).all()
        scores = evaluate(quiet, estimates, mixture=quiet.sum(axis=0), protocol=protocol)
        assert scores.permutation == [2, 1, 0]
        for value in (*scores.values.values(), scores.improvement["sdr"]):
            assert np.isnan(value[1])
            assert np.isfinite(value[[0, 2]]).all()
    nothing = evaluate(np.zeros((2, RATE)), np.zeros((2, RATE)))
    assert all(np.isnan(value).all() for value in nothing.values.values())


def test_one_talker_and_a_perfect_estimate() -> None:
    references, estimates = separated(np.random.default_rng(2), 2)
    alone = evaluate(references[:1], estimates[1:])
    assert np.isposinf(alone.values["sir"][0])
    assert np.isfinite(alone.values["sdr"][0])
    perfect = evaluate(references, references)
    assert perfect.permutation == [0, 1]
    assert np.all(perfect.values["sdr"] > 80)
    one_of_two = evaluate(np.stack([np.zeros_like(references[0]), references[1]]), estimates)
    assert one_of_two.permutation == [1, 0]


def test_perceptual_scores_rise_with_quality() -> None:
    pytest.importorskip("pesq")
    pytest.importorskip("pystoi")
    rng = np.random.default_rng(0)
    references = speechlike(rng, 2, 3 * RATE)
    noise = references.std() * rng.standard_normal(references.shape)
    names = ("pesq", "stoi", "estoi")
    good = evaluate(references, references + 0.03 * noise, metrics=names)
    poor = evaluate(references, references + noise, metrics=names)
    for name in names:
        assert np.all(good.values[name] > poor.values[name])
    with pytest.raises(InputError, match="8000 and 16000"):
        evaluate(references, references, 44100, metrics=["pesq"])


def test_too_little_speech_has_no_intelligibility() -> None:
    references = np.zeros((2, 2 * RATE))
    references[0] = speechlike(np.random.default_rng(0), 1)[0]
    references[1, :2000] = references[0, :2000]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        scores = evaluate(references, references, metrics=["stoi", "estoi"])
    for values in scores.values.values():
        assert values[0] == pytest.approx(1, abs=1e-3)
        assert np.isnan(values[1])


def test_summary_is_a_student_interval() -> None:
    summary = summarise([[1.0, 3.0], [4.0], [np.nan, 3.0], [np.nan], [-np.inf, 1.0]])
    assert (summary.count, summary.excluded) == (3, 2)
    assert summary.mean == pytest.approx(3.0)
    assert summary.interval == pytest.approx(4.302653 / np.sqrt(3))  # t(.975, 2), deviation 1
    assert str(summary) == "3.00 ± 2.48"
    assert np.isnan(summarise([]).mean)
    assert summarise([[2.0]]).mean == 2.0


def test_bad_input_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    references, estimates = separated(np.random.default_rng(0), 2)
    with pytest.raises(InputError, match="alike"):
        evaluate(references, estimates[:1])
    with pytest.raises(InputError, match="unknown metric 'snr'; choose from sdr"):
        evaluate(references, estimates, metrics=["snr"])
    with pytest.raises(InputError, match="unknown protocol"):
        evaluate(references, estimates, protocol="bss")
    with pytest.raises(InputError, match="mixture must be"):
        evaluate(references, estimates, mixture=references)
    with pytest.raises(InputError, match="estimates contain NaN"):
        evaluate(references, estimates * np.nan)
    with pytest.raises(InputError, match="the mixture contains NaN"):
        evaluate(references, estimates, mixture=references[0] * np.nan)
    for n, metric in ((1, "sdr"), (2, "si_sdr")):  # SIR matches two
        with pytest.raises(InputError, match="BSS eval needs at least 512 samples, got 511"):
            evaluate(references[:n, :511], estimates[:n, :511], metrics=[metric])
    assert np.isfinite(evaluate(references[:, :512], estimates[:, :512]).values["sdr"]).all()
    assert len(evaluate(references[:1, :9], estimates[:1, :9], metrics=["si_sdr"]).values) == 1
    with pytest.raises(InputError, match="copies"):
        evaluate(references[[0, 0]], estimates)
    monkeypatch.setitem(sys.modules, "fast_bss_eval", None)
    with pytest.raises(InputError, match="need the extra 'evaluate'"):
        evaluate(references, estimates)
