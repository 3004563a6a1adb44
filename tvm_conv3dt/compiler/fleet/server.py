"""A board's side: TVM's RPC server, which outlives the candidates that crash.

TVM 0.27's own program, ``python -m tvm.exec.rpc_server``, goes on but answers nobody any more when a session's process has
ended with an error: after a candidate that crashed. This one begins anew then, and tells what the board is.
"""

from __future__ import annotations

import logging
import os
import signal
from pathlib import Path

import tvm
import tvm_ffi
from tvm.rpc.server import PopenRPCServerState

from tvm_conv3dt import threads
from tvm_conv3dt.compiler.fleet.board import ABOUT, USE_THREADS, this_board
from tvm_conv3dt.errors import FleetError, describe

__all__ = ["serve"]

_PORTS = 100
"""How many ports, from the first on, are tried."""


def serve(
    tracker: tuple[str, int], key: str, host: str, port: int, address: str | None = None
) -> None:
    """Serve until the process is ended.

    Parameters
    ----------
    tracker : tuple of str and int
        Host and port of the tracker that hands this board out; it may come and go.
    key : str
        What boards of one kind are asked for by.
    host : str
        Address to listen at.
    port : int
        First port to try.
    address : str, optional
        Where others reach this board, if not at the address that the tracker sees.

    Raises
    ------
    FleetError
        If the address is not this machine's, or no port is free.
    """
    # The server's thread does not end at an interruption.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    about = this_board(tvm.__version__).to_json()
    tvm_ffi.register_global_func(ABOUT, lambda: about, override=True)
    tvm_ffi.register_global_func(USE_THREADS, _use_threads, override=True)
    folder = Path.cwd()
    log = logging.getLogger("RPCServer")
    last = min(port + _PORTS, 65536)
    while True:
        try:
            state = PopenRPCServerState(
                host, port, last, tracker_addr=tracker, key=key, custom_addr=address
            )
        except (OSError, ValueError) as error:
            value, mend = f"{host}:{port}", "see to --host and --port"
            raise FleetError(describe("listen", "for sessions", value, str(error), mend)) from error
        state.thread.join()
        state.sock.close()
        os.chdir(folder)  # it was in the session's, which is gone
        log.warning("a session's process ended with an error: beginning anew")


def _use_threads(count: int) -> None:
    tvm.get_global_func("runtime.config_threadpool")(*threads.pool_arguments(count, size=count))
