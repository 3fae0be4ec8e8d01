"""lhotse: cuts in, a cut per talker out. Needs lhotse (the extra ``lhotse``)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fca.adapters.talkers import write_talkers
from fca.errors import InputError
from fca.extras import require
from fca.files import leads_out
from fca.separator import Separator

if TYPE_CHECKING:
    from lhotse import CutSet
    from lhotse.cut import Cut


def separate_cuts(cuts: Iterable[Cut], folder: str | Path, separator: Separator) -> CutSet:
    """Separate multichannel cuts.

    Parameters
    ----------
    cuts : iterable of Cut
        Cuts, each of which is loaded and separated on its own.
    folder : path
        Folder for ``ID-spkN.wav`` of every cut and talker; cuts whose files are there are skipped.
    separator : Separator
        Separator for the number of talkers.

    Returns
    -------
    CutSet
        Lazy: a single-channel cut ``ID-spkN`` per cut and talker, in order, separated as they are
        requested. ``custom["source"]`` is the id of the original cut.

    Raises
    ------
    InputError
        If lhotse is not installed; and, during iteration, if a cut cannot be separated, or files
        named by its id would leave the folder.
    """
    lhotse = require("lhotse", "lhotse", "cuts need")
    Path(folder).mkdir(parents=True, exist_ok=True)
    return lhotse.CutSet(_Separated(cuts, Path(folder), separator))


class _Separated:
    """Iterates over the separated cuts, any number of times."""

    def __init__(self, cuts: Iterable[Cut], folder: Path, separator: Separator) -> None:
        self._cuts, self._folder, self._separator = cuts, folder, separator

    def __iter__(self) -> Iterator[Cut]:
        for cut in self._cuts:
            yield from _separate(cut, self._folder, self._separator)


def _separate(cut: Any, folder: Path, separator: Separator) -> Iterator[Cut]:
    from lhotse import Recording

    if leads_out(cut.id):
        raise InputError(f"cut {cut.id!r} cannot name files")
    files = [folder / f"{cut.id}-spk{n + 1}.wav" for n in range(separator.n_sources)]
    write_talkers(files, lambda: separator(cut.load_audio(), cut.sampling_rate))
    for file in files:
        talker: Any = Recording.from_file(file, recording_id=file.stem).to_cut()
        talker.id = file.stem
        talker.custom = {"source": cut.id}
        yield talker
