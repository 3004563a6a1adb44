"""Whether a board's server is there, after a session with it was lost: a crashed candidate ends the session only."""

from __future__ import annotations

import socket
import struct

from tvm.rpc import base

from tvm_conv3dt.compiler.fleet.tracker import Address

__all__ = ["listens"]

_SECONDS = 1.0
# Nobody is granted this key: a server refuses it, and goes on.
_KEY = b"client:nobody"


def listens(board: Address) -> bool:
    """Return whether something takes connections at a board's address; it may be busy."""
    try:
        connection = socket.create_connection((board.host, board.port), _SECONDS)
    except OSError:
        return False
    with connection:
        try:
            connection.settimeout(_SECONDS)
            connection.sendall(struct.pack("<ii", base.RPC_MAGIC, len(_KEY)) + _KEY)
            # A server that is left while it answers takes that for the loss of its tracker.
            connection.recv(4)
        except TimeoutError:
            return True
        except OSError:
            return False
    return True
