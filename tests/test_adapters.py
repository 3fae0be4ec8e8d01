"""The separator beside other toolkits: its examples, where their packages are installed."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import RATE, MixtureMaker

import fca
from fca import audio
from fca.adapters.kaldi import read_scp, separate_scp
from fca.adapters.lhotse import separate_cuts
from fca.errors import InputError
from fca.prior import PriorConfig, SpeechPrior

FAST = {"method": "auxiva", "n_iter": 2, "n_fft": 512}


@pytest.fixture
def recording(make_mixture: MixtureMaker) -> np.ndarray:
    return make_mixture(2, 2, seconds=0.5).mixture.astype(np.float32)


@pytest.fixture
def wav(tmp_path: Path, recording: np.ndarray) -> Path:
    audio.write(tmp_path / "talk.wav", recording, RATE)
    return tmp_path / "talk.wav"


@pytest.fixture
def expected(recording: np.ndarray) -> np.ndarray:
    return fca.separate(recording, RATE, **FAST).sources.numpy()


@pytest.fixture
def prior() -> SpeechPrior:
    torch.manual_seed(0)
    config = PriorConfig(n_fft=32, hop=8, latent_dim=3, width=8)
    return SpeechPrior(config).eval().requires_grad_(False)


class TestModule:
    def test_is_the_separator(self, recording: np.ndarray, expected: np.ndarray) -> None:
        layer = fca.SeparatorModule(**FAST)
        assert list(layer.parameters()) == []
        assert "auxiva" in repr(layer)
        np.testing.assert_array_equal(layer(torch.from_numpy(recording)).numpy(), expected)

    def test_recordings_of_other_lengths_are_separated_as_if_alone(
        self, recording: np.ndarray, expected: np.ndarray
    ) -> None:
        short, long = torch.from_numpy(recording), torch.from_numpy(np.tile(recording, 2))
        count = short.shape[1]
        batch = torch.stack([torch.nn.functional.pad(short, (0, count)), long])
        layer = fca.SeparatorModule(**FAST)
        sources = layer(batch, torch.tensor([count, 2 * count]))
        np.testing.assert_array_equal(sources[0, :, :count].numpy(), expected)
        assert not sources[0, :, count:].any()
        torch.testing.assert_close(sources[1], layer(long), rtol=0, atol=0)

    @pytest.mark.parametrize(
        ("lengths", "message"),
        [
            ([8000], "1 lengths need waveforms"),
            ([8000, 0], "lengths must be between 1 and 8000, got"),
            ([8000, 8001], "lengths must be between 1 and 8000, got"),
            ([8000, 100], "the recording is too short"),
        ],
    )
    def test_lengths_that_do_not_fit(
        self, lengths: list[int], message: str, recording: np.ndarray
    ) -> None:
        batch = torch.from_numpy(np.stack([recording, recording]))
        with pytest.raises(InputError, match=message):
            fca.SeparatorModule(**FAST)(batch, lengths)

    def test_gradients_reach_what_comes_before(self, recording: np.ndarray) -> None:
        before = torch.nn.Conv1d(2, 2, 3, padding=1)
        pipeline = torch.nn.Sequential(before, fca.SeparatorModule(**FAST))
        pipeline(torch.from_numpy(recording)[None]).square().sum().backward()
        assert before.weight.grad is not None
        assert bool(torch.isfinite(before.weight.grad).all())
        assert bool(before.weight.grad.abs().sum() > 0)

    def test_works_in_the_precision_of_its_input(self, recording: np.ndarray) -> None:
        waves = torch.from_numpy(recording)
        expected = fca.Separator(**FAST, dtype=torch.float64)(waves.double(), 16000).sources
        found = fca.SeparatorModule(**FAST)(waves.double())
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
        assert fca.SeparatorModule(**FAST)(waves).dtype == torch.float32

    @pytest.mark.parametrize("options", [{"device": "cpu"}, {"dtype": torch.float64}])
    def test_what_its_input_decides_is_refused(self, options: dict) -> None:
        with pytest.raises(InputError, match="cannot be chosen: it is that of the waveforms"):
            fca.SeparatorModule(**FAST, **options)

    def test_a_separator_is_no_method(self) -> None:
        with pytest.raises(InputError, match="takes a method and its options, and no separator"):
            fca.SeparatorModule(fca.Separator(**FAST))

    def test_gradient_is_the_slope(self, recording: np.ndarray) -> None:
        waves = torch.from_numpy(recording).double().requires_grad_()
        layer = fca.SeparatorModule(**FAST)
        weight = torch.randn(2, waves.shape[1], dtype=torch.float64)
        (slope,) = torch.autograd.grad((layer(waves) * weight).sum(), waves)
        step = 1e-5 * slope / slope.norm()  # uphill, where nothing cancels
        with torch.no_grad():
            change = ((layer(waves + step) - layer(waves - step)) * weight).sum() / 2
        torch.testing.assert_close(change, (slope * step).sum(), rtol=1e-4, atol=0)


class TestKaldi:
    def test_a_table_per_talker(self, tmp_path: Path, wav: Path, expected: np.ndarray) -> None:
        from recipes.adapters import espnet

        (tmp_path / "wav.scp").write_text(f"one {wav}\n\ntwo {wav}\n")
        espnet.main(tmp_path / "wav.scp", tmp_path / "out", **FAST)
        for n in (1, 2):
            table = read_scp(tmp_path / "out" / f"spk{n}.scp")
            assert list(table) == ["one", "two"]
            np.testing.assert_allclose(audio.read(table["two"])[0][0], expected[n - 1], atol=1e-6)

    def test_what_is_there_is_not_done_again(self, tmp_path: Path, wav: Path) -> None:
        (tmp_path / "wav.scp").write_text(f"one {wav}\n")
        separator = fca.Separator(**FAST)
        first = separate_scp(tmp_path / "wav.scp", tmp_path / "out", separator)
        wav.unlink()
        assert separate_scp(tmp_path / "wav.scp", tmp_path / "out", separator) == first

    def test_one_that_is_not_there_does_not_stop_the_others(
        self, tmp_path: Path, wav: Path
    ) -> None:
        (tmp_path / "wav.scp").write_text(f"none {tmp_path}/none.wav\none {wav}\n")
        with pytest.raises(InputError, match=r"1 could not be separated, the first: .*none\.wav"):
            separate_scp(tmp_path / "wav.scp", tmp_path / "out", fca.Separator(**FAST))
        assert list(read_scp(tmp_path / "out/spk1.scp")) == ["one"]

    @pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "a/../../evil"])
    def test_names_that_lead_out_of_the_folder(self, tmp_path: Path, wav: Path, name: str) -> None:
        (tmp_path / "wav.scp").write_text(f"one {wav}\n{name} {wav}\n")
        with pytest.raises(InputError, match=f"wav.scp: '{name}' cannot name files"):
            separate_scp(tmp_path / "wav.scp", tmp_path / "out", fca.Separator(**FAST))
        assert not (tmp_path / "out").exists()

    def test_tabs_and_byte_order_marks(self, tmp_path: Path) -> None:
        (tmp_path / "wav.scp").write_text("one\ta b.wav\ntwo \t c.wav \n", encoding="utf-8-sig")
        assert read_scp(tmp_path / "wav.scp") == {"one": "a b.wav", "two": "c.wav"}

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ("one", "'one' has no path"),
            ("one sox x.flac -t wav - |", "commands are not run"),
            ("one a.wav\none b.wav", "line 2: 'one' is there twice"),
        ],
    )
    def test_bad_tables(self, tmp_path: Path, line: str, message: str) -> None:
        (tmp_path / "wav.scp").write_text(line)
        with pytest.raises(InputError, match=message):
            read_scp(tmp_path / "wav.scp")
        with pytest.raises(InputError, match="No such file"):
            read_scp(tmp_path / "none.scp")


def test_lhotse_cuts(tmp_path: Path, wav: Path, expected: np.ndarray) -> None:
    lhotse = pytest.importorskip("lhotse")
    from recipes.adapters import cuts

    cut = lhotse.Recording.from_file(wav).to_cut()
    lhotse.CutSet.from_cuts([cut]).to_file(tmp_path / "in.jsonl")
    cuts.main(tmp_path / "in.jsonl", tmp_path / "out", **FAST)
    talkers = list(lhotse.CutSet.from_file(tmp_path / "out" / "cuts.jsonl.gz"))
    assert [talker.id for talker in talkers] == [f"{cut.id}-spk1", f"{cut.id}-spk2"]
    assert all(talker.custom == {"source": cut.id} for talker in talkers)
    for talker, source in zip(talkers, expected, strict=True):
        np.testing.assert_allclose(talker.load_audio()[0], source, atol=1e-6)
    cut.id = "../evil"
    with pytest.raises(InputError, match=r"cut '\.\./evil' cannot name files"):
        list(separate_cuts([cut], tmp_path / "out", fca.Separator(**FAST)))


def test_torchaudio_transforms(wav: Path) -> None:
    try:
        import torchaudio  # noqa: F401
    except (ImportError, OSError) as error:  # OSError: made for another version of torch
        pytest.skip(f"torchaudio cannot be used here: {error}")
    from recipes.adapters import features

    assert features.main(wav, **FAST).shape == (2, 80, 51)


def test_hub_round_trip(
    tmp_path: Path, prior: SpeechPrior, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Uploads go to the folder that the hub's client looks in when it is offline."""
    hub = pytest.importorskip("huggingface_hub")
    snapshots = tmp_path / "models--me--prior" / "snapshots"

    def upload(self: object, *, repo_id: str, folder_path: str) -> str:
        shutil.copytree(folder_path, snapshots / "0")
        (tmp_path / "models--me--prior" / "refs").mkdir()
        (tmp_path / "models--me--prior" / "refs" / "main").write_text("0")
        return repo_id

    monkeypatch.setattr(hub.HfApi, "create_repo", lambda *_, **__: None)
    monkeypatch.setattr(hub.HfApi, "upload_folder", upload)
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", True)
    assert prior.push_to_hub("me/prior") == "me/prior"
    again = SpeechPrior.from_pretrained("me/prior")
    assert again.config == prior.config
    for name, tensor in prior.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor.half().float())
    with pytest.raises(InputError, match="me/other"):
        SpeechPrior.from_pretrained("me/other")


def test_hub_failures_are_one_line(prior: SpeechPrior, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub")

    def refuse(*_: object, **__: object) -> None:
        raise OSError("no\nroute")

    monkeypatch.setattr(hub.HfApi, "create_repo", refuse)
    with pytest.raises(InputError, match="me/prior: no route"):
        prior.push_to_hub("me/prior")


@pytest.mark.filterwarnings("ignore")
def test_onnx_equals_torch(tmp_path: Path, prior: SpeechPrior) -> None:
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    from recipes.adapters import networks

    # Other sizes than those that the networks were traced with; float32 through five layers.
    assert networks.compare(tmp_path, prior, n_frames=77) < 1e-4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["decoder.onnx", "encoder.onnx"]
