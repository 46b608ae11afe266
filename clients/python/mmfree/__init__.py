# SPDX-License-Identifier: Apache-2.0
"""Text, vectors and tokens from the models that mmfreed serves on this machine.

    import mmfree

    with mmfree.Client() as client:
        for piece in client.generate("Once upon a time", max_tokens=100):
            print(piece, end="", flush=True)
"""

from typing import TYPE_CHECKING, Any

from ._methods import EmbedOptions, GenerateOptions, Piece
from .client import Client, Generation
from .errors import (
    Aborted, Cancelled, Code, ConnectionFailed, ConnectionLost, DataLoss, DeadlineExceeded, FailedPrecondition, Internal,
    InvalidArgument, MMFreeError, NotFound, PermissionDenied, ProtocolError, ResourceExhausted, Unavailable, Unimplemented,
    Violation,
)  # fmt: skip
from .sharing import SharedModel, share
from .types import FinishReason, Protection

if TYPE_CHECKING:
    from .aio import AsyncClient, AsyncGeneration

__all__ = [
    "Aborted", "AsyncClient", "AsyncGeneration", "Cancelled", "Client", "Code", "ConnectionFailed", "ConnectionLost",
    "DataLoss", "DeadlineExceeded", "EmbedOptions", "FailedPrecondition", "FinishReason", "GenerateOptions", "Generation",
    "Internal", "InvalidArgument", "MMFreeError", "NotFound", "PermissionDenied", "Piece", "Protection", "ProtocolError",
    "ResourceExhausted", "SharedModel", "Unavailable", "Unimplemented", "Violation", "share",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """asyncio takes a third of the import's time: it is imported for those who use it."""
    if name not in ("AsyncClient", "AsyncGeneration"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import aio

    return getattr(aio, name)
