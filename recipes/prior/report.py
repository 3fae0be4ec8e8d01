"""Write RESULTS.md from the figures in `results/`, which the other scripts measured.

python -m recipes.prior.report
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fca.files import write_text
from recipes import program
from recipes.benchmark.ceilings import N_ITER
from recipes.prior.ablate import decibels, table
from recipes.prior.evaluate import N_FULL_RANK

HERE = Path(__file__).parent

INTRODUCTION = """# Results of the speech prior

Measured on 2026-11-24 (the ablation, but for windows of 4096, on 2026-11-23) by the scripts of this
folder with their default seeds, on a CPU. Data: about two hours of read English and Icelandic for
training (`training-files.csv`), speakers that are not among them for everything below.

* **ELBO**: nats per time-frequency bin, powers in units of their mean, without −log π; one draw of
  z. **KL**: nats per frame. **IS**: Itakura-Saito divergence per bin of speech from its
  reconstruction at the posterior mean, both at least 10⁻⁶ of the mean power; exactly Gaussian data
  with their true PSD would give 0.577. *Reverberant*: convolved with simulated responses of rooms
  of 0.15-0.7 s.
* **Ceiling**: SDR improvement (dB, mean over mixtures with its 95 % interval) of the multichannel
  Wiener filter with {n_iter} iterations of the spatial parameters when the PSD of each talker is
  decode(encode(|true image|²)), power averaged over the microphones; beside it with the true
  powers, and with NMF fitted to them. Full-rank filters on the first {few} mixtures of each
  condition. No method can know these powers: this is the best that
  inference with the prior could reach, not a result of separation.
"""


def shipped(figures: dict[str, Any]) -> str:
    """Tables of the prior that ships, from the figures of `evaluate.py`."""
    lines = ["| | ELBO | KL | IS |", "|---|---|---|---|"]
    for kind in ("dry", "reverberant"):
        row = figures[kind]
        lines.append(
            f"| {kind} | {row['elbo_per_bin']:.2f} | {row['kl_per_frame']:.0f} "
            f"| {row['is_per_bin']:.2f} |"
        )
    columns = list(next(iter(figures["conditions"].values())))
    lines += ["", f"| ceiling | mixtures | {' | '.join(columns)} |"]
    lines.append("|---" * (len(columns) + 2) + "|")
    for condition, row in figures["conditions"].items():
        cells = " | ".join(decibels(row[column]) for column in columns)
        lines.append(f"| {condition.replace('_', ' ')} | {row['prior']['count']} | {cells} |")
    return "\n".join(lines) + "\n"


def report(folder: Path) -> str:
    """The page, from `ablation.json`, `test.json` and the remarks in `remarks.txt`."""
    ablation = json.loads((folder / "ablation.json").read_text())
    test = json.loads((folder / "test.json").read_text())
    parts = [
        INTRODUCTION.format(n_iter=N_ITER, few=N_FULL_RANK),
        "## The prior that ships, on test speakers\n",
        shipped(test),
        "## Ablation, on validation speakers\n",
        "Equal, short trainings; each row differs from the reference in one thing.\n",
        table(ablation),
        (folder / "remarks.txt").read_text(),
    ]
    return "\n".join(parts)


def main() -> None:
    """Write RESULTS.md from the figures in results/, which the other scripts measured."""
    write_text(HERE / "RESULTS.md", report(HERE / "results"))


if __name__ == "__main__":
    program.run(main)
