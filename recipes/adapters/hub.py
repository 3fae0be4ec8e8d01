"""Put the speech prior on the Hugging Face hub, and get it from there."""

from __future__ import annotations

from typing import Annotated

import typer

from fca.prior import SpeechPrior
from recipes import program


def main(
    repository: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="made if it is missing")],
) -> SpeechPrior:
    """Put the speech prior on the Hugging Face hub, and get it from there."""
    print(SpeechPrior.from_pretrained("speech-prior").push_to_hub(repository))
    return SpeechPrior.from_pretrained(repository)


if __name__ == "__main__":
    program.run(main)
