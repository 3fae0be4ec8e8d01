"""How well speech comes out of noise, and how fast.

    python -m recipes.enhancement.evaluate --speech DIR --noise DIR -o OUT.md [--channels 4]

writes the tables and, beside them, OUT.json with every score.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray

from fca.enhancer import DEFAULT_INFERENCE, DEFAULT_PRIOR, INFERENCES, VAE_NMF, Enhancer
from fca.evaluation.metrics import evaluate, si_sdr, summarise
from fca.frontend import prepare
from fca.inference.start import STARTS
from fca.prior import SpeechPrior
from fca.separator import Separator
from fca.spatial import JointlyDiagonal
from fca.spatial.observation import Observation
from fca.stft import STFT
from recipes import program
from recipes.benchmark.common import describe, markdown, surroundings, write_json, write_text
from recipes.enhancement.data import HELD_OUT, SAMPLE_RATE, SNRS_DB, Noisy, Recipe

Array = NDArray[np.floating[Any]]
Enhance = Callable[[Array], Array]
"""Speech (samples,) of a recording (channels, samples)."""
METRICS = {"si_sdr": "SI-SDR", "pesq": "PESQ", "stoi": "STOI"}
HEADER = ["", "SI-SDR gain", *METRICS.values(), "RTF"]
NMF_BASES = 16
DEFAULT = " (default)"


def unprocessed(noisy: Array) -> Array:
    """The first microphone."""
    first: Array = noisy[0]
    return first


def spectral_gating(stationary: bool) -> Enhance:
    """Spectral gating by noisereduce at its defaults, on the first microphone."""
    from noisereduce import reduce_noise

    def enhance(noisy: Array) -> Array:
        reduced: Array = reduce_noise(y=noisy[0], sr=SAMPLE_RATE, stationary=stationary)
        return reduced

    return enhance


def separator(model: Separator) -> Enhance:
    """One of ours."""

    def enhance(noisy: Array) -> Array:
        speech: Array = model(noisy.astype(np.float32), SAMPLE_RATE).sources[0].numpy()
        return speech

    return enhance


def noise_floor(stft: STFT) -> Enhance:
    """Wiener filter of the start from which ours iterate."""

    def enhance(noisy: Array) -> Array:
        waves = torch.from_numpy(noisy.astype(np.float32))[None]
        spectrum, frontend = prepare(waves, SAMPLE_RATE, stft, min_channels=1)
        start = STARTS[VAE_NMF.start](Observation(spectrum), 2, torch.Generator())
        spatial = JointlyDiagonal(spectrum, start.demixing, start.gains())
        speech: Array = frontend.synthesise(spatial.images(start.power, slice(0, 1)))[
            0, 0, 0
        ].numpy()
        return speech

    return enhance


def competitors(prior: str, seed: int) -> dict[str, Enhance]:
    """All that the table compares."""
    speech = SpeechPrior.from_pretrained(prior)
    window: dict[str, Any] = {"n_fft": speech.config.n_fft, "hop": speech.config.hop}
    nmf = replace(VAE_NMF, name="nmf", source="nmf", options={"n_bases": NMF_BASES})
    found = {
        "unprocessed": unprocessed,
        "noisereduce, stationary": spectral_gating(True),
        "noisereduce, non-stationary": spectral_gating(False),
        "start of ours alone": noise_floor(STFT(**window)),
        "NMF without the prior": separator(Separator(nmf, 1, n_iter=10, seed=seed, **window)),
    }
    for name, row in INFERENCES.items():
        default = DEFAULT if name == DEFAULT_INFERENCE else ""
        own = speech if row.source == VAE_NMF.source else None
        found[f"{row.name}, {name}{default}"] = separator(Enhancer(name, own, seed=seed))
    return found


def score(item: Noisy, enhance: Enhance) -> dict[str, Any]:
    """Scores of one recording at the first microphone."""
    began = time.perf_counter()
    speech = enhance(item.noisy)
    seconds = time.perf_counter() - began
    scores = evaluate(item.clean[None], speech[None], SAMPLE_RATE, metrics=list(METRICS))
    return {
        **{name: float(values[0]) for name, values in scores.values.items()},
        "gain": float(scores.values["si_sdr"][0] - si_sdr(item.clean, item.noisy[0])),
        "rtf": seconds * SAMPLE_RATE / len(item.clean),
        "kind": item.kind,
        "snr_db": item.snr_db,
        "held_out": item.held_out,
    }


def run(items: Iterable[Noisy], entries: Mapping[str, Enhance]) -> list[dict[str, Any]]:
    """Scores of every entry on every recording."""
    return [
        {"entry": name, **score(item, enhance)}
        for item in items
        for name, enhance in entries.items()
    ]


def tables(rows: Sequence[dict[str, Any]]) -> str:
    """A table per SNR, and one of the held-out kind of noise at all of them."""
    parts = [_table(f"{snr:g} dB", [r for r in rows if r["snr_db"] == snr]) for snr in SNRS_DB]
    held_out = [row for row in rows if row["held_out"]]
    if held_out:
        parts.append(_table(f"Held-out noise: {held_out[0]['kind']}, all SNRs", held_out))
    parts.append(_table("All", rows))
    return "\n".join(parts)


def _table(title: str, rows: Sequence[dict[str, Any]]) -> str:
    entries = dict.fromkeys(row["entry"] for row in rows)
    lines = [_line(name, [row for row in rows if row["entry"] == name]) for name in entries]
    count = len(rows) // max(1, len(entries))
    return f"### {title} ({count} recordings)\n\n{markdown(HEADER, lines)}"


def _line(name: str, rows: Sequence[dict[str, Any]]) -> list[str]:
    gain = summarise([[row["gain"]] for row in rows])
    cells = [f"{summarise([[row[metric]] for row in rows]).mean:.2f}" for metric in METRICS]
    return [name, str(gain), *cells, f"{np.mean([row['rtf'] for row in rows]):.2f}"]


def differences(rows: Sequence[dict[str, Any]]) -> str:
    """How far the default is above every other entry, recording by recording; as :func:`tables`."""
    held_out = [row for row in rows if row["held_out"]]
    parts = [_differences("All", rows)]
    if held_out:
        parts.append(_differences(f"Held-out noise: {held_out[0]['kind']}", held_out))
    return "\n".join(parts)


def _differences(title: str, rows: Sequence[dict[str, Any]]) -> str:
    entries = dict.fromkeys(row["entry"] for row in rows)
    ours = next(name for name in entries if name.endswith(DEFAULT))
    lines = [[name, *_above(rows, ours, name)] for name in entries if name != ours]
    return f"### {title}: {ours} over the others\n\n{markdown(['', *METRICS.values()], lines)}"


def _above(rows: Sequence[dict[str, Any]], ours: str, other: str) -> list[str]:
    """Mean difference of two entries in each metric, with its interval."""
    first, second = ([row for row in rows if row["entry"] == name] for name in (ours, other))
    pairs = list(zip(first, second, strict=True))
    return [str(summarise([[a[name] - b[name]] for a, b in pairs])) for name in METRICS]


def page(facts: Mapping[str, Any], rows: Sequence[dict[str, Any]], seconds: float) -> str:
    """The page with all tables."""
    return (
        f"# Speech enhancement, {facts['channels']} microphone(s)\n\n"
        f"Means over recordings of {seconds:g} s. SI-SDR in dB, its gain over the unprocessed "
        f"recording with the 95 % interval; PESQ wide band; RTF is time over duration with "
        f"{facts['threads']} thread(s). Noise: the {facts['part']} half of every recording; "
        f"'{facts['held_out']}' was kept from all tuning, but the network of `denoise` was trained "
        f"with excerpts of the same recording. Prior `{facts['prior']}`, seed "
        f"{facts['seed']}.\n{describe(facts)}\n\n{tables(rows)}\n{differences(rows)}"
    )


def main(
    speech: Annotated[Path, typer.Option(help="folder of clean speech")],
    noise: Annotated[Path, typer.Option(help="folder of noise, one recording per kind")],
    output: Annotated[Path, typer.Option("--output", "-o", help="tables to write (.md)")],
    prior: Annotated[str, typer.Option(help="name or folder of a speech prior")] = DEFAULT_PRIOR,
    channels: Annotated[int, typer.Option(help="microphones")] = 1,
    part: Annotated[str, typer.Option(help="tune or test: which half of the noises")] = "test",
    held_out: Annotated[str, typer.Option(help="kind of noise kept from tuning")] = HELD_OUT,
    seconds: Annotated[float, typer.Option(help="length of a recording")] = 5.0,
    rounds: Annotated[int, typer.Option(help="recordings of each kind at each SNR")] = 1,
    held_out_rounds: Annotated[int, typer.Option(help="the same, of the kind kept")] = 4,
    seed: int = 0,
    threads: int = 1,
) -> None:
    """Compare the inferences of fca.enhance with doing nothing, spectral gating and plain NMF."""
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    recipe = Recipe(speech, noise, channels, part, seconds, rounds, held_out_rounds, seed, held_out)
    rows = run(recipe, competitors(prior, seed))
    facts = surroundings()
    facts["versions"] |= {name: version(name) for name in ("noisereduce", "pesq", "pystoi")}
    facts |= {
        "seed": seed,
        "threads": threads,
        "channels": channels,
        "prior": prior,
        "part": part,
        "held_out": held_out,
    }
    text = page(facts, rows, seconds)
    write_text(output, text)
    write_json(output.with_suffix(".json"), {"surroundings": facts, "rows": rows})
    typer.echo(text)


if __name__ == "__main__":
    program.run(main)
