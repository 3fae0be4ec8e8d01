"""Processing of recordings on a Ray cluster (the extra ``ray``).

Ray Data hands the recordings out one by one, and again if a worker dies. Results appear under their
names only when they are complete, and recordings that have theirs are skipped, so that nothing is
lost and nothing is done twice.
"""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from fca.cli.report import reason
from fca.errors import InputError
from fca.extras import require

if TYPE_CHECKING:
    from fca.cli.inputs import Recording

Record = dict[str, Any]
LOCAL = "local"
_log = logging.getLogger(__name__)


def work_through(
    address: str, recordings: Sequence[Recording], work: Callable[[Recording], Record]
) -> Iterator[tuple[Recording, Callable[[], Record]]]:
    """Process every recording somewhere in a cluster.

    Parameters
    ----------
    address : str
        Address of the cluster, as ``ray start --head`` prints it; "auto" finds the one on this
        machine, and "local" starts one in this process.
    recordings : sequence of Recording
        All machines must see their files and those that are written.
    work : callable
        Processes a recording and returns its record.

    Yields
    ------
    Recording, and a callable that gives its record, or raises what went wrong
        One by one, as they are finished.

    Raises
    ------
    InputError
        If ray is not installed, or there is no cluster at the address.
    """
    ray = _connect(address)
    try:
        items = [{"index": index} for index in range(len(recordings))]
        dataset = ray.data.from_items(items, override_num_blocks=len(items))
        outcomes = dataset.map(_task(recordings, work), num_cpus=1)
        for row in outcomes.iter_rows():
            yield recordings[row["index"]], partial(_outcome, row)
    finally:
        ray.shutdown()


def _task(
    recordings: Sequence[Recording], work: Callable[[Recording], Record]
) -> Callable[[Record], Record]:
    """A worker's task for one row; failures come back as text, so that Ray does not repeat them."""

    def run(row: Record) -> Record:
        try:
            record = work(recordings[int(row["index"])])
            outcome = json.dumps(record)
        except Exception as error:
            problem = {"problem": reason(error), "traceback": traceback.format_exc()}
            return {"index": row["index"], "outcome": "{}", **problem}
        return {"index": row["index"], "outcome": outcome, "problem": "", "traceback": ""}

    return run


def _outcome(row: Record) -> Record:
    if row["problem"]:
        _log.debug("in a worker:\n%s", row["traceback"])
        raise InputError(row["problem"])
    record: Record = json.loads(row["outcome"])
    return record


def _connect(address: str) -> Any:
    require("ray.data", "ray", "--ray needs")
    import ray

    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address == LOCAL:
        options["include_dashboard"] = False
    try:
        ray.init(address=address, **options)
    except (ConnectionError, ValueError) as error:
        raise InputError(f"no Ray cluster at {address!r}: {error}") from None
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    return ray
