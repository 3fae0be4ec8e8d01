"""Measure speech priors: how well they describe unseen speech, and how well it could be separated.

    python -m recipes.prior.evaluate PRIOR… --speech DIR --rooms FILE --mixtures SET -o OUT.json

For every prior: ELBO and Itakura-Saito divergence per bin, dry and reverberant, and the separation
ceiling: SDR improvement of the Wiener filter whose PSDs are decode(encode(true source image)),
beside the same with the true powers and with NMF fitted to them.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor

from fca.evaluation.metrics import evaluate, summarise
from fca.frontend import SAMPLE_RATE
from fca.prior import SpeechPrior
from fca.prior.model import itakura_saito
from fca.simulate.stored import Item
from fca.simulate.stored import load as load_set
from fca.source import NMF
from fca.stft import STFT
from recipes import program
from recipes.benchmark.ceilings import (
    PsdEstimate,
    SpatialChoice,
    full_rank,
    jointly_diagonal,
    oracle_filter,
    true_power,
)
from recipes.benchmark.common import surroundings, write_json
from recipes.prior.data import Augmentation, Corpus, Excerpts, load_responses

NMF_BASES = (8, 16, 32)
N_FULL_RANK = 4
KINDS = {"dry": Augmentation(), "reverberant": Augmentation(reverberant=1.0)}


@torch.no_grad()
def fit_of_prior(prior: SpeechPrior, waves: Tensor) -> dict[str, float]:
    """ELBO, divergence of the latent and Itakura-Saito divergence, for waveforms (B, samples)."""
    config = prior.config
    power = STFT(config.n_fft, config.hop).analyse(waves).abs().square()
    elbo = prior.elbo(power)
    code = prior.encode(power)
    divergence = itakura_saito(power / code.gain, prior.decode(code.z), config.floor)
    return {
        "elbo_per_bin": float(elbo.per_bin.mean()),
        "kl_per_frame": float(elbo.kl.mean()),
        "is_per_bin": float(divergence.mean()),
    }


def ceiling(item: Item, estimate: PsdEstimate, stft: STFT, spatial: SpatialChoice) -> Any:
    """SDR improvement (talkers,) with PSDs estimated from the true image powers (N, F, T)."""
    talkers = oracle_filter(item, estimate, stft, spatial)
    mixture = item.read("mixture")[0]
    scores = evaluate(
        item.references(), talkers, item.sample_rate, mixture=mixture, metrics=("sdr",)
    )
    return scores.improvement["sdr"]


def nmf(n_bases: int, n_iter: int = 100) -> PsdEstimate:
    """Itakura-Saito NMF of each power spectrogram (N, F, T) by itself."""

    def estimate(power: Tensor) -> Tensor:
        source = NMF(n_bases, warmup=n_iter)
        source.initialise(power.transpose(0, 1)[None], torch.Generator().manual_seed(0))
        return source.psd()[0].transpose(0, 1)

    return estimate


def mean_ceiling(
    items: list[Item], estimate: PsdEstimate, stft: STFT, spatial: SpatialChoice = jointly_diagonal
) -> dict[str, float]:
    """Mean and 95 % interval of :func:`ceiling` over mixtures."""
    summary = summarise([ceiling(item, estimate, stft, spatial) for item in items])
    return {"mean": summary.mean, "interval": summary.interval, "count": summary.count}


def measure(
    prior: SpeechPrior, corpus: Corpus, responses: list[Any], items: list[Item]
) -> dict[str, Any]:
    """All figures of one prior."""
    torch.manual_seed(0)
    figures: dict[str, Any] = {
        "parameters": sum(p.numel() for p in prior.parameters()),
        "model": asdict(prior.config),
    }
    for name, kind in KINDS.items():
        excerpts = Excerpts(corpus, 64, 4.0, kind, responses, seed=1)
        figures[name] = fit_of_prior(prior, torch.stack([excerpts[i] for i in range(64)]))
    if items:
        stft = STFT(prior.config.n_fft, prior.config.hop)
        figures["ceiling"] = mean_ceiling(items, prior.reconstruct, stft)
    return figures


def ceilings(prior: SpeechPrior, items: list[Item]) -> dict[str, Any]:
    """Ceilings with the prior, the true powers, and NMF that was fitted to them.

    Full-rank filters, which take long, only with the first two and on the first `N_FULL_RANK`.
    """
    stft = STFT(prior.config.n_fft, prior.config.hop)
    estimates: dict[str, PsdEstimate] = {"prior": prior.reconstruct, "true power": true_power}
    estimates |= {f"NMF, {k} bases": nmf(k) for k in NMF_BASES}
    rows = {name: mean_ceiling(items, estimate, stft) for name, estimate in estimates.items()}
    for name in ("prior", "true power"):
        few = items[:N_FULL_RANK]
        rows[f"{name}, full rank"] = mean_ceiling(few, estimates[name], stft, full_rank)
    return rows


def evaluate_all(
    priors: dict[str, str], speech: Path, rooms: Path, mixtures: Path, output: Path
) -> dict[str, Any]:
    """Figures of named priors; those that `output` (.json) has already are kept."""
    torch.set_flush_denormal(True)
    corpus, responses = Corpus(speech, SAMPLE_RATE), load_responses(rooms, SAMPLE_RATE)
    items = load_set(mixtures)
    results: dict[str, Any] = json.loads(output.read_text()) if output.is_file() else {}
    for name, where in priors.items():
        if name in results:
            continue
        prior = SpeechPrior.from_pretrained(where)
        figures = measure(prior, corpus, responses, items)
        stft = STFT(prior.config.n_fft, prior.config.hop)
        known = [r for r in results.values() if r["model"]["n_fft"] == stft.n_fft]
        true = known[0]["true_power"] if known else mean_ceiling(items, true_power, stft)
        results[name] = figures | {"true_power": true}
        write_json(output, results)
    return results


def main(
    prior: Annotated[str, typer.Argument(help="name or folder of a prior")],
    speech: Annotated[Path, typer.Option(help="folder of unseen speech")],
    rooms: Annotated[Path, typer.Option(help="bank of room responses")],
    mixtures: Annotated[Path, typer.Option(help="evaluation set of recipes.benchmark.data")],
    output: Annotated[Path, typer.Option("--output", "-o", help="figures (.json)")],
    count: Annotated[int, typer.Option(help="mixtures of each condition")] = 10,
) -> None:
    """Measure one prior with both spatial models, beside the oracles."""
    torch.set_flush_denormal(True)
    model = SpeechPrior.from_pretrained(prior)
    results = measure(model, Corpus(speech, SAMPLE_RATE), load_responses(rooms, SAMPLE_RATE), [])
    results |= {"prior": prior, "surroundings": surroundings(), "conditions": {}}
    for condition, items in by_condition(load_set(mixtures)).items():
        results["conditions"][condition] = ceilings(model, items[:count])
        write_json(output, results)


def by_condition(items: list[Item]) -> dict[str, list[Item]]:
    """Items of each condition of a set."""
    groups: dict[str, list[Item]] = {}
    for item in items:
        groups.setdefault(item.condition, []).append(item)
    return groups


if __name__ == "__main__":
    program.run(main)
