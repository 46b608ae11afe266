# SPDX-License-Identifier: Apache-2.0
"""A connection for threads. It has no thread of its own: whoever waits for an answer reads, for itself and for the others."""

from __future__ import annotations

import errno
import os
import select
import socket
import threading
import time

from . import _address
from ._streams import SILENCE, PATIENCE, Call, Streams
from .errors import Cancelled, ConnectionLost, DeadlineExceeded, MMFreeError, ProtocolError, copied

READ_SIZE = 64 << 10
# Seconds that a call is waited for beyond the deadline that the daemon was given.
GRACE = 5.0


def connect(path: str | None) -> Connection:
    """Connects to the first socket that answers. Raises ConnectionFailed, PermissionDenied or ResourceExhausted."""
    problems: list[MMFreeError] = []
    for place in _address.candidates(path):
        try:
            return Connection(dial(place, socket.SOCK_STREAM))
        except OSError as error:
            problems.append(_address.failure(place, error))
    raise _address.choose(problems)


def dial(place: str, kind: int) -> socket.socket:
    """Raises OSError."""
    for pause in _address.attempts():
        connection = socket.socket(socket.AF_UNIX, kind)
        try:
            connection.setblocking(False)
            connection.connect(place)
            return connection
        except OSError as error:
            connection.close()
            if error.errno != errno.EAGAIN:
                raise
        time.sleep(pause)
    raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))


def ready(connection: socket.socket, events: int, seconds: float) -> bool:
    """Raises OSError, also for a socket that another thread has closed."""
    poll = select.poll()
    try:
        poll.register(connection, events)
    except ValueError:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF)) from None
    return bool(poll.poll(max(0.0, seconds) * 1000))


class Connection:
    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._streams = Streams()
        # Guards the streams' order and `_reading`; notified when somebody read.
        self._changed = threading.Condition(threading.Lock())
        self._reading = False
        self._writing = threading.Lock()
        self._failure: MMFreeError | None = None
        self._used = False
        # Set when the daemon stops: another one will listen.
        self.retired = False
        self.pid = os.getpid()

    @property
    def usable(self) -> bool:
        """Whether a call can be begun. On an idle connection the daemon may have hung up meanwhile."""
        if self.pid != os.getpid():
            return False
        with self._changed:
            if self._used and not self._reading and not self._streams.calls:
                try:
                    while data := self._socket.recv(READ_SIZE):
                        self._streams.receive(data)
                    self._fail(ConnectionLost("the daemon closed the connection"))
                except BlockingIOError:
                    pass
                except (OSError, ProtocolError) as error:
                    self._fail(ConnectionLost(f"the connection broke: {error}"))
            return self._failure is None and not self.retired

    @property
    def idle(self) -> bool:
        """Whether nobody of this process waits for an answer."""
        return self.pid != os.getpid() or not self._streams.calls

    def start(self, service: str, method: str, payload: bytes, *, streaming: bool, timeout: float | None) -> Call:
        with self._changed:
            if self._failure is not None:
                raise copied(self._failure)
            call = self._streams.open(service, method, payload, streaming=streaming, timeout=timeout)
            self._used = True
        self._flush()
        return call

    def wait(self, call: Call, deadline: float | None) -> None:
        """Returns when the call has a message or has ended. deadline: of time.monotonic()."""
        if self.pid != os.getpid():
            raise ConnectionLost("the connection belongs to the process that forked this one")
        try:
            with self._changed:
                while not call.ready:
                    now = time.monotonic()
                    if deadline is not None and now >= deadline:
                        self._streams.cancel(call, DeadlineExceeded("the daemon did not answer in time"))
                    elif self._reading:
                        self._changed.wait(None if deadline is None else deadline - now)
                    else:
                        self._read(now, deadline)
            self._flush()
        except BaseException:  # KeyboardInterrupt too: nobody wants the answer any more
            self.cancel(call)
            raise

    def _read(self, now: float, deadline: float | None) -> None:
        """Reads once for all calls, with the lock released meanwhile."""
        self._reading = True
        # Silence counts from here: while nobody waited, nobody listened.
        self._streams.hear(now)
        data: bytes | None = None
        failure: MMFreeError | None = None
        self._changed.release()
        try:
            data, failure = self._receive(deadline)
        finally:
            self._changed.acquire()
            self._reading = False
            if data:
                try:
                    self._streams.receive(data)
                except ProtocolError as error:
                    failure = error
            if failure is not None:
                self._fail(failure)
            self._changed.notify_all()

    def _receive(self, deadline: float | None) -> tuple[bytes | None, MMFreeError | None]:
        try:
            while True:
                try:
                    data = self._socket.recv(READ_SIZE)
                    return data, None if data else ConnectionLost("the daemon closed the connection")
                except BlockingIOError:
                    pass
                now = time.monotonic()
                if deadline is not None and now >= deadline:
                    return None, None
                with self._changed:
                    seconds = self._streams.wait_time(now)
                self._flush()
                if deadline is not None:
                    seconds = min(seconds, deadline - now)
                ready(self._socket, select.POLLIN, seconds)
        except OSError as error:
            return None, self._failure or ConnectionLost(f"the connection broke: {error.strerror or error}")
        except ConnectionLost as error:
            return None, error

    def _flush(self) -> None:
        """Writes what waits. One thread writes for all; a frame is never cut."""
        outbox = self._streams.outbox
        while outbox and self.pid == os.getpid() and self._writing.acquire(blocking=False):
            try:
                while outbox:
                    self._write(memoryview(outbox.popleft()))
            except OSError as error:
                self._fail(ConnectionLost(f"the connection broke: {error.strerror or error}"))
            finally:
                self._writing.release()

    def _write(self, frame: memoryview) -> None:
        while frame:
            try:
                frame = frame[self._socket.send(frame, socket.MSG_NOSIGNAL) :]
            except BlockingIOError:
                if not ready(self._socket, select.POLLOUT, SILENCE + PATIENCE):
                    raise TimeoutError(errno.ETIMEDOUT, "the daemon reads nothing") from None

    def cancel(self, call: Call) -> None:
        """Ends a call from this side; no other is touched. May run in a finalizer."""
        self._streams.cancel(call, Cancelled("the call was cancelled"))
        self._flush()

    def close(self) -> None:
        self._fail(Cancelled("the connection was closed"))

    def _fail(self, error: MMFreeError) -> None:
        if self._failure is None:
            self._failure = error
        self._streams.fail(self._failure)
        self._streams.outbox.clear()
        if self.pid == os.getpid():
            try:
                # Wakes whoever waits for it.
                self._socket.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        if not self._reading:
            self._socket.close()
