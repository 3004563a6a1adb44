"""What a tracker knows of its boards, as `device --tracker` shows it."""

from __future__ import annotations

from typing import Any

from tvm_conv3dt.cli import output, runner
from tvm_conv3dt.errors import FleetError, describe

__all__ = ["show"]


def show(tracker: tuple[str, int], as_json: bool) -> None:
    """Write the boards of each key, how many are free, and how many wait for one.

    Raises
    ------
    FleetError
        If there is no tracker.
    """
    runner.need_tvm("show")
    from tvm_conv3dt.compiler.fleet.tracker import Address, NoTrackerError, Queue, Tracker

    address = Address(*tracker)
    try:
        connection = Tracker(address)
        summary = connection.summary()
        connection.close()
    except (OSError, NoTrackerError) as error:
        mend = "start it: python -m tvm.exec.rpc_tracker; or see to firewalls"
        rule = f"it does not answer: {error}"
        raise FleetError(describe("ask", "the tracker", str(address), rule, mend)) from error
    keys: list[dict[str, Any]] = []
    for key in sorted({*summary.boards, *summary.queues}):
        boards = sorted(str(each) for each in summary.boards.get(key, ()))
        queue = summary.queues.get(key, Queue(0, 0))
        if boards or queue.waiting:
            busy = max(0, len(boards) - queue.free)
            keys.append(
                {
                    "key": key,
                    "boards": boards,
                    "free": queue.free,
                    "busy": busy,
                    "waiting": queue.waiting,
                }
            )
    if as_json:
        output.write_json({"tracker": str(address), "keys": keys})
    elif not keys:
        output.write_line(f"the tracker at {address} has no boards")
    else:
        columns = ("key", ">boards", ">free", ">busy", ">waiting", "at")
        rows = [
            (
                each["key"],
                len(each["boards"]),
                each["free"],
                each["busy"],
                each["waiting"],
                " ".join(each["boards"]),
            )
            for each in keys
        ]
        output.write_table(columns, rows)
