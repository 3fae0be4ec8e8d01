"""The table of methods: each row is a choice of spatial model, source model and inference."""

from __future__ import annotations

from fca.building import SOURCES
from fca.errors import check_choice
from fca.inference.rank1 import SPARE
from fca.inference.start import STARTS
from fca.method import FITS, SPATIAL_MODELS, Method

__all__ = [
    "DEFAULT_METHOD",
    "FITS",
    "METHODS",
    "SOURCES",
    "SPATIAL_MODELS",
    "STARTS",
    "Method",
    "get_method",
]

DENOISER = "denoiser"
"""Name of the talker encoder that ships with the toolkit."""

_ROWS = [
    Method(
        "fdica",
        "rank-1",
        "laplace",
        "ip",
        "Sawada, Mukai, Araki & Makino 2004",
        start="identity",
        fits="channels",
        align=True,
        n_fft=2048,
        options={"tied": False},
    ),
    Method("auxiva", "rank-1", "gauss", "ip", "Ono 2012", start="identity", fits="channels"),
    Method("auxiva-laplace", "rank-1", "laplace", "ip", "Ono 2011", 50, "identity", "channels"),
    Method("auxiva-t", "rank-1", "student", "ip", "Liang et al. 2013", 50, "identity", "channels"),
    Method("overiva", "rank-1", "gauss", "ip", "Scheibler & Ono 2019"),
    Method("ilrma", "rank-1", "nmf", "ip", "Kitamura et al. 2016", fits="channels"),
    Method("ilrma-t", "rank-1", "nmf", "ip", "Kitamura et al. 2018", fits="channels", dof=30.0),
    Method(
        "fastmnmf1",
        "jointly diagonal",
        "nmf",
        "ip",
        "Sekiguchi et al. 2019",
        options={"n_bases": 16},
    ),
    Method(
        "fastmnmf2",
        "jointly diagonal, shared gains",
        "nmf",
        "ip",
        "Sekiguchi et al. 2020",
        options={"n_bases": 16},
    ),
    Method("mnmf", "full rank", "nmf", "mu", "Sawada et al. 2013", n_iter=30),
    Method("fastfca", "jointly diagonal", "free", "ip", "Ito, Araki & Nakatani 2018"),
    Method("fca", "full rank", "free", "em", "Duong, Vincent & Gribonval 2010", n_iter=30),
    Method(
        "mvae",
        "rank-1",
        "vae",
        "ip",
        "Kameoka et al. 2019",
        n_iter=20,
        fits="channels",
        n_fft=2048,
        options={"inference": "gradient"},
    ),
    Method(
        "mnmf-dp",
        "full rank",
        "vae",
        "mu",
        "Sekiguchi et al. 2018",
        n_iter=20,
        n_fft=2048,
        options={"inference": "gradient"},
    ),
    Method(
        "fastmnmf-dp",
        "jointly diagonal",
        "vae",
        "ip",
        "Sekiguchi et al. 2019",
        n_iter=20,
        n_fft=2048,
        options={"inference": "gradient"},
    ),
    Method(
        "deep-fca",
        "jointly diagonal, shared gains",
        "vae",
        "ip",
        "this toolkit",
        n_iter=2,
        start="rank-1",
        n_starts=2,
        gain_update="me",
        spatial_steps=8,
        spare=SPARE,
        gate=True,
        n_refine=40,
        surroundings=True,
        interferers=True,
        walkers=True,
        options={"denoiser": DENOISER, "rate": 0.1},
    ),
    Method(
        "deep-fca-fast",
        "jointly diagonal, shared gains",
        "vae",
        "ip",
        "this toolkit",
        n_iter=1,
        start="rank-1",
        gain_update="me",
        free_steps=3,
        spare=SPARE,
        fast_start=True,
        gate=True,
        n_refine=8,
        surroundings=True,
        interferers=True,
        options={"denoiser": DENOISER, "refinement": "em"},
    ),
    Method(
        "neural-fca",
        "full rank",
        "neural",
        "em",
        "Bando et al. 2021",
        n_iter=5,
        start="network",
        fits="sources + 1",
        n_fft=512,
    ),
    Method(
        "neural-fastfca",
        "jointly diagonal",
        "neural",
        "iss",
        "Bando et al. 2023",
        n_iter=0,
        start="network",
        fits="sources + 1",
        n_fft=512,
    ),
    Method(
        "cacgmm",
        "cACGMM",
        "gauss",
        "em",
        "Ito, Araki & Nakatani 2016",
        fits="sources + 1",
        n_fft=2048,
    ),
]
METHODS: dict[str, Method] = {row.name: row for row in _ROWS}
DEFAULT_METHOD = "deep-fca"


def get_method(method: str | Method) -> Method:
    """The row of a name; a row of one's own is returned as it is.

    Raises
    ------
    InputError
        For an unknown name; it lists the known ones.
    """
    if isinstance(method, Method):
        return method
    check_choice("method", method, METHODS)
    return METHODS[method]
