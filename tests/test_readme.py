from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from conftest import MixtureMaker

import fca
from fca.methods import SOURCES

README = Path(__file__).parents[1] / "README.md"


def test_the_source_model_of_the_readme_works(
    make_mixture: MixtureMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SOURCES, "smooth", None)  # what the example adds is taken away again
    (example,) = re.findall(r"```python\n(import torch.*?)```", README.read_text(), re.DOTALL)
    scope: dict[str, object] = {}
    exec(compile(example, "README.md", "exec"), scope)
    mixture = make_mixture(2, 3, seconds=1.0, snr_db=30).mixture
    result = fca.separate(mixture, 16000, method=scope["method"], n_fft=512, n_iter=10)  # type: ignore[arg-type]
    assert result.cost[-1][1] < result.cost[0][1]
    total = result.sources.sum(0) + result.residual
    np.testing.assert_allclose(total.numpy(), mixture[0], atol=1e-6)
