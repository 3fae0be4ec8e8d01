"""Other toolkits' separation behind one call: spectra in, spectra at the first microphone out.

All models are fitted with as many sources as microphones (mask clustering: talkers and background)
and the loudest are kept. The libraries' recording of the loss, which nothing here reads, is
switched off. The settings that separate best on the validation set stand in `config.yaml`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyroomacoustics as pra
import ssspy.bss.cacgmm
import ssspy.bss.fdica
import ssspy.bss.ilrma
import ssspy.bss.iva
import ssspy.bss.mnmf
import torch
from numpy.typing import NDArray

from fca.stft import STFT

Spectrum = NDArray[np.complexfloating[Any, Any]]
Run = Callable[..., Spectrum]


@dataclass(frozen=True)
class Peer:
    """One algorithm of another toolkit.

    Attributes
    ----------
    name : toolkit and algorithm
    counterpart : the row of :data:`fca.methods.METHODS` that does the same
    run : (spectrum (M, F, T), n_iter, seed, options) to (sources, F, T) at the first microphone
    told_sources : whether `run` also wants the number of talkers as `n_sources`
    """

    name: str
    counterpart: str
    run: Run
    told_sources: bool = False

    def separate(
        self,
        mixture: NDArray[np.floating[Any]],
        n_sources: int,
        *,
        n_iter: int,
        n_fft: int = 1024,
        hop: int = 256,
        seed: int = 0,
        **options: Any,
    ) -> NDArray[np.float64]:
        """The `n_sources` loudest sources (n_sources, samples) of a mixture (M, samples)."""
        stft = STFT(n_fft, hop)
        spectrum = stft.analyse(torch.from_numpy(np.asarray(mixture, dtype=float))).numpy()
        scale = np.sqrt(np.mean(np.abs(spectrum) ** 2))  # their floors are absolute
        if self.told_sources:
            options["n_sources"] = n_sources
        outputs = scale * self.run(spectrum / scale, n_iter, seed, **options)
        power = np.sum(np.abs(outputs) ** 2, axis=(1, 2))
        loudest = outputs[np.argsort(power)[::-1][:n_sources]]
        waves: NDArray[np.float64] = stft.synthesise(
            torch.from_numpy(np.ascontiguousarray(loudest)).to(torch.complex128), mixture.shape[-1]
        ).numpy()
        return waves


def _pra(spectrum: Spectrum, dtype: str = "complex128") -> Spectrum:
    """Spectra (frames, frequencies, channels)."""
    return np.ascontiguousarray(spectrum.transpose(2, 1, 0)).astype(dtype)


def pra_auxiva(
    spectrum: Spectrum,
    n_iter: int,
    seed: int,
    *,
    model: str = "gauss",
    dtype: str = "complex128",
) -> Spectrum:
    """Ono 2011, scaled to the first microphone by least squares."""
    del seed
    data = _pra(spectrum, dtype)
    result: Spectrum = pra.bss.auxiva(data, n_iter=n_iter, model=model)
    return result.transpose(2, 1, 0)


def pra_ilrma(
    spectrum: Spectrum,
    n_iter: int,
    seed: int,
    *,
    n_components: int = 2,
    start_iter: int = 0,
    dtype: str = "complex128",
) -> Spectrum:
    """Kitamura et al. 2016; `start_iter` sweeps of AuxIVA first."""
    data = _pra(spectrum, dtype)
    start = _pra_start(spectrum, data, start_iter)
    with _seeded(seed):
        result: Spectrum = pra.bss.ilrma(data, n_iter=n_iter, n_components=n_components, W0=start)
    return result.transpose(2, 1, 0)


def pra_fastmnmf(
    spectrum: Spectrum,
    n_iter: int,
    seed: int,
    *,
    n_sources: int,
    fits: str = "channels",
    variant: int = 1,
    n_components: int = 8,
    start_iter: int = 0,
    dtype: str = "complex128",
) -> Spectrum:
    """Sekiguchi et al. 2019 (variant 1) and 2020 (2); `start_iter` sweeps of AuxIVA first.

    `fits` says whether as many sources are modelled as there are "channels" or "talkers"; the
    latter start from the loudest outputs of AuxIVA.
    """
    data = _pra(spectrum, dtype)
    run = pra.bss.fastmnmf if variant == 1 else pra.bss.fastmnmf2
    start = _pra_start(spectrum, data, start_iter)
    n_src = n_sources if fits == "talkers" else len(spectrum)
    with _seeded(seed):
        result: Spectrum = run(
            data, n_src=n_src, n_iter=n_iter, n_components=n_components, W0=start
        )
    return result.transpose(2, 1, 0)


def pra_fastmnmf2(spectrum: Spectrum, n_iter: int, seed: int, **options: Any) -> Spectrum:
    """Sekiguchi et al. 2020."""
    return pra_fastmnmf(spectrum, n_iter, seed, variant=2, **options)


def _pra_start(spectrum: Spectrum, data: Spectrum, n_iter: int) -> Spectrum | None:
    """Demixing matrices (F, M, M) of AuxIVA, the loudest output first; none for the identity."""
    if n_iter == 0:
        return None
    filters: Spectrum = pra.bss.auxiva(data, n_iter=n_iter, model="gauss", return_filters=True)[1]
    return _loudest_first(filters, spectrum)


def _loudest_first(filters: Spectrum, spectrum: Spectrum) -> Spectrum:
    """Demixing matrices (F, M, M), rows sorted by the outputs' power at the first microphone."""
    outputs = filters @ spectrum.transpose(1, 0, 2)
    images = np.linalg.inv(filters)[:, 0, :, None] * outputs
    order = np.argsort(np.sum(np.abs(images) ** 2, axis=(0, 2)))[::-1]
    return np.ascontiguousarray(filters[:, order])


class _seeded:
    """NumPy's global generator, which pyroomacoustics draws from, seeded for a while."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def __enter__(self) -> None:
        self.before = np.random.get_state()  # noqa: NPY002
        np.random.seed(self.seed)  # noqa: NPY002

    def __exit__(self, *_: object) -> None:
        np.random.set_state(self.before)  # noqa: NPY002


def ssspy_auxiva(
    spectrum: Spectrum, n_iter: int, seed: int, *, algorithm: str = "IP", model: str = "gauss"
) -> Spectrum:
    """AuxIVA by IP, IP2, ISS or ISS2, scaled by projection back."""
    del seed
    kinds = {"gauss": ssspy.bss.iva.AuxGaussIVA, "laplace": ssspy.bss.iva.AuxLaplaceIVA}
    method = kinds[model](spatial_algorithm=algorithm, record_loss=False)
    return _ssspy(method, spectrum, n_iter)


def ssspy_ilrma(
    spectrum: Spectrum,
    n_iter: int,
    seed: int,
    *,
    algorithm: str = "IP",
    n_basis: int = 2,
    dof: float | None = None,
    start_iter: int = 0,
) -> Spectrum:
    """Gauss-ILRMA, or t-ILRMA with degrees of freedom; `start_iter` sweeps of AuxIVA first."""
    start = _ssspy_start(spectrum, start_iter)
    common = {
        "n_basis": n_basis,
        "spatial_algorithm": algorithm,
        "record_loss": False,
        "rng": np.random.default_rng(seed),
    }
    if dof is None:
        return _ssspy(ssspy.bss.ilrma.GaussILRMA(**common), spectrum, n_iter, **start)
    return _ssspy(ssspy.bss.ilrma.TILRMA(dof=dof, **common), spectrum, n_iter, **start)


def ssspy_fdica(spectrum: Spectrum, n_iter: int, seed: int, *, algorithm: str = "IP") -> Spectrum:
    """Laplace FDICA with its permutation solver."""
    del seed
    method = ssspy.bss.fdica.AuxLaplaceFDICA(spatial_algorithm=algorithm, record_loss=False)
    return _ssspy(method, spectrum, n_iter)


def ssspy_fastmnmf(
    spectrum: Spectrum,
    n_iter: int,
    seed: int,
    *,
    n_sources: int,
    fits: str = "channels",
    n_basis: int = 8,
    algorithm: str = "IP",
    start_iter: int = 0,
) -> Spectrum:
    """FastMNMF1; with `start_iter`, its diagonaliser and gains start from AuxIVA's outputs."""
    n_fitted = n_sources if fits == "talkers" else len(spectrum)
    method = ssspy.bss.mnmf.FastGaussMNMF(
        n_basis=n_basis,
        n_sources=n_fitted,
        diagonalizer_algorithm=algorithm,
        record_loss=False,
        rng=np.random.default_rng(seed),
    )
    start = {}
    if start_iter:
        channels, frequencies, _ = spectrum.shape
        owner = np.arange(channels) % n_fitted
        gains = np.where(owner == np.arange(n_fitted)[:, None], 1, 0.05)
        gains = np.tile(gains, (frequencies, 1, 1))
        diagonalizer = _ssspy_start(spectrum, start_iter)["demix_filter"]
        start = {"diagonalizer": diagonalizer, "spatial": gains}
    return _ssspy(method, spectrum, n_iter, **start)


def ssspy_mnmf(spectrum: Spectrum, n_iter: int, seed: int, *, n_basis: int = 8) -> Spectrum:
    """Sawada et al. 2013."""
    rng = np.random.default_rng(seed)
    method = ssspy.bss.mnmf.GaussMNMF(n_basis=n_basis, record_loss=False, rng=rng)
    return _ssspy(method, spectrum, n_iter)


def ssspy_cacgmm(
    spectrum: Spectrum, n_iter: int, seed: int, *, n_sources: int, background: int = 1
) -> Spectrum:
    """Ito et al. 2016: masks aligned over frequencies, applied to the first microphone.

    One class per talker and `background` more.
    """
    rng = np.random.default_rng(seed)
    method = ssspy.bss.cacgmm.CACGMM(n_sources=n_sources + background, record_loss=False, rng=rng)
    return _ssspy(method, spectrum, n_iter)


def _ssspy_start(spectrum: Spectrum, n_iter: int) -> dict[str, Spectrum]:
    """Demixing matrices of AuxIVA, the loudest output first, as the argument of a run."""
    if n_iter == 0:
        return {}
    iva = ssspy.bss.iva.AuxGaussIVA(record_loss=False, scale_restoration=False)
    _ssspy(iva, spectrum, n_iter)
    return {"demix_filter": _loudest_first(iva.demix_filter, spectrum)}


def _ssspy(method: Any, spectrum: Spectrum, n_iter: int, **start: Any) -> Spectrum:
    result: Spectrum = method(spectrum, n_iter=n_iter, initial_call=False, **start)
    return result


_ROWS = [
    Peer("pyroomacoustics auxiva", "auxiva", pra_auxiva),
    Peer("pyroomacoustics ilrma", "ilrma", pra_ilrma),
    Peer("pyroomacoustics fastmnmf", "fastmnmf1", pra_fastmnmf, told_sources=True),
    Peer("pyroomacoustics fastmnmf2", "fastmnmf2", pra_fastmnmf2, told_sources=True),
    Peer("ssspy FDICA", "fdica", ssspy_fdica),
    Peer("ssspy AuxIVA", "auxiva", ssspy_auxiva),
    Peer("ssspy ILRMA", "ilrma", ssspy_ilrma),
    Peer("ssspy FastMNMF", "fastmnmf1", ssspy_fastmnmf, told_sources=True),
    Peer("ssspy MNMF", "mnmf", ssspy_mnmf),
    Peer("ssspy cACGMM", "cacgmm", ssspy_cacgmm, told_sources=True),
]
PEERS: dict[str, Peer] = {row.name: row for row in _ROWS}
