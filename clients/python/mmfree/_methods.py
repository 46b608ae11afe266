# SPDX-License-Identifier: Apache-2.0
"""The daemon's methods: from arguments to a request, from a payload to what the caller gets. Shared by both clients."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, TypedDict, TypeVar

from . import _messages, types
from .errors import ProtocolError

if TYPE_CHECKING:
    import numpy
    import numpy.typing

T = TypeVar("T")
INFERENCE, CONTROL, HEALTH = "mmfree.v1.Inference", "mmfree.v1.Control", "grpc.health.v1.Health"
SESSION = "mmfree.v1.Session"

Text = str | Sequence[int]
"""Text, or token ids, which are taken as they are."""
Pooling = Literal["auto", "mean", "last"]


class GenerateOptions(TypedDict, total=False):
    """What generate() takes by name. What is left out is the daemon's to choose.

    model: the name of a model.  max_tokens: the most tokens to answer with.
    temperature (0 is greedy), top_k, top_p, min_p, repetition_penalty, presence_penalty, frequency_penalty, logit_bias (by
    token id), seed: how tokens are chosen.
    stop: strings that end the answer.  echo: give the prompt back first.
    parse_special: take "<s>" and the like in the text for tokens; not for text from outside.
    logprobs: report each token's log-probability, and those of this many likeliest tokens; with echo the prompt's too, as
        .prompt_logprobs of the answer. The prompt's first token has none (NaN).
    session: the id of a session that the prompt and the answer are appended to.
    refuse_if_busy: raise Aborted where other turns of the session run or wait, instead of waiting for them.
    json_schema (a schema as a dict, True, or its text), regex, grammar (GBNF), json_object: what the answer must be, one of them.
    What of it the daemon does not support is refused, by its place. An answer whose finish reason is not STOP may be incomplete.
    timeout: seconds, waiting included.
    """

    model: str
    max_tokens: int
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    repetition_penalty: float
    presence_penalty: float
    frequency_penalty: float
    logit_bias: Mapping[int, float]
    seed: int
    stop: str | Sequence[str]
    echo: bool
    parse_special: bool
    logprobs: int
    session: str
    refuse_if_busy: bool
    json_schema: str | bool | Mapping[str, Any]
    regex: str
    grammar: str
    json_object: bool
    timeout: float


class EmbedOptions(TypedDict, total=False):
    """What embed() takes by name: pooling is "auto" (what the model's files say, "mean" where they say nothing), "mean" or "last"; normalize scales every vector to length one."""

    model: str
    pooling: Pooling
    normalize: bool
    timeout: float


@dataclass(frozen=True)
class Piece:
    """A part of an answer: whole characters, and the tokens they came with."""

    text: str
    tokens: tuple[int, ...] = ()
    logprobs: tuple[types.TokenLogprobs, ...] = ()

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Method(Generic[T]):
    """A call that is ready to be made. `read` takes the answer, or each message of a stream, apart."""

    service: str
    name: str
    payload: bytes
    read: Callable[[bytes], T]
    repeats: bool = True
    """Whether it may be made again when its connection breaks."""


def _message(name: str) -> Any:
    return _messages.message_class(f"mmfree.v1.{name}")


def _reader(name: str, read: Callable[[Any], T]) -> Callable[[bytes], T]:
    def decode(data: bytes) -> T:
        try:
            return read(_messages.parse(name if "." in name else f"mmfree.v1.{name}", data))
        except (_messages.DecodeError, UnicodeDecodeError) as error:
            raise ProtocolError(f"{name}: an answer that cannot be decoded: {error}") from error

    return decode


def _set_input(target: Any, text: Text) -> None:
    """Fills the oneof of text and tokens."""
    if isinstance(text, str):
        target.text = text.encode()
    elif isinstance(text, (bytes, bytearray)):
        raise TypeError("text is a str, or a sequence of token ids; not bytes")
    else:
        target.tokens.ids.extend(int(token) for token in text)
        target.tokens.SetInParent()


def _set_format(
    request: Any,
    json_schema: str | bool | Mapping[str, Any] | None,
    regex: str | None,
    grammar: str | None,
    json_object: bool,
) -> None:
    if sum((json_schema is not None, regex is not None, grammar is not None, json_object)) > 1:
        raise ValueError("give one of json_schema, regex, grammar and json_object")
    if json_schema is not None:
        text = json_schema if isinstance(json_schema, str) else json.dumps(json_schema, ensure_ascii=False)
        request.format.json_schema = text.encode()
    elif regex is not None:
        request.format.regex = regex.encode()
    elif grammar is not None:
        request.format.grammar = grammar.encode()
    elif json_object:
        request.format.json_object = True


_SAMPLING = (
    "temperature", "top_k", "top_p", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty", "seed",
)  # fmt: skip


def generate(
    prompt: Text,
    *,
    model: str = "",
    max_tokens: int = 0,
    logit_bias: Mapping[int, float] | None = None,
    stop: str | Sequence[str] = (),
    echo: bool = False,
    parse_special: bool = False,
    logprobs: int | None = None,
    session: str = "",
    refuse_if_busy: bool = False,
    json_schema: str | bool | Mapping[str, Any] | None = None,
    regex: str | None = None,
    grammar: str | None = None,
    json_object: bool = False,
    **sampling: Any,
) -> Method[Any]:
    request = _message("GenerateRequest")(model=model, max_tokens=max_tokens, echo=echo, parse_special=parse_special)
    request.session, request.refuse_if_busy = session, refuse_if_busy
    _set_input(request, prompt)
    _set_format(request, json_schema, regex, grammar, json_object)
    for name, value in sampling.items():
        if name not in _SAMPLING:
            raise TypeError(f"generate() has no option {name!r}")
        if value is not None:
            setattr(request.sampling, name, value)
    for token, bias in (logit_bias or {}).items():
        request.sampling.logit_bias.add(token=token, bias=bias)
    request.stop.extend(text.encode() for text in ([stop] if isinstance(stop, str) else stop))
    if logprobs is not None:
        request.logprobs = logprobs
    return Method(INFERENCE, "Generate", request.SerializeToString(), _reader("GenerateResponse", lambda message: message))


def piece(message: Any) -> Piece:
    logprobs = tuple(types.TokenLogprobs._read(each) for each in message.logprobs)
    return Piece(message.text.decode(), tuple(message.tokens), logprobs)


def prompt_logprobs(message: Any) -> tuple[types.TokenLogprobs, ...]:
    return tuple(types.TokenLogprobs._read(each) for each in message.prompt_logprobs)


class Vectors:
    """Collects the messages of an Embed call."""

    def __init__(self, count: int) -> None:
        self._found: list[Any] = [None] * count

    def add(self, message: Any) -> None:
        for embedding in message.embeddings:
            if embedding.index >= len(self._found) or embedding.dimensions == 0:
                raise ProtocolError(f"a vector of input {embedding.index} of {len(self._found)}")
            self._found[embedding.index] = embedding

    def _all(self) -> list[Any]:
        missing = [index for index, vector in enumerate(self._found) if vector is None]
        if missing:
            raise ProtocolError(f"no vector came for input {missing[0]}")
        return self._found

    def lists(self) -> list[list[float]]:
        return [list(vector.values) for vector in self._all()]

    def token_lists(self) -> list[list[list[float]]]:
        return [
            [list(v.values[at : at + v.dimensions]) for at in range(0, len(v.values), v.dimensions)] for v in self._all()
        ]

    def array(self) -> numpy.typing.NDArray[numpy.float32]:
        import numpy

        rows = [numpy.fromiter(vector.values, numpy.float32, len(vector.values)) for vector in self._all()]
        return numpy.stack(rows) if rows else numpy.empty((0, 0), numpy.float32)


def embed(
    inputs: Sequence[Text], *, model: str = "", pooling: str = "auto", normalize: bool = False
) -> tuple[Method[Any], Vectors]:
    if isinstance(inputs, (str, bytes)):
        raise TypeError("embed() takes a sequence of texts: [text] for one")
    if pooling not in ("auto", "mean", "last", "none"):
        raise ValueError(f'pooling is "auto", "mean" or "last", not {pooling!r}')
    request = _message("EmbedRequest")(model=model, normalize=normalize)
    request.pooling = {"auto": 0, "mean": 1, "last": 2, "none": 3}[pooling]
    for text in inputs:
        _set_input(request.input.add(), text)
    method = Method(INFERENCE, "Embed", request.SerializeToString(), _reader("EmbedResponse", lambda message: message))
    return method, Vectors(len(inputs))


class Scores:
    """Collects the messages of a Score call."""

    def __init__(self) -> None:
        self._whole: types.ScoreResponse | None = None

    def add(self, part: types.ScoreResponse) -> None:
        if self._whole is not None:
            part = dataclasses.replace(
                part, scores=self._whole.scores + part.scores, first=self._whole.first if self._whole.scores else part.first
            )
        self._whole = part

    def whole(self) -> types.ScoreResponse:
        if self._whole is None or self._whole.usage is None:
            raise ProtocolError("the scores end before they are complete")
        return self._whole


def score(
    text: Text, *, model: str = "", start: int = 0, top: int = 0, add_bos: bool = False, parse_special: bool = False
) -> Method[types.ScoreResponse]:
    request = _message("ScoreRequest")(model=model, top_k=top, add_bos=add_bos, parse_special=parse_special)
    setattr(request, "from", start)
    _set_input(request, text)
    return Method(INFERENCE, "Score", request.SerializeToString(), _reader("ScoreResponse", types.ScoreResponse._read))


def tokenize(text: str, model: str, add_bos: bool | None, parse_special: bool) -> Method[types.TokenizeResponse]:
    request = _message("TokenizeRequest")(
        model=model, text=text.encode(), add_bos=bool(add_bos), parse_special=parse_special, as_prompt=add_bos is None
    )
    return Method(
        INFERENCE, "Tokenize", request.SerializeToString(), _reader("TokenizeResponse", types.TokenizeResponse._read)
    )


def detokenize(tokens: Sequence[int], model: str, keep_special: bool) -> Method[str]:
    request = _message("DetokenizeRequest")(model=model, tokens=tokens, keep_special=keep_special)
    read = _reader("DetokenizeResponse", lambda message: str(message.text.decode()))
    return Method(INFERENCE, "Detokenize", request.SerializeToString(), read)


def chat_template(model: str, name: str) -> Method[types.ChatTemplateResponse]:
    request = _message("ChatTemplateRequest")(model=model, name=name)
    read = _reader("ChatTemplateResponse", types.ChatTemplateResponse._read)
    return Method(INFERENCE, "ChatTemplate", request.SerializeToString(), read)


def cancel(request_id: str) -> Method[bool]:
    request = _message("CancelRequest")(request_id=request_id)
    read = _reader("CancelResponse", lambda message: bool(message.cancelled))
    return Method(INFERENCE, "Cancel", request.SerializeToString(), read)


def _session(name: str, request: Any, repeats: bool = False) -> Method[types.SessionInfo]:
    read = _reader("SessionInfo", types.SessionInfo._read)
    return Method(SESSION, name, request.SerializeToString(), read, repeats)


def _ttl(seconds: float | None) -> int:
    return 0 if seconds is None else max(1, int(seconds * 1e9))


def create_session(model: str, name: str, ttl: float | None, blank: bool) -> Method[types.SessionInfo]:
    request = _message("CreateSessionRequest")(model=model, name=name, ttl_ns=_ttl(ttl), blank=blank)
    return _session("Create", request)


def fork_session(session: str, name: str, ttl: float | None) -> Method[types.SessionInfo]:
    return _session("Fork", _message("ForkSessionRequest")(session=session, name=name, ttl_ns=_ttl(ttl)))


STATE_IN_ONE = (4 << 20) - (64 << 10)
"""Bytes of a state that one request holds, with what else is in it."""
STATE_PART = 1 << 20


def restore_session(
    state: bytes, name: str, model: str, ttl: float | None
) -> Generator[Method[types.SessionInfo], types.SessionInfo, types.SessionInfo]:
    """The calls that restore a state, each of which is sent the answer to the one before; returns the last answer."""
    size = len(state) if len(state) <= STATE_IN_ONE else STATE_PART
    first = {"name": name, "model": model, "ttl_ns": _ttl(ttl), "more": size < len(state)}
    info = yield _session("Restore", _message("RestoreSessionRequest")(state=state[:size], **first))
    for offset in range(size, len(state), STATE_PART):
        end = min(len(state), offset + STATE_PART)
        request = _message("RestoreSessionRequest")(session=info.session, offset=offset, state=state[offset:end])
        request.more = end < len(state)
        info = yield _session("Restore", request)
    return info


def get_session(session: str) -> Method[types.SessionInfo]:
    return _session("Get", _message("GetSessionRequest")(session=session), repeats=True)


def save_session(session: str) -> Method[bytes]:
    request = _message("SaveSessionRequest")(session=session)
    read = _reader("SaveSessionResponse", lambda message: bytes(message.state))
    return Method(SESSION, "Save", request.SerializeToString(), read)


def drop_session(session: str) -> Method[None]:
    request = _message("DropSessionRequest")(session=session)
    return Method(SESSION, "Drop", request.SerializeToString(), _reader("DropSessionResponse", lambda message: None), False)


def _sessions(message: Any) -> tuple[types.SessionInfo, ...]:
    return tuple(types.SessionInfo._read(each) for each in message.sessions)


SESSIONS = Method(SESSION, "List", b"", _reader("ListSessionsResponse", _sessions))


def health(model: str) -> Method[bool]:
    request = _messages.message_class("grpc.health.v1.HealthCheckRequest")(service=model)
    read = _reader("grpc.health.v1.HealthCheckResponse", lambda message: bool(message.status == 1))
    return Method(HEALTH, "Check", request.SerializeToString(), read)


INFO = Method(CONTROL, "GetInfo", b"", _reader("GetInfoResponse", types.GetInfoResponse._read))
STATUS = Method(CONTROL, "Status", b"", _reader("StatusResponse", types.StatusResponse._read))
METRICS = Method(CONTROL, "Metrics", b"", _reader("MetricsResponse", lambda message: str(message.text)))
MODELS = Method(CONTROL, "ListModels", b"", _reader("ListModelsResponse", types.ListModelsResponse._read))
RELOAD = Method(CONTROL, "Reload", b"", _reader("ReloadResponse", types.ReloadResponse._read))


def checked_timeout(timeout: float | None) -> float | None:
    if timeout is not None and not timeout > 0:
        raise ValueError(f"a timeout is a number of seconds above 0, not {timeout!r}")
    return timeout
