"""Kaldi and ESPnet data folders: ``wav.scp`` in, one ``spkN.scp`` per talker out."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from fca.adapters.talkers import write_talkers
from fca.errors import InputError
from fca.files import leads_out, read_text, write_text
from fca.separator import Separator

AnyPath = str | os.PathLike[str]


def read_scp(path: AnyPath) -> dict[str, str]:
    """Table ``utterance-id path`` of a ``wav.scp``, in its order.

    Raises
    ------
    InputError
        If the file is missing, a line has no path, an id repeats, or an entry is a command.
    """
    table: dict[str, str] = {}
    for number, line in enumerate(read_text(Path(path)).splitlines(), start=1):
        if not line.strip():
            continue
        key, *rest = line.strip().split(maxsplit=1)
        where = f"{path}, line {number}"
        if not rest:
            raise InputError(f"{where}: {key!r} has no path")
        if rest[0].endswith("|"):
            raise InputError(f"{where}: commands are not run, write {key!r} to a file first")
        if key in table:
            raise InputError(f"{where}: {key!r} is there twice")
        table[key] = rest[0]
    return table


def write_scp(path: AnyPath, table: Mapping[str, AnyPath]) -> None:
    """Write ``utterance-id path`` lines; the file appears when it is complete."""
    write_text(Path(path), "".join(f"{key} {os.fspath(value)}\n" for key, value in table.items()))


def separate_scp(wav_scp: AnyPath, folder: AnyPath, separator: Separator) -> list[Path]:
    """Separate every recording of a ``wav.scp``.

    Parameters
    ----------
    wav_scp : path
        Table of multichannel recordings.
    folder : path
        Folder for ``ID-spkN.wav`` of every recording and talker, and ``spkN.scp``, named as in
        ESPnet's enhancement recipes. Recordings whose files are there are skipped.
    separator : Separator
        Separator for the number of talkers.

    Returns
    -------
    list of Path
        ``spk1.scp``, ``spk2.scp``, ...

    Raises
    ------
    InputError
        If the table cannot be used, or files named by its ids would leave the folder; or at the
        end, if some recordings could not be separated. The others are then separated and listed.
    """
    recordings = read_scp(wav_scp)
    outside = [key for key in recordings if leads_out(key)]
    if outside:
        raise InputError(f"{wav_scp}: {outside[0]!r} cannot name files")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tables: list[dict[str, AnyPath]] = [{} for _ in range(separator.n_sources)]
    problems: list[str] = []
    for key, path in recordings.items():
        files = [folder / f"{key}-spk{n + 1}.wav" for n in range(separator.n_sources)]
        try:
            write_talkers(files, partial(separator, path))
        except InputError as error:
            problems.append(str(error))
            continue
        for table, file in zip(tables, files, strict=True):
            table[key] = file.resolve()
    written = [folder / f"spk{n + 1}.scp" for n in range(separator.n_sources)]
    for name, table in zip(written, tables, strict=True):
        write_scp(name, table)
    if problems:
        raise InputError(f"{len(problems)} could not be separated, the first: {problems[0]}")
    return written
