"""A standard corpus, from the user's folder to a table of scores.

    python -m recipes.corpora recipes/corpora/configs/sms-wsj.yaml data.corpus=DIR output=OUT \
        [stages=index,separate,evaluate] [KEY=VALUE ...]

The stages are prepare, index, prior, encoder, separate and evaluate. What is done is not done again
when the command is repeated; what was stopped goes on. See recipes/corpora/README.md.
"""

from __future__ import annotations

import sys

from recipes import config
from recipes.corpora.recipe import Recipe
from recipes.corpora.stages import run


def main(arguments: list[str]) -> int:
    return config.command(Recipe, run, arguments, __doc__)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
