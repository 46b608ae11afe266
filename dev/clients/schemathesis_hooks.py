# SPDX-License-Identifier: Apache-2.0
"""What schemathesis is told beyond the document that the gateway serves, so that its requests reach a model and their answers are
short. What the document allows it still allows after this, and what it forbids it still forbids."""

import json

import schemathesis


def is_natural(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value < 1 << 31


def shorten(body: dict, name: str) -> None:
    if body.get(name) is None:
        body[name] = 3
    elif is_natural(body[name]):
        body[name] = body[name] % 4 + 1


@schemathesis.hook
def before_call(context, case, kwargs):
    path, body = case.operation.path, case.body
    if case.operation.method.upper() != "POST" or not isinstance(body, dict):
        return
    if isinstance(body.get("model"), (str, type(None))):
        body["model"] = "chat"
    if path.startswith("/api/"):
        options = body.setdefault("options", {}) if path != "/api/show" else None
        if isinstance(options, dict):
            shorten(options, "num_predict")
    elif path.endswith("/completions"):
        shorten(body, "max_tokens")
        if "chat" in path:
            body.pop("max_completion_tokens", None) if is_natural(body.get("max_completion_tokens")) else None
            if body.get("top_logprobs") is not None and body.get("logprobs") in (None, False):
                body["logprobs"] = True
        for name in ("n", "best_of"):
            if is_natural(body.get(name)) and body[name] <= 128:
                body[name] = 2
        if body.get("stream_options") is not None and body.get("stream") in (None, False):
            body["stream"] = True


@schemathesis.deserializer("application/x-ndjson")
def lines(context, response):
    return [json.loads(line) for line in response.content.splitlines()]
