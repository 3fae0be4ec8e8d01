"""Put the speech prior on the Hugging Face hub, and get it from there."""

from __future__ import annotations

import sys

from fca.prior import SpeechPrior


def main(repository: str) -> SpeechPrior:
    print(SpeechPrior.from_pretrained("speech-prior").push_to_hub(repository))
    return SpeechPrior.from_pretrained(repository)


if __name__ == "__main__":
    main(*sys.argv[1:])
