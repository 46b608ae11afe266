# SPDX-License-Identifier: Apache-2.0
"""What goes wrong, as exceptions: a class for each status code, and three for the connection."""

from __future__ import annotations

import enum
from typing import NamedTuple

from . import _messages


class Code(enum.IntEnum):
    """google.rpc.Code."""

    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class Violation(NamedTuple):
    """A field of the request that is wrong, or a quota that is used up."""

    subject: str
    description: str


class MMFreeError(Exception):
    """The base of all that this package raises about a call. Wrong Python types and values raise TypeError and ValueError.

    code: the status code. message: what is wrong. reason: ErrorInfo's, in CAPITALS, or "". retry_after: seconds after which
    the same call may succeed, None if it will not by itself. violations: the fields or quotas that are to blame.
    """

    code = Code.UNKNOWN
    retry_after: float | None = None

    def __init__(
        self,
        message: str,
        *,
        code: Code | None = None,
        reason: str = "",
        retry_after: float | None = None,
        violations: tuple[Violation, ...] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.violations = violations
        if code is not None:
            self.code = code
        if retry_after is not None:
            self.retry_after = retry_after

    def __str__(self) -> str:
        return f"{self.code.name}: {self.message}"


class Cancelled(MMFreeError):
    code = Code.CANCELLED


class InvalidArgument(MMFreeError):
    code = Code.INVALID_ARGUMENT


class DeadlineExceeded(MMFreeError):
    code = Code.DEADLINE_EXCEEDED


class NotFound(MMFreeError):
    code = Code.NOT_FOUND


class PermissionDenied(MMFreeError):
    code = Code.PERMISSION_DENIED


class ResourceExhausted(MMFreeError):
    code = Code.RESOURCE_EXHAUSTED


class FailedPrecondition(MMFreeError):
    code = Code.FAILED_PRECONDITION


class Aborted(MMFreeError):
    code = Code.ABORTED


class Unimplemented(MMFreeError):
    code = Code.UNIMPLEMENTED


class Internal(MMFreeError):
    code = Code.INTERNAL


class Unavailable(MMFreeError):
    code = Code.UNAVAILABLE
    retry_after = 0.1


class DataLoss(MMFreeError):
    code = Code.DATA_LOSS


class ConnectionFailed(Unavailable):
    """Nobody can be reached at the socket."""

    retry_after = 1.0


class ConnectionLost(Unavailable):
    """The connection broke before the answer was complete. The next call connects anew."""


class ProtocolError(Internal):
    """What came is not the protocol. The connection is closed."""


_CLASSES = {
    cls.code: cls
    for cls in (
        Cancelled, InvalidArgument, DeadlineExceeded, NotFound, PermissionDenied, ResourceExhausted, FailedPrecondition,
        Aborted, Unimplemented, Internal, Unavailable, DataLoss,
    )
}  # fmt: skip


def from_status(status: _messages.Message) -> MMFreeError:
    """The exception for a google.rpc.Status. Details that are not understood are passed over."""
    reason, retry_after, violations = "", None, []
    for detail in status.details:
        kind = detail.type_url.rpartition("/")[2]
        if kind == "google.rpc.ErrorInfo":
            reason = _messages.parse(kind, detail.value).reason
        elif kind == "google.rpc.RetryInfo":
            delay = _messages.parse(kind, detail.value).retry_delay
            retry_after = max(0.0, delay.seconds + delay.nanos / 1e9)
        elif kind == "google.rpc.BadRequest":
            for field in _messages.parse(kind, detail.value).field_violations:
                violations.append(Violation(field.field, field.description))
        elif kind == "google.rpc.QuotaFailure":
            for quota in _messages.parse(kind, detail.value).violations:
                violations.append(Violation(quota.subject, quota.description))
    code = Code(status.code) if status.code in Code._value2member_map_ else Code.UNKNOWN
    cls = _CLASSES.get(code, MMFreeError)
    return cls(status.message, code=code, reason=reason, retry_after=retry_after, violations=tuple(violations))


def copied(error: MMFreeError) -> MMFreeError:
    """Each raise has a traceback of its own."""
    return type(error)(
        error.message, code=error.code, reason=error.reason, retry_after=error.retry_after, violations=error.violations
    )
