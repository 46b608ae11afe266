# SPDX-License-Identifier: Apache-2.0
"""The client for threads."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, Unpack

from . import _connection, _methods, sharing, types
from ._methods import EmbedOptions, GenerateOptions, Method, Piece, Text
from ._streams import Call
from .errors import ConnectionFailed, ConnectionLost, MMFreeError, Unavailable

if TYPE_CHECKING:
    import numpy
    import numpy.typing

T = TypeVar("T")


class Client:
    """A daemon, called over one connection. Made at the first call; made anew after it broke.

    Threads may share a client: their calls run at the same time. After a fork the child connects for itself.

    A connection that breaks ends the calls under way with ConnectionLost, once each. Calls with one answer, and embed, are then
    made once more on a new connection; generate is not. Calls that make, restore or drop
    sessions are not either; the others leave nothing behind.
    """

    def __init__(self, path: str | None = None, *, timeout: float | None = None) -> None:
        """path: the socket; None: $MMFREED_SOCKET, /run/mmfreed/mmfreed.sock or $XDG_RUNTIME_DIR/mmfreed.sock.
        timeout: seconds for each call that names none; None leaves it to the daemon (300 s unless it is set)."""
        self._path = path
        self._timeout = _methods.checked_timeout(timeout)
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._connection: _connection.Connection | None = None

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends what is under way. A later call connects anew."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    # Inference

    def generate(self, prompt: Text, **options: Unpack[GenerateOptions]) -> Generation:
        """Starts an answer, whose pieces the result iterates over. GenerateOptions lists the options.

        While nobody iterates, nothing is read and the daemon waits; after 30 s of that it ends the answer (Aborted).
        """
        timeout = options.pop("timeout", self._timeout)
        return Generation(*self._start(_methods.generate(prompt, **options), True, timeout))

    def embed(self, inputs: Sequence[Text], **options: Unpack[EmbedOptions]) -> list[list[float]]:
        """A vector for each input."""
        return self._embed(inputs, **options).lists()

    def embed_array(
        self, inputs: Sequence[Text], **options: Unpack[EmbedOptions]
    ) -> numpy.typing.NDArray[numpy.float32]:
        """A vector for each input, as an array [inputs, dimensions]. Needs numpy."""
        return self._embed(inputs, **options).array()

    def embed_tokens(
        self, inputs: Sequence[Text], *, model: str = "", normalize: bool = False, timeout: float | None = None
    ) -> list[list[list[float]]]:
        """For each input a vector for each of its tokens."""
        options: Any = {} if timeout is None else {"timeout": timeout}
        return self._embed(inputs, model=model, normalize=normalize, pooling="none", **options).token_lists()

    def _embed(self, inputs: Sequence[Text], timeout: float | None = None, **options: Any) -> _methods.Vectors:
        method, vectors = _methods.embed(inputs, **options)

        def collect(connection: _connection.Connection, call: Call, deadline: float | None) -> _methods.Vectors:
            while True:
                connection.wait(call, deadline)
                message = call.take()
                if message is None:
                    return vectors
                vectors.add(method.read(message))

        found: _methods.Vectors = self._repeated(method, True, timeout, collect)
        return found

    def score(
        self,
        text: Text,
        *,
        model: str = "",
        start: int = 0,
        top: int = 0,
        add_bos: bool = False,
        parse_special: bool = False,
        timeout: float | None = None,
    ) -> types.ScoreResponse:
        """How likely the model finds each token, given all before it: .scores[i].chosen.logprob is that of position .first + i.

        start: the first position to score; the first token has no predecessor.  top: this many likeliest tokens beside each.
        add_bos: put the beginning-of-text token before token ids; a text gets it as generate's does.
        """
        method = _methods.score(
            text, model=model, start=start, top=top, add_bos=add_bos, parse_special=parse_special
        )

        def collect(connection: _connection.Connection, call: Call, deadline: float | None) -> types.ScoreResponse:
            scores = _methods.Scores()
            while True:
                connection.wait(call, deadline)
                message = call.take()
                if message is None:
                    return scores.whole()
                scores.add(method.read(message))

        found: types.ScoreResponse = self._repeated(method, True, timeout, collect)
        return found

    def tokenize(
        self,
        text: str,
        *,
        model: str = "",
        add_bos: bool | None = None,
        parse_special: bool = False,
        timeout: float | None = None,
    ) -> types.TokenizeResponse:
        """The tokens of a text. `add_bos`: put the beginning-of-text token first; None: as generate does."""
        return self._unary(_methods.tokenize(text, model, add_bos, parse_special), timeout)

    def detokenize(
        self, tokens: Sequence[int], *, model: str = "", keep_special: bool = False, timeout: float | None = None
    ) -> str:
        return self._unary(_methods.detokenize(tokens, model, keep_special), timeout)

    def chat_template(
        self, *, model: str = "", name: str = "", timeout: float | None = None
    ) -> types.ChatTemplateResponse:
        """How a conversation is put before a model: a Jinja template. `name`: one of several, such as "tool_use"; empty for the
        default one. Raises an error with the reason NO_CHAT_TEMPLATE where there is none."""
        return self._unary(_methods.chat_template(model, name), timeout)

    def cancel(self, request_id: str, *, timeout: float | None = None) -> bool:
        """Stops a request of this user, from any connection. Whether it was still running."""
        return self._unary(_methods.cancel(request_id), timeout)

    # Sessions

    def create_session(
        self, *, model: str = "", name: str = "", ttl: float | None = None, blank: bool = False, timeout: float | None = None
    ) -> types.SessionInfo:
        """A conversation that the daemon remembers. ttl: seconds until it is dropped when it is not used. blank: without the
        model's initial state, if it has one. generate(..., session=created.session) appends to it."""
        return self._unary(_methods.create_session(model, name, ttl, blank), timeout)

    def fork_session(
        self, session: str, *, name: str = "", ttl: float | None = None, timeout: float | None = None
    ) -> types.SessionInfo:
        """A new session that is where another one is, at its last complete turn."""
        return self._unary(_methods.fork_session(session, name, ttl), timeout)

    def save_session(self, session: str, *, timeout: float | None = None) -> bytes:
        """A session's state at its last complete turn."""
        method = _methods.save_session(session)

        def collect(connection: _connection.Connection, call: Call, deadline: float | None) -> bytes:
            parts: list[bytes] = []
            while True:
                connection.wait(call, deadline)
                message = call.take()
                if message is None:
                    return b"".join(parts)
                parts.append(method.read(message))

        found: bytes = self._repeated(method, True, timeout, collect)
        return found

    def restore_session(
        self, state: bytes, *, name: str = "", model: str = "", ttl: float | None = None, timeout: float | None = None
    ) -> types.SessionInfo:
        """A new session out of what save_session gave. A large state is sent in several requests, and timeout is for each; if one
        fails, the session that has begun is dropped."""
        requests = _methods.restore_session(state, name, model, ttl)
        request, begun = next(requests), ""
        while True:
            try:
                info = self._unary(request, timeout)
            except BaseException:
                if begun:
                    with contextlib.suppress(MMFreeError):
                        self.drop_session(begun, timeout=5.0)
                raise
            begun = info.session
            try:
                request = requests.send(info)
            except StopIteration as end:
                found: types.SessionInfo = end.value
                return found

    def drop_session(self, session: str, *, timeout: float | None = None) -> None:
        self._unary(_methods.drop_session(session), timeout)

    def get_session(self, session: str, *, timeout: float | None = None) -> types.SessionInfo:
        return self._unary(_methods.get_session(session), timeout)

    def sessions(self, *, timeout: float | None = None) -> tuple[types.SessionInfo, ...]:
        """This user's sessions, oldest first; for root everybody's."""
        return self._unary(_methods.SESSIONS, timeout)

    # Control

    def info(self, *, timeout: float | None = None) -> types.GetInfoResponse:
        return self._unary(_methods.INFO, timeout)

    def status(self, *, timeout: float | None = None) -> types.StatusResponse:
        return self._unary(_methods.STATUS, timeout)

    def metrics(self, *, timeout: float | None = None) -> str:
        """Counters and histograms of this user's requests, in Prometheus' text format; root sees all."""
        return self._unary(_methods.METRICS, timeout)

    def models(self, *, timeout: float | None = None) -> types.ListModelsResponse:
        return self._unary(_methods.MODELS, timeout)

    def reload(self, *, timeout: float | None = None) -> types.ReloadResponse:
        """Makes the daemon look for new, replaced and removed models. For root and whom the settings name."""
        return self._unary(_methods.RELOAD, timeout)

    def healthy(self, model: str = "", *, timeout: float | None = None) -> bool:
        """Whether the daemon, or a model, serves."""
        return self._unary(_methods.health(model), timeout)

    def wait(self, seconds: float = 60.0) -> None:
        """Waits until the daemon serves. Raises why it does not when the time is over."""
        end = time.monotonic() + seconds
        while True:
            try:
                if self.healthy(timeout=max(1.0, end - time.monotonic())):
                    return
                problem: MMFreeError = Unavailable("the daemon does not serve")
            except (ConnectionFailed, ConnectionLost, Unavailable) as error:
                problem = error
            if time.monotonic() >= end:
                raise problem
            time.sleep(0.1)

    def share(self, model: str = "", *, digest: str = "", timeout: float = 60.0) -> sharing.SharedModel:
        """Maps a model's file, the one the daemon serves. See sharing.share."""
        return sharing.share(model, digest=digest, path=self._path, timeout=timeout)

    # Calls

    def _connected(self) -> _connection.Connection:
        if self._pid != os.getpid():
            self._pid, self._lock = os.getpid(), threading.Lock()
        with self._lock:
            if self._connection is None or not self._connection.usable:
                old, self._connection = self._connection, None
                if old is not None and old.idle:
                    old.close()
                self._connection = _connection.connect(self._path)
            return self._connection

    def _start(
        self, method: Method[T], streaming: bool, timeout: float | None
    ) -> tuple[_connection.Connection, Call, float | None, Method[T]]:
        timeout = _methods.checked_timeout(timeout)
        connection = self._connected()
        call = connection.start(method.service, method.name, method.payload, streaming=streaming, timeout=timeout)
        deadline = None if timeout is None else time.monotonic() + timeout + _connection.GRACE
        return connection, call, deadline, method

    def _repeated(self, method: Method[Any], streaming: bool, timeout: float | None, finish: Any) -> Any:
        """A call that is made once more if its connection breaks."""
        timeout = self._timeout if timeout is None else timeout
        for last in (False, True):
            try:
                connection, call, deadline, _ = self._start(method, streaming, timeout)
                return finish(connection, call, deadline)
            except ConnectionLost:
                if last or not method.repeats:
                    raise
            except Unavailable as error:
                if error.reason == "DRAINING":
                    connection.retired = True
                raise
        raise AssertionError

    def _unary(self, method: Method[T], timeout: float | None) -> T:
        def finish(connection: _connection.Connection, call: Call, deadline: float | None) -> T:
            connection.wait(call, deadline)
            return method.read(call.answer())

        answer: T = self._repeated(method, False, timeout, finish)
        return answer


class Generation(Iterator[Piece]):
    """An answer that is being made. Iterate over its pieces, in one thread; leaving early, or close(), cancels this call alone.

    started: what the daemon said first (request id, model, seed), None before the first piece.
    finished: why the answer ended, its usage and timings; None before that, and of an answer that was cancelled.
    prompt_logprobs: with echo and logprobs, of each of the prompt's tokens; all are there with the first piece that has tokens.
    """

    def __init__(
        self, connection: _connection.Connection, call: Call, deadline: float | None, method: Method[Any]
    ) -> None:
        self._connection = connection
        self._call = call
        self._deadline = deadline
        self._method = method
        self.started: types.Started | None = None
        self.finished: types.Finished | None = None
        self.prompt_logprobs: tuple[types.TokenLogprobs, ...] = ()

    def __next__(self) -> Piece:
        while True:
            self._connection.wait(self._call, self._deadline)
            try:
                message = self._call.take()
            except Unavailable as error:
                if error.reason == "DRAINING":
                    self._connection.retired = True
                raise
            if message is None:
                raise StopIteration
            response = self._method.read(message)
            if response.HasField("started"):
                self.started = types.Started._read(response.started)
            if response.HasField("finished"):
                self.finished = types.Finished._read(response.finished)
            self.prompt_logprobs += _methods.prompt_logprobs(response)
            if response.text or response.tokens:
                return _methods.piece(response)

    def read(self) -> str:
        """The text of all pieces that are left."""
        return "".join(piece.text for piece in self)

    def close(self) -> None:
        """Cancels the answer if it is not complete. Another thread that waits for it gets Cancelled."""
        self._connection.cancel(self._call)

    def __enter__(self) -> Generation:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_call"):
            self.close()
