"""Make the shipped two-talker mixture from measured room responses.

    python -m recipes.demo.make_mixture surrey_room_a.npz \
        male.flac female.flac --azimuths 330 45 --seconds 8 --out recipes/demo/data/two_talkers

writes ``mixture.flac`` and one ``image*.flac`` per talker. Images are rounded to 16 bits before
they are summed, so that they add up to the mixture exactly.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from fca import audio
from fca.simulate import mix

STEP = 2.0**-15
"""One step of 16-bit audio."""


def responses_at(path: Path, azimuths: list[float], rate: int) -> np.ndarray:
    """Responses (talkers, ears, taps) of an archive with `rir`, `azimuth_deg`, `sample_rate`."""
    archive = np.load(path)
    if int(archive["sample_rate"]) != rate:
        raise SystemExit(f"{path}: {archive['sample_rate']} Hz, but the speech has {rate} Hz")
    measured = archive["azimuth_deg"].tolist()
    for azimuth in azimuths:
        if azimuth not in measured:
            raise SystemExit(f"{path}: azimuth {azimuth} was not measured; there are {measured}")
    chosen: np.ndarray = archive["rir"][[measured.index(azimuth) for azimuth in azimuths]]
    return chosen


def utterance(path: Path, seconds: float) -> tuple[np.ndarray, int]:
    """The first `seconds` of a single-channel file."""
    waveform, rate = audio.read(path)
    return waveform[0, : round(seconds * rate)], rate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("responses", type=Path, help="archive with rir, azimuth_deg, sample_rate")
    parser.add_argument("speech", type=Path, nargs="+", help="one file per talker")
    parser.add_argument("--azimuths", type=float, nargs="+", required=True, metavar="DEGREES")
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--out", type=Path, required=True, help="folder for the files")
    args = parser.parse_args()
    utterances, rates = zip(*(utterance(path, args.seconds) for path in args.speech), strict=True)
    responses = responses_at(args.responses, args.azimuths, rates[0])
    made = mix(utterances, responses, np.random.default_rng(0), level_db=(0, 0))
    images = (np.round(made.images / STEP) * STEP).astype(np.float32)
    args.out.mkdir(parents=True, exist_ok=True)
    audio.write(args.out / "mixture.flac", images.sum(axis=0), rates[0])
    for k, image in enumerate(images, start=1):
        audio.write(args.out / f"image{k}.flac", image, rates[0])


if __name__ == "__main__":
    main()
