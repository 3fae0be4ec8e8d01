"""A method: a choice of spatial model, source model and inference."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from fca.arguments import NETWORKS, READERS, parameters, read_networks
from fca.building import SOURCES, Building
from fca.effects import check_effect, needs_of
from fca.errors import InputError, at_least_one, check_choice, not_negative, offer, whole
from fca.inference.rank1 import number_of_outputs
from fca.inference.start import STARTS
from fca.likelihood import Gaussian, Likelihood, StudentT
from fca.mixing import Mixing
from fca.model import Fittable
from fca.spatial.demixing import DEMIXING_UPDATES
from fca.spatial.diagonal import GAIN_UPDATES
from fca.spatial.full_rank import FULL_RANK_UPDATES

SPATIAL_MODELS = ("rank-1", "jointly diagonal", "jointly diagonal, shared gains", "full rank")
_UPDATES: dict[str, Collection[str]] = {"full rank": FULL_RANK_UPDATES, "cACGMM": ("em",)}
FITS = ("sources", "sources + 1", "sources + noise", "channels")
_CHOICES = (
    "spatial",
    "source",
    "start",
    "update",
    "fits",
    "align",
    "dof",
    "gain_update",
    "spatial_steps",
    "free_steps",
    "spare",
    "fast_start",
    "gate",
    "surroundings",
    "interferers",
    "walkers",
)
_FIRST = ("n_iter", "n_fft", "n_starts", "n_refine")
"""Numbers of a row that a :class:`~fca.separator.Separator` takes as arguments of its own."""
_NUMBERS: dict[str, Callable[[str, float], int]] = {
    **dict.fromkeys(("n_iter", "n_refine", "spatial_steps", "free_steps", "spare"), not_negative),
    **dict.fromkeys(("n_fft", "n_starts", "min_channels"), at_least_one),
}
MOVING = ("mnmf", "fca", "mnmf-dp", "neural-fca")
"""Names of the methods with full-rank covariances, which may move."""
_MIXING = tuple(choice.name for choice in dataclasses.fields(Mixing))


@dataclass(frozen=True)
class Method:
    """One row of the table of methods.

    Attributes
    ----------
    name : str
        Name of the method in the literature.
    spatial : str
        One of :data:`SPATIAL_MODELS`, or "cACGMM" for mask clustering with a beamformer.
    source : str
        A key of :data:`SOURCES`.
    update : str
        Iteration of the spatial parameters: ip, ip2 or iss for a demixing matrix, em or mu for
        full-rank covariances, em for a cACGMM.
    paper : str
        Where the method was published.
    n_iter : int
        Default number of iterations.
    start : str
        Default start, a key of :data:`STARTS`, "rank-1" for the rank-1 model of the method's own
        sources, or "network" for source models that infer it from the mixture.
    n_starts : int
        Default number of starts. Starts that the source model likes clearly less than the best one
        are dropped (:func:`~fca.inference.choice.worth_fitting`); of the others, the one is kept
        that ends with the lowest cost.
    n_fft : int
        Default window in samples at 16 kHz; the shift is a quarter of it.
    fits : str
        How many sources are fitted, one of :data:`FITS`: "sources" fits those asked for;
        "sources + 1" fits one more, for the background; "sources + noise" fits one more that is the
        last and is noise, and is never returned; "channels" fits as many as microphones, or as the
        sources if these are more. Of the others, the loudest are returned.
    min_channels : int
        Least number of microphones.
    align : bool
        Align the sources over frequency at the end, for models that treat each frequency on its
        own.
    dof : float or None
        Degrees of freedom of a Student's t likelihood; None for the Gaussian.
    gain_update : str
        Step size of the multiplicative update of the gains of jointly diagonal models, mm or me;
        see :class:`~fca.spatial.JointlyDiagonal`.
    spatial_steps : int
        Updates of the spatial model in each iteration.
    free_steps : int
        Updates of the spatial model after the iterations, with gains that are free at every
        frequency.
    spare : int or None
        Principal components, beyond the sources wanted, on which jointly diagonal models of a
        fixed, dry mixture are fitted before the spatial model settles on all microphones; None to
        fit all microphones at once. See :mod:`fca.spatial.subspace`.
    fast_start : bool
        Make the start "rank-1" a fast one; see :func:`fca.inference.rank1.rank1`.
    gate : bool
        Infer when each source is active, before refinement, and silence it otherwise; see
        :func:`fca.inference.gate.gated`.
    n_refine : int
        Default number of steps of :class:`~fca.inference.refine.Refinement`, for source models that
        have one: gradient steps on latent vectors, or EM updates by which bins depart from the
        expected PSD.
    surroundings : bool
        Model noise beside the sources, and late sound in all but the first quarter of the
        refinement, unless the method models reverberation or motion itself; see
        :mod:`fca.inference.surroundings`.
    interferers : bool
        Give an interferer, a sound from one place that is none of the sources asked for, a source
        of its own where the start "rank-1" finds one; see :mod:`fca.inference.interferer`.
    walkers : bool
        Follow talkers who walk instead of making the start "rank-1"; see
        :mod:`fca.inference.walkers`.
    options : mapping
        Arguments of the source model.
    mixing : Mixing
        How reverberation and motion are modelled.

    Raises
    ------
    InputError
        For unknown names, numbers that are none, or choices that do not go together.
    """

    name: str
    spatial: str
    source: str
    update: str
    paper: str
    n_iter: int = 50
    start: str = "iva"
    fits: str = "sources"
    min_channels: int = 2
    align: bool = False
    dof: float | None = None
    n_starts: int = 1
    n_fft: int = 4096
    gain_update: str = "mm"
    spatial_steps: int = 1
    free_steps: int = 0
    spare: int | None = None
    fast_start: bool = False
    gate: bool = False
    n_refine: int = 0
    surroundings: bool = False
    interferers: bool = False
    walkers: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    mixing: Mixing = field(default_factory=Mixing)

    def __post_init__(self) -> None:
        self._check_names()
        self._check_numbers()
        self._check_combination()

    def _check_names(self) -> None:
        if self.fits not in FITS:
            raise InputError(f"cannot fit {self.fits!r}; choose from {', '.join(FITS)}")
        check_choice("start", self.start, (*STARTS, "rank-1", "network"))
        if self.spatial != "cACGMM":
            check_choice("spatial model", self.spatial, SPATIAL_MODELS)
        check_choice("source model", self.source, SOURCES)
        check_choice("update", self.gain_update, GAIN_UPDATES, " of gains")
        updates = _UPDATES.get(self.spatial, DEMIXING_UPDATES)
        check_choice("update", self.update, updates, f" of {self.spatial} models")

    def _check_numbers(self) -> None:
        for name, check in _NUMBERS.items():
            if name != "spare" or self.spare is not None:
                object.__setattr__(self, name, check(name, getattr(self, name)))
        if self.dof is not None:
            StudentT(self.dof)  # raises if there are no such

    def _check_combination(self) -> None:
        if self.mixing.reverberation != "none" and self.spatial in ("full rank", "cACGMM"):
            raise InputError(f"{self.name}: reverberation goes with a demixing matrix only")
        if self.mixing.moves and self.spatial != "full rank":
            raise InputError(
                f"{self.name}: motion goes with full-rank covariances; choose {', '.join(MOVING)}"
            )
        if self.gate and self.spatial in ("rank-1", "cACGMM"):
            raise InputError(f"{self.name} cannot be gated: its filter does not depend on PSDs")
        if self.surroundings and self.spatial in ("rank-1", "cACGMM"):
            raise InputError(f"{self.name} has no room for surroundings")
        if self.free_steps and self.spatial == "cACGMM":
            raise InputError(f"{self.name} has no spatial model that could settle")
        if self.mixing.n_late and self.options.get("inference") == "sample":
            raise InputError(f"{self.name}: sampling does not go with moving averages")
        if self.mixing.n_late and self.spatial == "rank-1":
            raise InputError(f"{self.name}: moving averages go with jointly diagonal models only")

    @property
    def source_model(self) -> str:
        """The source model and the likelihood it has, in the words of the table."""
        if self.spatial == "cACGMM":
            return "none"
        each = ", each frequency alone" if self.options.get("tied") is False else ""
        heavy = "" if self.dof is None else ", Student's t"
        return f"{self.source}{each}{heavy}"

    @property
    def beginning(self) -> str:
        """The start, in the words of the table."""
        return "random classes" if self.spatial == "cACGMM" else self.start

    @property
    def inference(self) -> str:
        """How the parameters are found, as the table of methods says it."""
        spatial = {"ip": "IP", "ip2": "IP2", "iss": "ISS", "em": "EM", "mu": "MU"}[self.update]
        known = parameters(self.source)
        if "inference" in known:
            chosen = self.options.get("inference", known["inference"].default)
            source = {"em": "EM", "mu": "MU"}.get(chosen, chosen)
        else:
            source = {"nmf": "MU", "sliding nmf": "MU", "neural": "network"}.get(self.source)
        fitted = spatial if source in (None, spatial) else f"{spatial} + {source}"
        by_em = self.source == "stationary" or self.options.get("refinement") == "em"
        refinement = "EM" if by_em else "gradient"
        steps = [fitted, *["gate"] * self.gate, *[refinement] * (self.n_refine > 0)]
        return ", then ".join(steps)

    @property
    def needs_weights(self) -> bool:
        """Whether the user has to give the weights of a network."""
        return "weights" in parameters(self.source) and "weights" not in self.options

    @property
    def whole_band(self) -> bool:
        """Whether a network takes part, which needs speech at all of its frequencies."""
        return not NETWORKS.isdisjoint(parameters(self.source))

    @property
    def refinable(self) -> bool:
        """Whether the source model has a :class:`~fca.inference.refine.Refinement`."""
        return self.spatial != "cACGMM" and SOURCES[self.source](**self.options).refinable

    @property
    def likelihood(self) -> Likelihood:
        """Gaussian, or Student's t if degrees of freedom are set."""
        return Gaussian() if self.dof is None else StudentT(self.dof)

    @property
    def choices(self) -> dict[str, Any]:
        """Options of :meth:`with_options` and :class:`~fca.separator.Separator`, with their values.

        Options that have no effect in this method are left out.
        """
        known = parameters(self.source)
        fields = [*_FIRST, *(name for name in _CHOICES if name not in known)]
        ours = {name: getattr(self, name) for name in fields} | {"hop": self.n_fft // 4}
        if self.whole_band:
            del ours["n_fft"]  # that of the network
        its = {name: self.options.get(name, known[name].default) for name in known}
        needs = needs_of(self, judges=True)
        return {
            name: value
            for name, value in {**ours, **dataclasses.asdict(self.mixing), **its}.items()
            if needs.get(name, (True, ""))[0] and not self.mixing.idle([name])
        }

    def check_options(
        self,
        given: Mapping[str, Any],
        own: Iterable[str] = (),
        offered: Iterable[str] | None = None,
    ) -> None:
        """Refuse options that do not exist.

        Parameters
        ----------
        given : mapping
            Options of this method and of whoever takes them.
        own : iterable of str
            Names of the latter.
        offered : iterable of str, optional
            What there is to choose from; all options unless given.

        Raises
        ------
        InputError
            For an option that does not exist; it tells the one that may have been meant.
        """
        source = given.get("source", self.source)
        check_choice("source model", source, SOURCES)
        known = parameters(source)
        names = [*own, *dict.fromkeys([*_CHOICES, *_MIXING, *known])]
        unknown = sorted(set(given).difference(names))
        if unknown and unknown[0] == "weights":
            networks = " or ".join(name for name in READERS if name in known)
            hint = f"its network is the option {networks}" if networks else "it has no network"
            raise InputError(f"{self.name} has no option 'weights'; {hint}")
        if unknown:
            hint = offer(unknown[0], names if offered is None else offered)
            raise InputError(f"{self.name} has no option {unknown[0]!r}; {hint}")

    def with_options(self, n_iter: int | None = None, **options: Any) -> Method:
        """The same row with some choices changed.

        Parameters
        ----------
        n_iter : int, optional
            Number of iterations.
        **options
            Fields of this class or of its mixing, or arguments of the source model.

        Raises
        ------
        InputError
            For an option that does not exist or has no effect.
        """
        self.check_options(options, own=["n_iter"])
        source = options.get("source", self.source)
        known = parameters(source)
        ours = [key for key in _CHOICES if key not in known]  # Student's t sources have a dof, too
        choices = {key: options.pop(key) for key in ours if key in options}
        mixing = {key: options.pop(key) for key in _MIXING if key in options}
        choices["mixing"] = dataclasses.replace(self.mixing, **mixing)
        if n_iter is not None:
            choices["n_iter"] = whole("n_iter", n_iter)
            if choices["n_iter"] < min(1, self.n_iter):
                raise InputError(f"at least one iteration is needed, got n_iter={n_iter}")
        given = [*choices, *mixing, *options]
        inherited = {key: value for key, value in self.options.items() if key in known}
        options = {**inherited, **options}
        n_fft = read_networks(source, options)
        row = dataclasses.replace(self, n_fft=n_fft or self.n_fft, **choices, options=options)
        judges = SOURCES[source](**options).judges  # raises early for a bad option
        check_effect(row, given, judges)
        return row

    def n_fitted(self, n_sources: int, n_channels: int, guided: bool = False) -> int:
        """Number of sources that are fitted when ``n_sources`` are wanted.

        If the activities are known (``guided``), one is added for the background, unless the
        spatial model has no room for it or noise is modelled anyway.
        """
        if guided:
            room = self.spatial != "rank-1" or n_sources < n_channels
            return n_sources + (room and not self.surroundings)
        if self.fits == "channels":
            return max(n_sources, n_channels)
        return n_sources + (self.fits in ("sources + 1", "sources + noise"))

    def n_components(self, n_sources: int, n_channels: int) -> int:
        """Number of components, or microphones, that ``n_sources`` wanted are inferred from."""
        if self.spare is None or "jointly diagonal" not in self.spatial or not self.mixing.plain:
            return n_channels
        return number_of_outputs(n_sources, n_channels, self.spare)

    def build(
        self,
        mixture: Tensor,
        n_sources: int,
        generator: torch.Generator,
        activity: Tensor | None = None,
    ) -> Fittable:
        """Model of a mixture at its start, ready to be iterated.

        Parameters
        ----------
        mixture : Tensor
            X, complex (B, F, M, T).
        n_sources : int
            Sources wanted.
        generator : torch.Generator
            Random numbers of the start and of the source model.
        activity : Tensor, optional
            When the wanted sources are active, (B, n_sources, T), if known: these sources come
            first in the model, then a background that is always active; see
            :mod:`fca.inference.known`.

        Raises
        ------
        InputError
            For more sources than the spatial model allows, or activities that do not tell the
            sources apart.
        """
        building = Building(
            method=self,
            mixture=mixture,
            n_sources=n_sources,
            generator=generator,
            activity=activity,
        )
        return building.model()
