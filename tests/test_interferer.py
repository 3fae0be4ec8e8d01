"""A sound from one place that is no talker: found, given a source of its own, and left out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from toy import complex_normal, item_improvement, random_psd, seeded

import fca
from fca import audio
from fca.errors import InputError
from fca.inference import grouping
from fca.inference.grouping import grouped
from fca.inference.interferer import above_one_spectrum, crowded, with_interferer
from fca.inference.start import LEAKAGE, Start, joined, taken
from fca.methods import get_method
from fca.simulate.sets import Condition, Corpora, build
from fca.simulate.stored import Item
from fca.source import Gauss
from fca.spatial import Rank1
from fca.spatial.base import FLOOR

F, T = 40, 200
SPEECH = Path(__file__).parent / "data"


class Listener(Gauss):
    """Knows whatever stays as it is for ten frames, at its level."""

    judges = True

    def surprise(self, power: Tensor) -> Tensor:
        level = power / power.mean((1, 3), keepdim=True)
        return 1 + level.unflatten(-1, (-1, 10)).mean(-1).clamp_min(1e-5).log().mean((1, 3))


def courses() -> Tensor:
    """Powers (F, 4, T): two talkers, what goes along with the first, and a machine that swells."""
    rng = seeded(0)
    talking = torch.rand(1, 2, T // 10, generator=rng) > 0.5
    sounds = torch.where(talking, random_psd((F, 2, T // 10), rng).square(), 0.01)
    talkers = sounds.repeat_interleave(10, 2)
    swelling = 10 ** torch.linspace(0, 3, T).sin()
    machine = random_psd((F, 1, 1), rng).sqrt() * swelling
    return torch.cat([talkers, 0.5 * talkers[:, :1] + 0.01, machine], dim=1).double()


def outputs(rows: list[int], level: float = 1.0) -> tuple[Rank1, Tensor]:
    """Rank-1 model of outputs with some of the courses, the machine at a level; and their PSDs."""
    powers = courses()
    powers[:, 3] *= level
    psd = powers[None, :, rows]
    sources = psd.sqrt() * complex_normal(psd.shape, seeded(1), torch.float64)
    count = len(rows)
    mixing = torch.linalg.qr(complex_normal((1, F, count, count), seeded(2), torch.float64)).Q
    return Rank1(mixing @ sources, mixing.mH, count), psd


def found(rows: list[int], n_sources: int, source: Gauss, level: float = 1.0) -> list[int] | None:
    """Courses of the sources and of the interferer, if there is one."""
    spatial, psd = outputs(rows, level)
    order = torch.arange(len(rows))[None]
    placed, there = with_interferer(spatial, order, psd, n_sources, source)
    assert sorted(placed[0].tolist()) == list(range(len(rows)))
    if not there:
        assert torch.equal(placed, order)
        return None
    return [rows[k] for k in placed[0, : n_sources + 1].tolist()]


def test_a_machine_is_an_interferer_whatever_its_place() -> None:
    assert found([0, 1, 2, 3], 2, Listener()) == [0, 1, 3]
    assert found([3, 0, 2, 1], 2, Listener()) in ([0, 1, 3], [1, 0, 3])


def test_one_talker_is_told_from_a_louder_machine() -> None:
    talkers = found([3, 0, 2], 1, Listener(), level=4.0)
    assert talkers is not None and talkers[0] in (0, 2) and talkers[1] == 3


def test_what_goes_with_a_talker_or_is_one_is_no_interferer() -> None:
    assert found([0, 1, 2], 2, Listener()) is None
    assert found([0, 1, 2], 1, Listener()) is None  # the second talker talks


def test_a_faint_sound_is_no_interferer() -> None:
    assert found([0, 1, 2, 3], 2, Listener(), level=0.02) is None


def test_without_a_judge_or_a_spare_output_there_is_none() -> None:
    assert found([0, 1, 2, 3], 2, Gauss()) is None
    assert found([0, 1, 3], 3, Listener()) is None


def test_all_frames_decide_what_a_machine_is() -> None:
    """Every fifth frame would not show what stays as it is for ten."""
    whole, psd = outputs([0, 1, 2, 3])
    some = Rank1(whole.mixture[..., ::5], whole.demixing, 4)
    few, order = psd[..., ::5], torch.arange(4)[None]
    placed, there = with_interferer(some, order, few, 2, Listener(), whole)
    assert there and placed[0].tolist() == [0, 1, 3, 2]
    assert not torch.equal(with_interferer(some, order, few, 2, Listener())[0], placed)


def test_it_is_crowded_where_a_spare_output_is_a_sound_of_its_own() -> None:
    assert crowded(outputs([0, 1, 2, 3])[1], 2).tolist() == [True]
    assert crowded(outputs([0, 1, 2])[1], 2).tolist() == [False]
    assert crowded(outputs([0, 1, 3])[1], 3).tolist() == [False]


def test_excess_is_that_over_a_single_spectrum() -> None:
    """Whatever the level; a machine has a single one, even if it swells and fades."""
    _, psd = outputs([0, 3])
    talker, machine = above_one_spectrum(7 * psd, Listener())[0].tolist()
    torch.testing.assert_close(above_one_spectrum(psd, Listener())[0].tolist(), [talker, machine])
    assert talker < -0.5 and abs(machine) < 0.05


class Quiet(Gauss):
    """Takes what is quietest for speech."""

    judges = True

    def surprise(self, power: Tensor) -> Tensor:
        return power.mean((1, 3)).log()


def test_an_interferer_keeps_its_place_among_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where talkers without their first output would be liked better."""
    monkeypatch.setattr(grouping, "_likely", lambda costs: (torch.arange(len(costs)), 0 * costs))
    spatial, psd = outputs([0, 3, 2], level=0.5)
    machine = taken(spatial, torch.arange(3)[None], 3).at_microphones().power[:, :, 1]
    for accompanied in (False, True):
        start = grouped(
            spatial, torch.arange(3)[None], psd, 2, Quiet(), accompanied=accompanied
        ).at_microphones()
        assert torch.equal(start.power[:, :, 1], machine) == accompanied


def start() -> Start:
    spatial, _ = outputs([0, 1, 2])
    return taken(spatial, torch.arange(3)[None], 2)


def test_a_silent_source_changes_nothing_else() -> None:
    before = start()
    after = before.with_silent()
    assert after.power.shape == (1, F, 3, T)
    assert after.interfered is not None and not after.interfered.any()
    expected = before.at_microphones()
    torch.testing.assert_close(after.demixing, expected.demixing)
    torch.testing.assert_close(after.power[:, :, :2], expected.power)
    torch.testing.assert_close(after.gains(shared=True)[:, :, :2], before.gains(shared=True))
    assert bool((after.power[:, :, 2] == FLOOR).all())
    assert bool((after.gains(shared=True)[:, :, 2] == LEAKAGE).all())


def test_starts_with_and_without_an_interferer_join() -> None:
    spatial, psd = outputs([0, 1, 3])
    wide = grouped(spatial, torch.arange(3)[None], psd, 3, Listener())
    wide = Start(wide.demixing, wide.power, None, wide.doubt, torch.tensor([True]))
    both = joined([start(), wide])
    assert both.power.shape == (2, F, 3, T)
    assert both.interfered is not None and both.interfered.tolist() == [False, True]
    assert both.doubt is None  # nobody judged the first
    torch.testing.assert_close(both.power[1:], wide.at_microphones().power)


def test_other_starts_show_no_interferers() -> None:
    with pytest.raises(InputError, match="interferers does nothing without start=rank-1"):
        get_method("fastmnmf2").with_options(interferers=True)


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> list[Item]:
    """Two talkers with a machine in another place, as loud as the first, and two without.

    Drawn with a seed, one of every two or so, with which the machine is found in four seconds.
    """
    folder = tmp_path_factory.mktemp("interferers")
    (folder / "noise").mkdir()
    rng = np.random.default_rng(0)
    strokes = np.repeat(rng.uniform(0.2, 1.0, 60), 2000)
    audio.write(
        folder / "noise/machine.wav", 0.1 * strokes * rng.standard_normal(len(strokes)), 16000
    )
    common = {"talkers": 2, "mics": 4, "rt60": (0.15, 0.2), "seconds": (4, 4)}
    kinds = {
        "beside": Condition(count=1, interferer_db=(0, 0), **common),  # type: ignore[arg-type]
        "alone": Condition(count=1, **common),  # type: ignore[arg-type]
    }
    return build(kinds, Corpora(SPEECH, folder / "noise"), folder / "set", seed=2)


def test_the_simulated_interferer_is_noise_at_its_level(items: list[Item]) -> None:
    beside, alone = items
    assert beside.row["interferer"] == "machine.wav" and beside.n_talkers == 2
    assert "interferer" not in alone.row
    images = beside.read("images")
    noise = beside.read("mixture") - images.sum(0)
    level = 10 * np.log10(np.mean(noise**2) / np.mean(images[0] ** 2))
    assert level == pytest.approx(0.0, abs=0.1)  # that of the diffuse noise is -30 dB
    with pytest.raises(InputError, match="stand still"):
        Condition(count=1, interferer_db=(0, 0), speed=10)


def test_a_silent_interferer_is_refused(tmp_path: Path) -> None:
    (tmp_path / "noise").mkdir()
    audio.write(tmp_path / "noise/nothing.wav", np.zeros(16000), 16000)
    kind = Condition(count=1, mics=2, seconds=(1, 1), snr_db=None, interferer_db=(0, 0))
    with pytest.raises(InputError, match="the interferer is silent"):
        build({"silent": kind}, Corpora(SPEECH, tmp_path / "noise"), tmp_path / "set")


def improvement(item: Item, **options: object) -> float:
    return item_improvement(item, fca.Separator("deep-fca-fast", n_refine=2, **options))  # type: ignore[arg-type]


def test_a_talker_is_separated_from_an_interferer(items: list[Item]) -> None:
    beside, alone = items
    # Without a source of its own, the noise is left in the talker.
    assert improvement(beside) > 1 + improvement(beside, interferers=False)
    assert improvement(alone) == improvement(alone, interferers=False)


@pytest.mark.parametrize("name", ["deep-fca", "deep-fca-fast"])
def test_a_recording_without_is_not_changed_by_one_with_an_interferer(
    items: list[Item], name: str
) -> None:
    mixtures = torch.stack([torch.from_numpy(item.read("mixture")) for item in items])
    # in single precision, rounding alone changes a recording by up to 0.002 on some machines
    separate = fca.Separator(name, n_refine=4, dtype=torch.float64)
    together = separate(mixtures, 16000)
    alone = torch.stack([separate(mixture, 16000).sources for mixture in mixtures])
    error = (together.sources - alone).square().mean((1, 2)) / alone.square().mean((1, 2))
    assert together.model.interfered.tolist() == [True, False]  # type: ignore[attr-defined]
    assert float(error.max()) < 1e-5
