# SPDX-License-Identifier: Apache-2.0
"""Which sockets to try, and why one cannot be reached."""

from __future__ import annotations

import errno
import getpass
import os
import time
from collections.abc import Iterator

from .errors import ConnectionFailed, MMFreeError, PermissionDenied, ResourceExhausted

SYSTEM = "/run/mmfreed/mmfreed.sock"
# What sockaddr_un holds besides the NUL.
PATH_LIMIT = 103


def candidates(path: str | None) -> list[str]:
    """The sockets to try, in order. path: PATH, unix:PATH or unix:///PATH; None: $MMFREED_SOCKET, or the standard places."""
    named = path if path is not None else os.environ.get("MMFREED_SOCKET") or None
    if named is not None:
        return [_checked(named)]
    own = os.environ.get("XDG_RUNTIME_DIR", "")
    return [SYSTEM, *([f"{own}/mmfreed.sock"] if own.startswith("/") else [])]


def share_candidates(path: str | None) -> list[str]:
    """The sockets for descriptors: $MMFREED_SHARE_SOCKET, or share.sock beside the sockets for calls."""
    named = os.environ.get("MMFREED_SHARE_SOCKET")
    if named:
        return [_checked(named)]
    return [os.path.join(os.path.dirname(place), "share.sock") for place in candidates(path)]


def _checked(text: str) -> str:
    path = text.removeprefix("unix://") if text.startswith("unix:///") else text.removeprefix("unix:")
    if path.startswith("//") and text.startswith("unix:"):
        raise ValueError(f"{text!r}: unix:// takes an absolute path, as in unix://{SYSTEM}")
    if not path or len(os.fsencode(path)) > PATH_LIMIT:
        raise ValueError(f"{text!r}: a socket's path has 1 to {PATH_LIMIT} bytes")
    return path


def failure(path: str, error: OSError) -> MMFreeError:
    if error.errno in (errno.EACCES, errno.EPERM):
        return PermissionDenied(
            f"permission denied on {path}: the socket is for root and its group; as root: adduser {_user()} mmfree",
            reason="SOCKET_PERMISSIONS",
        )
    if error.errno in (errno.EAGAIN, errno.ETIMEDOUT):
        return ResourceExhausted(f"too many clients are waiting to connect to {path}", retry_after=0.1)
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return ConnectionFailed(f"no daemon is listening on {path}")
    if error.errno == errno.ECONNREFUSED:
        return ConnectionFailed(f"the daemon that made {path} is gone")
    return ConnectionFailed(f"cannot connect to {path}: {error.strerror or error}")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def choose(problems: list[MMFreeError]) -> MMFreeError:
    """The failure to tell of several: a socket that exists and is not allowed, else all of them."""
    for problem in problems:
        if isinstance(problem, PermissionDenied):
            return problem
    if len(problems) == 1:
        return problems[0]
    return ConnectionFailed("; ".join(problem.message for problem in problems))


def attempts(seconds: float = 10.0, pause: float = 0.02) -> Iterator[float]:
    """While a socket's backlog is full: pauses between attempts to connect, in seconds, for ten seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield pause
