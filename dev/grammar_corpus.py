#!/usr/bin/env python3
"""Schemas of the kinds that apps send, drawn from a seed: one JSON document a line.

    dev/grammar_corpus.py [COUNT [SEED]]      200 of seed 1

Each is written as one of those does who make them: OpenAI's strict mode (all members required, absent ones null, definitions), pydantic
(titles, defaults, optional members, other members allowed), zod (draft 7, bounds of integers, closed objects), calls of tools (one of
several, each with its name and arguments) and hand-written ones (patterns, bounds, tuples, maps)."""
import json
import random
import sys

NOUNS = ("name title id email address city country price amount quantity status kind category tags items owner note rating score "
         "created_at due_date url phone currency total color size weight query limit offset filters language summary answer steps "
         "reason confidence label unit value start end location temperature description priority version").split()
WORDS = "open closed pending active draft low medium high red green blue small large celsius fahrenheit asc desc user admin en de".split()
PATTERNS = ["^[a-z]+$", "^[A-Z]{3}$", "^[a-z0-9]+(?:-[a-z0-9]+)*$", r"^\d{4}$", r"^\d{5}(?:-\d{4})?$", "^#[0-9a-f]{6}$", r"^v\d+\.\d+\.\d+$",
            "^[A-Z]{2}-[0-9]{1,6}$", r"^\+[1-9]\d{6,14}$", "^(?:yes|no|maybe)$", r"^\S+$", "^[A-Za-z_][A-Za-z0-9_]*$", "[0-9]", "^sk-"]
FORMATS = ["date", "date-time", "time", "uuid", "email", "uri", "ipv4", "hostname"]
# How often a leaf is of each type, and a text of each kind: what such apps' schemas are made of, most of all plain texts.
LEAVES = ["string"] * 10 + ["integer"] * 4 + ["number"] * 2 + ["boolean"] * 3 + ["enum"] * 4
TEXTS = ["plain"] * 11 + ["lengths"] * 3 + ["pattern"] * 3 + ["format"]


class Author:
    """Draws schemas; `style` is how its objects are written."""

    def __init__(self, chance, style):
        self.chance, self.style, self.definitions, self.open = chance, style, {}, set()

    def pick(self, list_):
        return self.chance.choice(list_)

    def text(self):
        schema, kind = {"type": "string"}, self.pick(TEXTS)
        if kind == "lengths":
            least = self.pick([None, 1, 1, 3])
            most = self.pick([None, 8, 20, 64, 255])
            schema |= {} if least is None else {"minLength": least}
            schema |= {} if most is None else {"maxLength": most}
        elif kind == "pattern":
            schema["pattern"] = self.pick(PATTERNS)
        elif kind == "format":
            schema["format"] = self.pick(FORMATS)
        return schema

    def integer(self):
        low, high = self.pick([(None, None), (None, None), (0, None), (1, None), (0, 100), (1, 10), (1, 5), (-90, 90), (1900, 2100), (1, 65535)])
        schema = {"type": "integer"}
        if self.style == "zod":
            # As its numbers are: what a double holds.
            low, high = (-9007199254740991 if low is None else low), (9007199254740991 if high is None else high)
        if low is not None:
            positive = low == 1 and self.chance.random() < 0.3
            schema |= {"exclusiveMinimum": 0} if positive else {"minimum": low}
        return schema if high is None else schema | {"maximum": high}

    def number(self):
        bounds = [{}, {}, {"minimum": 0}, {"minimum": 0, "maximum": 1}, {"minimum": -180, "maximum": 180}, {"minimum": 0, "maximum": 100},
                  {"exclusiveMinimum": 0}, {"minimum": 0.5, "maximum": 9.75}]
        return {"type": "number"} | self.pick(bounds)

    def choice(self):
        values = self.chance.sample(WORDS, self.pick([1, 2, 3, 4, 6]))
        if len(values) == 1:
            return {"const": values[0]} | ({"type": "string"} if self.chance.random() < 0.5 else {})
        return {"enum": values} | ({"type": "string"} if self.chance.random() < 0.8 else {})

    def leaf(self):
        kind = self.pick(LEAVES)
        return {"string": self.text, "integer": self.integer, "number": self.number, "enum": self.choice,
                "boolean": lambda: {"type": "boolean"}}[kind]()

    def nullable(self, schema):
        if self.style == "openai" and set(schema) == {"type"}:
            return {"type": [schema["type"], "null"]}
        return {"anyOf": [schema, {"type": "null"}]} | ({"default": None} if self.style == "pydantic" else {})

    def value(self, depth):
        turn = self.chance.random()
        if depth <= 0 or turn < 0.62:
            schema = self.leaf()
            return self.nullable(schema) if self.chance.random() < 0.15 else schema
        if turn < 0.8:
            return self.array(depth - 1)
        if turn < 0.93:
            return self.object(depth - 1)
        if turn < 0.97 and self.style in ("openai", "pydantic"):
            return self.reference(depth - 1)
        if turn < 0.985:
            return {"type": "object", "additionalProperties": self.leaf()}
        return {"anyOf": [{"type": "string"}, {"type": "integer"}, {"type": "boolean"}][:self.pick([2, 3])]}

    def array(self, depth):
        least, most = self.pick([(None, None), (None, None), (1, None), (None, 5), (1, 3), (2, 2)])
        schema = {"type": "array", "items": self.value(depth)}
        if least is not None:
            schema["minItems"] = least
        return schema if most is None else schema | {"maxItems": most}

    def reference(self, depth):
        name = self.pick(["Address", "Item", "Person", "Money"])
        if name in self.open:  # one that needs itself has no value that ends
            return self.leaf()
        if name not in self.definitions:
            self.open.add(name)
            self.definitions[name] = self.object(depth)
            self.open.remove(name)
        return {"$ref": f"#/$defs/{name}"}

    def object(self, depth, least=1):
        names = self.chance.sample(NOUNS, self.chance.randint(max(least, 1), 6))
        properties = {name: self.value(depth) for name in names}
        if self.style == "pydantic":
            for name, schema in properties.items():
                if "$ref" not in schema:
                    schema["title"] = name.replace("_", " ").title()
                    if self.chance.random() < 0.3:
                        schema["description"] = f"The {name}."
        schema = {"type": "object", "properties": properties}
        required = names if self.style in ("openai", "tool") else [name for name in names if self.chance.random() < 0.7]
        if required or self.style != "pydantic":
            schema["required"] = required
        if self.style in ("openai", "zod", "tool") or self.chance.random() < 0.3:
            schema["additionalProperties"] = False
        return schema

    def root(self):
        if self.style == "tool":
            calls = []
            for name in self.chance.sample(["get_weather", "search", "send_email", "create_event", "run_query"], self.pick([1, 2, 3])):
                call = {"name": {"const": name}, "arguments": self.object(2)}
                calls.append({"type": "object", "properties": call, "required": ["name", "arguments"], "additionalProperties": False})
            return calls[0] if len(calls) == 1 else {"anyOf": calls}
        if self.style == "hand":
            return self.pick([lambda: self.object(2), lambda: self.array(2), self.tuple, self.map, self.tree, self.leaf])()
        schema = self.object(3, least=2)
        if self.style == "zod":
            schema["$schema"] = "http://json-schema.org/draft-07/schema#"
        if self.style == "pydantic":
            schema["title"] = "Answer"
        return schema | ({"$defs": self.definitions} if self.definitions else {})

    def tuple(self):
        items = [self.leaf() for _ in range(self.pick([2, 3]))]
        return {"type": "array", "prefixItems": items, "items": False, "minItems": len(items)}

    def map(self):
        return {"type": "object", "additionalProperties": self.value(1)} | self.pick([{}, {"maxProperties": 3}])

    def tree(self):
        node = {"type": "object", "properties": {"label": self.leaf(), "children": {"type": "array", "items": {"$ref": "#/$defs/node"}}},
                "required": ["label", "children"], "additionalProperties": False}
        return {"$ref": "#/$defs/node", "$defs": {"node": node}}


def corpus(count=200, seed=1):
    styles = ["openai", "pydantic", "zod", "tool", "hand"]
    schemas, number = [], 0
    while len(schemas) < count:
        schema = Author(random.Random(f"{seed} {number}"), styles[number % len(styles)]).root()
        number += 1
        if schema not in schemas:
            schemas.append(schema)
    return schemas


if __name__ == "__main__":
    for schema in corpus(*map(int, sys.argv[1:3])):
        print(json.dumps(schema))
