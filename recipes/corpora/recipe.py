"""A recipe: one corpus, what is trained on it, what separates it and how that is scored."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fca.errors import InputError
from recipes import config
from recipes.corpora.ami import Ami
from recipes.corpora.layout import Layout
from recipes.corpora.librispeech import LibriSpeech
from recipes.corpora.sms_wsj import SmsWsj
from recipes.corpora.wsj0_mix import Wsj0Mix

STAGES = ("prepare", "index", "prior", "encoder", "separate", "evaluate")
LAYOUTS: dict[str, type[Layout]] = {
    "librispeech": LibriSpeech,
    "wsj0-mix": Wsj0Mix,
    "sms-wsj": SmsWsj,
    "ami": Ami,
}
TRAINED = "trained"
"""Stands in a method's options for the encoder that the recipe trains."""

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Recipe:
    """All settings of a recipe.

    Attributes
    ----------
    layout : a key of :data:`LAYOUTS`
    data : settings of the layout, the user's folder `corpus` among them
    output : folder of all that is made
    stages : which of :data:`STAGES` are gone through, in their order; a list or a text with commas
    methods : name in the table -> `method` (the name itself unless given) and options of
        :class:`fca.separator.Separator`; null leaves a method out
    yardstick : method that the others are compared with, mixture by mixture
    block : longest block in seconds; None for the default
    reference, channel, metrics, protocol : what the talkers are scored against, and how; see
        :func:`fca.evaluation.metrics.evaluate` and :data:`fca.evaluation.pairing.REFERENCES`
    prior, encoder : `config`, a file below `recipes`, and what is changed in it
    rooms : rooms of the bank of responses for training
    shard : separate share i/n only
    jobs : processes that simulate
    """

    layout: str
    data: dict[str, Any]
    output: str
    methods: Mapping[str, Settings | None]
    prior: Settings
    encoder: Settings
    stages: Sequence[str] | str = STAGES
    yardstick: str | None = None
    block: float | None = None
    reference: str = "image"
    channel: int = 0
    metrics: Sequence[str] = ("sdr", "si_sdr", "stoi", "estoi")
    protocol: str = "fast_bss_eval"
    rooms: int = 200
    device: str = "auto"
    shard: str | None = None
    jobs: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise InputError(f"no layout {self.layout!r}; there are {', '.join(LAYOUTS)}")
        if unknown := sorted(set(self.chosen) - set(STAGES)):
            raise InputError(f"no stage {unknown[0]!r}; there are {', '.join(STAGES)}")
        for name in self.methods:
            if Path(name).name != name or name.startswith("."):
                raise InputError(f"the method {name!r} cannot name a folder")
        self.corpus  # noqa: B018  # its settings are read now

    @functools.cached_property
    def corpus(self) -> Layout:
        """The corpus, with its settings."""
        return config.build(LAYOUTS[self.layout], self.data, "data.")

    @property
    def chosen(self) -> list[str]:
        """The stages that are asked for, in their order."""
        asked = self.stages.split(",") if isinstance(self.stages, str) else self.stages
        return sorted(asked, key=lambda name: STAGES.index(name) if name in STAGES else 0)

    def place(self, *parts: str) -> Path:
        """A file or folder below the output."""
        return Path(self.output, *parts)

    def fitted_methods(self) -> dict[str, dict[str, Any]]:
        """Options of every method that is wanted and whose encoder, if any, is trained."""
        encoder = self.place("encoder", "denoiser")
        found = {}
        for name, options in self.methods.items():
            if options is None:
                continue
            chosen = {"method": name, **options}
            if TRAINED in chosen.values():
                if not (encoder / "config.json").is_file():
                    continue
                chosen = {k: str(encoder) if v == TRAINED else v for k, v in chosen.items()}
            found[name] = chosen
        return found
