"""A caller of the daemon in few lines, for measurements: docs/protocol.md, without the libraries that it would hide behind."""
import random
import socket
import struct
import time

INFERENCE, CONTROL, SESSION = b"mmfree.v1.Inference", b"mmfree.v1.Control", b"mmfree.v1.Session"


def varint(n):
    out = b""
    while n > 127:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])


def field(number, value):
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def items(data):
    """The number and value of each field of a message, in their order."""
    at = 0

    def number():
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
        tag = number()
        if tag & 7 == 0:
            yield tag >> 3, number()
        else:
            size = {1: 8, 5: 4}.get(tag & 7)
            size = number() if size is None else size
            yield tag >> 3, data[at : at + size]
            at += size


def fields(data):
    """The last value of each field of a message."""
    return dict(items(data))


def frame(stream, flags, service, method, payload):
    data = field(1, service) + field(2, method) + field(3, payload)
    return struct.pack(">IIBB", len(data), stream, 1, flags) + data


def ids(count, first=5):
    return field(1, b"".join([varint(first)] + [varint(5 + i % 250) for i in range(1, count)]))


class Connection:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(120)
        self.socket.connect(path)
        self.stream = -1

    def close(self):
        self.socket.close()

    def send(self, method, payload, service=INFERENCE, flags=1):
        self.stream += 2
        self.socket.sendall(frame(self.stream, flags, service, method, payload))

    def generate(self, model, prompt=1, tokens=1, seed=1):
        # Begins as no prompt before, so that no prefix of it is known.
        first = random.randrange(300, 30_000)
        sampling = b"\x0d" + struct.pack("<f", 0.8) + field(9, seed)
        self.send(b"Generate", field(1, model.encode()) + field(3, ids(prompt, first)) + field(4, tokens) + field(5, sampling))

    def embed(self, model, inputs, tokens):
        one = field(2, field(2, ids(tokens)))
        self.send(b"Embed", field(1, model.encode()) + one * inputs)

    def read(self, count):
        data = b""
        while len(data) < count:
            part = self.socket.recv(count - len(data))
            if not part:
                raise ConnectionError("closed")
            data += part
        return data

    def frame(self):
        """Kind, flags, data."""
        size, _, kind, flags = struct.unpack(">IIBB", self.read(10))
        return kind, flags, self.read(size)

    def finish(self):
        """When each message of the answer came, in seconds; to the end of the answer."""
        times = []
        while True:
            kind, flags, _ = self.frame()
            if kind == 2 or flags & 1:
                return times
            times.append(time.monotonic())

    def unary(self, service, method, payload):
        self.send(method, payload, service, flags=0)
        return self.frame()[2]
