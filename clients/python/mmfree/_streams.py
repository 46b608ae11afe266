# SPDX-License-Identifier: Apache-2.0
"""ttrpc's frames and the calls of one connection, without input or output. docs/protocol.md describes the wire."""

from __future__ import annotations

import struct
from collections import deque

from . import _messages
from .errors import Aborted, ConnectionLost, MMFreeError, ProtocolError, ResourceExhausted, copied, from_status

HEADER = struct.Struct(">IIBB")  # length, stream, type, flags
REQUEST, RESPONSE, DATA = 1, 2, 3
REMOTE_CLOSED, NO_DATA = 1, 4
FRAME_LIMIT = 4 << 20
# Bytes of one call's messages that may wait for their consumer while others read the connection.
BACKLOG_LIMIT = 8 << 20
# Seconds of silence after which a daemon that owes an answer is asked for its health; and those after that question with
# which it is given up.
SILENCE, PATIENCE = 10.0, 20.0


class Call:
    """One call: its messages in order, then one end."""

    def __init__(self, stream: int, streaming: bool) -> None:
        self.stream = stream
        self.streaming = streaming
        self.messages: deque[bytes] = deque()
        self.backlog = 0
        # A unary call's answer; b"" for a stream; or why there is none.
        self.end: bytes | MMFreeError | None = None

    @property
    def ready(self) -> bool:
        return bool(self.messages) or self.end is not None

    def take(self) -> bytes | None:
        """A stream's next message, None at its end. Only when ready."""
        if self.messages:
            message = self.messages.popleft()
            self.backlog -= len(message) + 64
            return message
        if isinstance(self.end, MMFreeError):
            raise self.end
        return None

    def answer(self) -> bytes:
        """A unary call's. Only when ready."""
        if isinstance(self.end, bytes):
            return self.end
        raise self.end or ProtocolError("no answer")


class Streams:
    """Numbers calls, frames requests, and sorts what comes. `outbox` holds frames that wait to be written, in order."""

    def __init__(self) -> None:
        self.calls: dict[int, Call] = {}
        self.outbox: deque[bytes] = deque()
        self._next = 1
        self._received = bytearray()
        self._heard = 0.0
        self._asked: float | None = None

    # Calls

    def open(self, service: str, method: str, payload: bytes, *, streaming: bool, timeout: float | None) -> Call:
        """timeout: seconds; None leaves it to the daemon. Raises ResourceExhausted if the request fits no frame."""
        nanoseconds = 0 if timeout is None else min(int(timeout * 1e9), (1 << 63) - 1)
        request = _messages.message_class("ttrpc.Request")
        data = request(service=service, method=method, payload=payload, timeout_nano=nanoseconds).SerializeToString()
        if len(data) > FRAME_LIMIT:
            raise ResourceExhausted(
                f"a request of {len(data)} bytes; the limit is {FRAME_LIMIT}", reason="FRAME_TOO_LARGE"
            )
        call = Call(self._new_stream(), streaming)
        self.calls[call.stream] = call
        self._send(call.stream, REQUEST, REMOTE_CLOSED if streaming else 0, data)
        return call

    def _new_stream(self) -> int:
        stream = self._next
        if stream >= 1 << 32:
            raise ConnectionLost("all stream numbers of the connection are used")
        self._next += 2
        return stream

    def _send(self, stream: int, kind: int, flags: int, data: bytes = b"") -> None:
        self.outbox.append(HEADER.pack(len(data), stream, kind, flags) + data)

    def cancel(self, call: Call, why: MMFreeError) -> None:
        """Ends a call that is under way, and tells the daemon. Needs no lock: every step is one operation of a container."""
        if self.calls.pop(call.stream, None) is not None:
            call.end = why
            call.messages.clear()
            self._send(call.stream, DATA, REMOTE_CLOSED | NO_DATA)

    def fail(self, error: MMFreeError) -> None:
        """The connection is over. What came before can still be taken."""
        for call in list(self.calls.values()):
            call.end = copied(error)
        self.calls.clear()

    # What comes

    def receive(self, data: bytes) -> list[Call]:
        """Returns the calls that have something new. Raises ProtocolError when frames can no longer be told apart."""
        self._received += data
        changed, at = [], 0
        with memoryview(self._received) as view:
            while len(view) - at >= HEADER.size:
                length, stream, kind, flags = HEADER.unpack_from(view, at)
                if length > FRAME_LIMIT or kind not in (RESPONSE, DATA):
                    raise ProtocolError(f"a frame of type {kind} and {length} bytes")
                end = at + HEADER.size + length
                if len(view) < end:
                    break
                call = self.calls.get(stream)
                if call is not None:
                    self._frame(call, kind, flags, bytes(view[at + HEADER.size : end]))
                    changed.append(call)
                at = end
        del self._received[:at]
        return changed

    def _frame(self, call: Call, kind: int, flags: int, data: bytes) -> None:
        if kind == RESPONSE:
            self._end(call, _answer(data))
            return
        if call.streaming and not flags & NO_DATA:
            call.messages.append(data)
            call.backlog += len(data) + 64
        if flags & REMOTE_CLOSED:
            self._end(call, b"" if call.streaming else ProtocolError("a call that is not a stream ended without an answer"))
        elif call.backlog > BACKLOG_LIMIT:
            self.cancel(call, Aborted(f"{call.backlog} bytes of the answer waited to be read", reason="NOT_READ"))

    def _end(self, call: Call, end: bytes | MMFreeError) -> None:
        if self.calls.pop(call.stream, None) is not None:
            call.end = end

    # Liveness

    def hear(self, now: float) -> None:
        self._heard, self._asked = now, None

    def wait_time(self, now: float) -> float:
        """Seconds to wait for bytes. Asks the daemon for its health; raises ConnectionLost if it says nothing."""
        if self._asked is None and now >= self._heard + SILENCE:
            self._asked = now
            request = _messages.message_class("ttrpc.Request")(
                service="grpc.health.v1.Health", method="Check", timeout_nano=int(PATIENCE * 1e9)
            )
            self._send(self._new_stream(), REQUEST, 0, request.SerializeToString())
        end = self._heard + SILENCE if self._asked is None else self._asked + PATIENCE
        if now >= end:
            raise ConnectionLost(f"nothing came from the daemon for {SILENCE + PATIENCE:.0f} s: it is stopped or hangs")
        return end - now


def _answer(data: bytes) -> bytes | MMFreeError:
    try:
        response = _messages.parse("ttrpc.Response", data)
        if response.status.code == 0:
            payload: bytes = response.payload
            return payload
        return from_status(response.status)
    except _messages.DecodeError as error:
        return ProtocolError(f"a response that cannot be decoded: {error}")
