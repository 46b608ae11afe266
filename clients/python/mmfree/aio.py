# SPDX-License-Identifier: Apache-2.0
"""The client for asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, Unpack

from . import _address, _connection, _methods, sharing, types
from ._methods import EmbedOptions, GenerateOptions, Method, Piece, Text
from ._streams import Call, Streams
from .errors import (
    Cancelled, ConnectionFailed, ConnectionLost, DeadlineExceeded, MMFreeError, ProtocolError, Unavailable, copied,
)  # fmt: skip

if TYPE_CHECKING:
    import numpy
    import numpy.typing

T = TypeVar("T")


class AsyncConnection(asyncio.Protocol):
    """The socket is read only while somebody waits for an answer, or nothing is under way."""

    def __init__(self) -> None:
        self._streams = Streams()
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._waiters: dict[Call, asyncio.Future[None]] = {}
        self._liveness: asyncio.TimerHandle | None = None
        self._failure: MMFreeError | None = None
        self.retired = False

    @property
    def usable(self) -> bool:
        return self._failure is None and not self.retired

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._streams.hear(self._loop.time())
        try:
            changed = self._streams.receive(data)
        except ProtocolError as error:
            return self.fail(error)
        self._wake(changed)
        self._update()

    def connection_lost(self, error: Exception | None) -> None:
        self.fail(ConnectionLost(f"the connection broke: {error}" if error else "the daemon closed the connection"))

    def start(self, service: str, method: str, payload: bytes, *, streaming: bool, timeout: float | None) -> Call:
        if self._failure is not None:
            raise copied(self._failure)
        call = self._streams.open(service, method, payload, streaming=streaming, timeout=timeout)
        self._update()
        return call

    async def wait(self, call: Call, deadline: float | None) -> None:
        """Returns when the call has a message or has ended. deadline: of the loop's time()."""
        while not call.ready:
            waiter = self._waiters[call] = self._loop.create_future()
            if len(self._waiters) == 1:
                self._streams.hear(self._loop.time())
                self._check()
            self._update()
            try:
                async with asyncio.timeout_at(deadline):
                    await waiter
            except TimeoutError:
                self.cancel(call, DeadlineExceeded("the daemon did not answer in time"))
            except BaseException:
                self.cancel(call)
                raise
            finally:
                self._waiters.pop(call, None)
                self._update()

    def cancel(self, call: Call, why: MMFreeError | None = None) -> None:
        """Ends a call from this side; no other is touched."""
        self._streams.cancel(call, why or Cancelled("the call was cancelled"))
        self._wake([call])
        self._update()

    def _wake(self, calls: list[Call]) -> None:
        for call in calls:
            waiter = self._waiters.get(call)
            if waiter is not None and not waiter.done() and call.ready:
                waiter.set_result(None)

    def _update(self) -> None:
        """Writes what waits, and decides whether the socket is read."""
        if self._transport is None or self._failure is not None:
            return
        while self._streams.outbox:
            self._transport.write(self._streams.outbox.popleft())
        wanted = bool(self._waiters) or not self._streams.calls
        if wanted != self._transport.is_reading():
            (self._transport.resume_reading if wanted else self._transport.pause_reading)()

    def _check(self) -> None:
        """Liveness, while somebody waits."""
        if self._liveness is not None:
            self._liveness.cancel()
            self._liveness = None
        if not self._waiters or self._failure is not None:
            return
        try:
            seconds = self._streams.wait_time(self._loop.time())
        except ConnectionLost as error:
            return self.fail(error)
        self._update()
        self._liveness = self._loop.call_later(seconds, self._check)

    def fail(self, error: MMFreeError) -> None:
        if self._failure is None:
            self._failure = error
        self._streams.fail(self._failure)
        self._wake(list(self._waiters))
        if self._liveness is not None:
            self._liveness.cancel()
        if self._transport is not None:
            self._transport.abort()


async def connect(path: str | None) -> AsyncConnection:
    problems: list[MMFreeError] = []
    for place in _address.candidates(path):
        try:
            _, protocol = await asyncio.get_running_loop().create_connection(AsyncConnection, sock=await _dial(place))
            return protocol
        except OSError as error:
            problems.append(_address.failure(place, error))
    raise _address.choose(problems)


async def _dial(place: str) -> socket.socket:
    for pause in _address.attempts():
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.setblocking(False)
            connection.connect(place)
            return connection
        except BlockingIOError:
            connection.close()
        except BaseException:
            connection.close()
            raise
        await asyncio.sleep(pause)
    raise BlockingIOError(11, "the socket's backlog is full")


class AsyncClient:
    """Client's twin for one event loop: the same methods, awaited; tasks may share it. Cancelling a task cancels its call alone."""

    def __init__(self, path: str | None = None, *, timeout: float | None = None) -> None:
        """As Client's."""
        self._path = path
        self._timeout = _methods.checked_timeout(timeout)
        self._lock = asyncio.Lock()
        self._connection: AsyncConnection | None = None

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends what is under way. A later call connects anew."""
        if self._connection is not None:
            self._connection.fail(Cancelled("the connection was closed"))
            self._connection = None

    def generate(self, prompt: Text, **options: Unpack[GenerateOptions]) -> AsyncGeneration:
        """An answer, which begins when it is first iterated over. GenerateOptions lists the options."""
        timeout = _methods.checked_timeout(options.pop("timeout", self._timeout))
        method = _methods.generate(prompt, **options)
        return AsyncGeneration(lambda: self._start(method, True, timeout), method)

    async def embed(self, inputs: Sequence[Text], **options: Unpack[EmbedOptions]) -> list[list[float]]:
        return (await self._embed(inputs, **options)).lists()

    async def embed_array(
        self, inputs: Sequence[Text], **options: Unpack[EmbedOptions]
    ) -> numpy.typing.NDArray[numpy.float32]:
        return (await self._embed(inputs, **options)).array()

    async def embed_tokens(
        self, inputs: Sequence[Text], *, model: str = "", normalize: bool = False, timeout: float | None = None
    ) -> list[list[list[float]]]:
        found = await self._embed(inputs, model=model, normalize=normalize, pooling="none", timeout=timeout)
        return found.token_lists()

    async def _embed(self, inputs: Sequence[Text], timeout: float | None = None, **options: Any) -> _methods.Vectors:
        method, vectors = _methods.embed(inputs, **options)

        async def collect(connection: AsyncConnection, call: Call, deadline: float | None) -> _methods.Vectors:
            while True:
                await connection.wait(call, deadline)
                message = call.take()
                if message is None:
                    return vectors
                vectors.add(method.read(message))

        found: _methods.Vectors = await self._repeated(method, True, timeout, collect)
        return found

    async def score(
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
        method = _methods.score(
            text, model=model, start=start, top=top, add_bos=add_bos, parse_special=parse_special
        )

        async def collect(connection: AsyncConnection, call: Call, deadline: float | None) -> types.ScoreResponse:
            scores = _methods.Scores()
            while True:
                await connection.wait(call, deadline)
                message = call.take()
                if message is None:
                    return scores.whole()
                scores.add(method.read(message))

        found: types.ScoreResponse = await self._repeated(method, True, timeout, collect)
        return found

    async def tokenize(
        self,
        text: str,
        *,
        model: str = "",
        add_bos: bool | None = None,
        parse_special: bool = False,
        timeout: float | None = None,
    ) -> types.TokenizeResponse:
        """The tokens of a text. `add_bos`: put the beginning-of-text token first; None: as generate does."""
        return await self._unary(_methods.tokenize(text, model, add_bos, parse_special), timeout)

    async def detokenize(
        self, tokens: Sequence[int], *, model: str = "", keep_special: bool = False, timeout: float | None = None
    ) -> str:
        return await self._unary(_methods.detokenize(tokens, model, keep_special), timeout)

    async def chat_template(
        self, *, model: str = "", name: str = "", timeout: float | None = None
    ) -> types.ChatTemplateResponse:
        """How a conversation is put before a model: a Jinja template. `name`: one of several, such as "tool_use"; empty for the
        default one. Raises an error with the reason NO_CHAT_TEMPLATE where there is none."""
        return await self._unary(_methods.chat_template(model, name), timeout)

    async def cancel(self, request_id: str, *, timeout: float | None = None) -> bool:
        return await self._unary(_methods.cancel(request_id), timeout)

    # Sessions

    async def create_session(
        self, *, model: str = "", name: str = "", ttl: float | None = None, blank: bool = False, timeout: float | None = None
    ) -> types.SessionInfo:
        """A conversation that the daemon remembers. ttl: seconds until it is dropped when it is not used. blank: without the
        model's initial state, if it has one. generate(..., session=created.session) appends to it."""
        return await self._unary(_methods.create_session(model, name, ttl, blank), timeout)

    async def fork_session(
        self, session: str, *, name: str = "", ttl: float | None = None, timeout: float | None = None
    ) -> types.SessionInfo:
        """A new session that is where another one is, at its last complete turn."""
        return await self._unary(_methods.fork_session(session, name, ttl), timeout)

    async def save_session(self, session: str, *, timeout: float | None = None) -> bytes:
        """A session's state at its last complete turn."""
        method = _methods.save_session(session)

        async def collect(connection: AsyncConnection, call: Call, deadline: float | None) -> bytes:
            parts: list[bytes] = []
            while True:
                await connection.wait(call, deadline)
                message = call.take()
                if message is None:
                    return b"".join(parts)
                parts.append(method.read(message))

        found: bytes = await self._repeated(method, True, timeout, collect)
        return found

    async def restore_session(
        self, state: bytes, *, name: str = "", model: str = "", ttl: float | None = None, timeout: float | None = None
    ) -> types.SessionInfo:
        """A new session out of what save_session gave. A large state is sent in several requests, and timeout is for each; if one
        fails, the session that has begun is dropped."""
        requests = _methods.restore_session(state, name, model, ttl)
        request, begun = next(requests), ""
        while True:
            try:
                info = await self._unary(request, timeout)
            except BaseException:
                if begun:
                    with contextlib.suppress(MMFreeError):
                        await self.drop_session(begun, timeout=5.0)
                raise
            begun = info.session
            try:
                request = requests.send(info)
            except StopIteration as end:
                found: types.SessionInfo = end.value
                return found

    async def drop_session(self, session: str, *, timeout: float | None = None) -> None:
        await self._unary(_methods.drop_session(session), timeout)

    async def get_session(self, session: str, *, timeout: float | None = None) -> types.SessionInfo:
        return await self._unary(_methods.get_session(session), timeout)

    async def sessions(self, *, timeout: float | None = None) -> tuple[types.SessionInfo, ...]:
        """This user's sessions, oldest first; for root everybody's."""
        return await self._unary(_methods.SESSIONS, timeout)

    async def info(self, *, timeout: float | None = None) -> types.GetInfoResponse:
        return await self._unary(_methods.INFO, timeout)

    async def status(self, *, timeout: float | None = None) -> types.StatusResponse:
        return await self._unary(_methods.STATUS, timeout)

    async def metrics(self, *, timeout: float | None = None) -> str:
        return await self._unary(_methods.METRICS, timeout)

    async def models(self, *, timeout: float | None = None) -> types.ListModelsResponse:
        return await self._unary(_methods.MODELS, timeout)

    async def reload(self, *, timeout: float | None = None) -> types.ReloadResponse:
        return await self._unary(_methods.RELOAD, timeout)

    async def healthy(self, model: str = "", *, timeout: float | None = None) -> bool:
        return await self._unary(_methods.health(model), timeout)

    async def wait(self, seconds: float = 60.0) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while True:
            try:
                if await self.healthy(timeout=max(1.0, end - loop.time())):
                    return
                problem: MMFreeError = Unavailable("the daemon does not serve")
            except (ConnectionFailed, ConnectionLost, Unavailable) as error:
                problem = error
            if loop.time() >= end:
                raise problem
            await asyncio.sleep(0.1)

    async def share(self, model: str = "", *, digest: str = "", timeout: float = 60.0) -> sharing.SharedModel:
        """sharing.share, on a thread of its own."""
        return await asyncio.to_thread(sharing.share, model, digest=digest, path=self._path, timeout=timeout)

    # Calls

    async def _start(
        self, method: Method[Any], streaming: bool, timeout: float | None
    ) -> tuple[AsyncConnection, Call, float | None]:
        async with self._lock:
            if self._connection is None or not self._connection.usable:
                self._connection = await connect(self._path)
            connection = self._connection
        call = connection.start(method.service, method.name, method.payload, streaming=streaming, timeout=timeout)
        deadline = None if timeout is None else asyncio.get_running_loop().time() + timeout + _connection.GRACE
        return connection, call, deadline

    async def _repeated(self, method: Method[Any], streaming: bool, timeout: float | None, finish: Any) -> Any:
        """A call that is made once more if its connection breaks."""
        timeout = self._timeout if timeout is None else _methods.checked_timeout(timeout)
        for last in (False, True):
            try:
                connection, call, deadline = await self._start(method, streaming, timeout)
                return await finish(connection, call, deadline)
            except ConnectionLost:
                if last or not method.repeats:
                    raise
            except Unavailable as error:
                if error.reason == "DRAINING":
                    connection.retired = True
                raise
        raise AssertionError

    async def _unary(self, method: Method[T], timeout: float | None) -> T:
        async def finish(connection: AsyncConnection, call: Call, deadline: float | None) -> T:
            await connection.wait(call, deadline)
            return method.read(call.answer())

        answer: T = await self._repeated(method, False, timeout, finish)
        return answer


class AsyncGeneration(AsyncIterator[Piece]):
    """Generation's twin. `async with` it, or call close(), to leave it early: the call, and no other, is cancelled."""

    def __init__(self, start: Callable[[], Any], method: Method[Any]) -> None:
        self._start = start
        self._method = method
        self._running: tuple[AsyncConnection, Call, float | None] | None = None
        self.started: types.Started | None = None
        self.finished: types.Finished | None = None
        self.prompt_logprobs: tuple[types.TokenLogprobs, ...] = ()

    async def __anext__(self) -> Piece:
        if self._running is None:
            self._running = await self._start()
        connection, call, deadline = self._running
        while True:
            await connection.wait(call, deadline)
            try:
                message = call.take()
            except Unavailable as error:
                if error.reason == "DRAINING":
                    connection.retired = True
                raise
            if message is None:
                raise StopAsyncIteration
            response = self._method.read(message)
            if response.HasField("started"):
                self.started = types.Started._read(response.started)
            if response.HasField("finished"):
                self.finished = types.Finished._read(response.finished)
            self.prompt_logprobs += _methods.prompt_logprobs(response)
            if response.text or response.tokens:
                return _methods.piece(response)

    async def read(self) -> str:
        """The text of all pieces that are left."""
        return "".join([piece.text async for piece in self])

    async def close(self) -> None:
        """Cancels the answer if it is not complete."""
        self._cancel()

    def _cancel(self) -> None:
        if self._running is not None:
            connection, call, _ = self._running
            connection.cancel(call)

    async def __aenter__(self) -> AsyncGeneration:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cancel()

    def __del__(self) -> None:
        if getattr(self, "_running", None) is not None:
            try:
                self._cancel()
            except RuntimeError:  # the loop is closed
                pass
