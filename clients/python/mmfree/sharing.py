# SPDX-License-Identifier: Apache-2.0
"""A model's own pages, mapped: the descriptor comes from the daemon, through a socket beside the one for calls."""

from __future__ import annotations

import array
import errno
import mmap
import os
import select
import socket
import time
from types import TracebackType

from . import _address, _connection, _messages, types
from .errors import DeadlineExceeded, MMFreeError, ProtocolError, from_status

# The longest answer, and the most descriptors that one datagram can carry.
ANSWER_LIMIT, DESCRIPTOR_LIMIT = 8192, 253


class SharedModel:
    """A packed model file that the daemon serves, mapped read-only: the same memory as the daemon's.

    name, digest, size (bytes), format_version, protection: what the daemon says of it.
    fd: the read-only descriptor. mmap: the mapping; memoryview(shared.mmap) for parts without copies.

    The pages stay when the file is replaced or removed. A file whose protection is PLAIN and that its owner cuts short gives
    its readers SIGBUS; one that is SEALED or VERITY cannot be.
    """

    def __init__(self, response: _messages.Message, fd: int) -> None:
        """Takes over fd."""
        self.fd = -1
        try:
            self.name: str = response.name
            self.digest: str = response.digest
            self.size: int = response.file_bytes
            self.format_version: int = response.format_version
            self.protection = types.Protection(response.protection)
            if not 0 < self.size <= os.fstat(fd).st_size:
                raise ProtocolError(f"model {self.name}: {self.size} bytes are said, the file has {os.fstat(fd).st_size}")
            self.mmap = mmap.mmap(fd, self.size, mmap.MAP_SHARED, mmap.PROT_READ)
        except BaseException:
            os.close(fd)
            raise
        self.fd = fd

    def close(self) -> None:
        """Unmaps and closes. Raises BufferError while a memoryview of the mapping is alive."""
        if self.fd >= 0:
            self.mmap.close()
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> SharedModel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "fd", -1) >= 0:
            os.close(self.fd)

    def __repr__(self) -> str:
        return f"SharedModel({self.name!r}, digest={self.digest!r}, size={self.size}, protection={self.protection.name})"


def share(model: str = "", *, digest: str = "", path: str | None = None, timeout: float = 60.0) -> SharedModel:
    """Asks a daemon for a model, by name or digest; neither: its default model.

    path: the daemon's socket for calls, as Client takes it; the one for descriptors is $MMFREED_SHARE_SOCKET, or share.sock
    beside it. Raises as calls do: NotFound, FailedPrecondition (the model has another digest), PermissionDenied, ...
    """
    request = _messages.message_class("mmfree.v1.ShareRequest")(model=model, digest=digest).SerializeToString()
    problems: list[MMFreeError] = []
    for place in _address.share_candidates(path):
        try:
            connection = _connection.dial(place, socket.SOCK_SEQPACKET)
        except OSError as error:
            problems.append(_address.failure(place, error))
            continue
        with connection:
            return _ask(connection, place, request, time.monotonic() + timeout)
    raise _address.choose(problems)


def _ask(connection: socket.socket, place: str, request: bytes, deadline: float) -> SharedModel:
    try:
        connection.send(request, socket.MSG_NOSIGNAL)
        if not _connection.ready(connection, select.POLLIN, deadline - time.monotonic()):
            raise DeadlineExceeded(f"no answer from {place} in time")
        data, fds, flags = _receive(connection)
    except OSError as error:
        raise _address.failure(place, error) from error
    try:
        if flags & socket.MSG_CTRUNC:
            raise _address.failure(place, OSError(errno.EMFILE, "this process may open no more descriptors"))
        if flags & socket.MSG_TRUNC or len(fds) > 1:
            raise ProtocolError(f"{place}: an answer of more than {ANSWER_LIMIT} bytes or one descriptor")
        if not fds:
            if not data:
                raise _address.failure(place, OSError(errno.ECONNRESET, "the daemon closed the connection"))
            raise from_status(_messages.parse("google.rpc.Status", data))
        response = _messages.parse("mmfree.v1.ShareResponse", data)
        return SharedModel(response, fds.pop())
    except _messages.DecodeError as error:
        raise ProtocolError(f"{place}: an answer that cannot be decoded: {error}") from error
    finally:
        for fd in fds:
            os.close(fd)


def _receive(connection: socket.socket) -> tuple[bytes, list[int], int]:
    """One datagram with all its descriptors, close-on-exec."""
    numbers = array.array("i")
    data, control, flags, _ = connection.recvmsg(
        ANSWER_LIMIT, socket.CMSG_SPACE(DESCRIPTOR_LIMIT * numbers.itemsize), socket.MSG_CMSG_CLOEXEC
    )
    for level, kind, content in control:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            numbers.frombytes(content[: len(content) - len(content) % numbers.itemsize])
    return data, list(numbers), flags
