# SPDX-License-Identifier: Apache-2.0
"""Reads a FileDescriptorSet with source information, without a protobuf library: for the generators of this folder."""
import sys

# The packages whose comments are kept.
PACKAGES = {"mmfree.v1"}
BOOL, STRING, MESSAGE, BYTES, ENUM = 8, 9, 11, 12, 14


class Proto:
    """One message of descriptor.proto, as lists of values by field number."""

    def __init__(self, data):
        self.fields = {}
        at = 0

        def varint():
            nonlocal at
            value = shift = 0
            while True:
                byte = data[at]
                at += 1
                value |= (byte & 127) << shift
                shift += 7
                if byte < 128:
                    return value

        while at < len(data):
            key = varint()
            if key & 7 == 0:
                value = varint()
            elif key & 7 == 2:
                length = varint()
                value = data[at : at + length]
                at += length
            else:
                sys.exit(f"protoset: wire type {key & 7} in the descriptor set")
            self.fields.setdefault(key >> 3, []).append(value)

    def all(self, number):
        return [Proto(value) for value in self.fields.get(number, [])]

    def text(self, number):
        return self.fields.get(number, [b""])[-1].decode()

    def number(self, number, absent=0):
        value = self.fields.get(number, [absent])[-1]
        return value - (1 << 64) if value >> 63 else value

    def path(self, number):
        packed, value, shift, path = self.fields.get(number, [b""])[-1], 0, 0, []
        for byte in packed:
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                path.append(value)
                value = shift = 0
        return tuple(path)


class Named:
    def __init__(self, file, parent, proto, path):
        self.file, self.parent = file, parent
        self.name = proto.text(1)
        self.full = f"{parent.full if parent else file.package}.{self.name}"
        self.doc = file.docs.get(path, "") if file.package in PACKAGES else ""


class Enum(Named):
    """values: name without the enum's own as a prefix, lower case; number; comment."""

    def __init__(self, file, parent, proto, path):
        super().__init__(file, parent, proto, path)
        prefix = split_camel(self.name).upper() + "_"
        self.values = []
        for index, value in enumerate(proto.all(2)):
            name = value.text(1)
            name = name[len(prefix) :] if name.startswith(prefix) else name
            doc = file.docs.get(path + (2, index), "") if file.package in PACKAGES else ""
            self.values.append((name.lower(), value.number(2), doc))


class Field:
    def __init__(self, message, proto, path):
        self.name, self.repeated, self.type = proto.text(1), proto.number(4) == 3, proto.number(5)
        self.full = f"{message.full}.{self.name}"
        self.type_name = proto.text(6)[1:]
        self.oneof = proto.number(9) if 9 in proto.fields else None
        self.doc = message.file.docs.get(path, "") if message.file.package in PACKAGES else ""
        if 17 in proto.fields:
            sys.exit(f"{self.full}: protobuf-c has no `optional`; make it the one member of a oneof")
        self.is_text = self.type == BYTES and "UTF-8" in self.doc


class Message(Named):
    def __init__(self, file, parent, proto, path):
        super().__init__(file, parent, proto, path)
        self.fields = [Field(self, field, path + (2, i)) for i, field in enumerate(proto.all(2))]
        self.oneofs = [one.text(1) for one in proto.all(8)]
        for field in self.fields:
            if field.oneof is not None and not field.doc and file.package in PACKAGES:
                field.doc = file.docs.get(path + (8, field.oneof), "") if len(self.members(field.oneof)) == 1 else ""
        self.messages = [Message(file, self, m, path + (3, i)) for i, m in enumerate(proto.all(3))]
        self.enums = [Enum(file, self, e, path + (4, i)) for i, e in enumerate(proto.all(4))]

    def members(self, oneof):
        return [field for field in self.fields if field.oneof == oneof]


class File:
    def __init__(self, proto):
        self.path, self.package = proto.text(1), proto.text(2)
        self.docs = {}
        for info in proto.all(9):
            for place in info.all(1):
                text = "\n".join(filter(None, (place.text(3).strip(), place.text(4).strip())))
                if text:
                    self.docs[place.path(1)] = "\n".join(line.strip() for line in text.split("\n"))
        self.messages = [Message(self, None, m, (4, i)) for i, m in enumerate(proto.all(4))]
        self.enums = [Enum(self, None, e, (5, i)) for i, e in enumerate(proto.all(5))]
        self.inputs = {m.text(2)[1:] for service in proto.all(6) for m in service.all(2)}


class ProtoSet:
    """All files of a set, and their messages and enums by full name."""

    def __init__(self, path):
        with open(path, "rb") as descriptors:
            self.files = [File(file) for file in Proto(descriptors.read()).all(1)]
        self.types = {}

        def add(message):
            self.types[message.full] = message
            self.types.update((enum.full, enum) for enum in message.enums)
            for inner in message.messages:
                add(inner)

        for file in self.files:
            for message in file.messages:
                add(message)
            self.types.update((enum.full, enum) for enum in file.enums)
        self.inputs = set().union(*(file.inputs for file in self.files))

    def reachable(self, names):
        """The full names of these messages and of all that they refer to."""
        found, todo = set(), list(names)
        while todo:
            name = todo.pop()
            if name not in found:
                found.add(name)
                if isinstance(self.types[name], Message):
                    todo += [field.type_name for field in self.types[name].fields if field.type_name]
        return found


def split_camel(name):
    out, before = "", True
    for letter in name:
        out += ("_" if letter.isupper() and not before else "") + letter.lower()
        before = letter.isupper()
    return out
