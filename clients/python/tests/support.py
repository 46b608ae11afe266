# SPDX-License-Identifier: Apache-2.0
"""A real daemon ($MMFREED, the program; $MMFREED_MODELS, a directory), and false ones that say what a test wants."""

import os
import socket
import subprocess
import tempfile
import threading
import time

from mmfree import _messages
from mmfree._streams import DATA, HEADER, NO_DATA, REMOTE_CLOSED, RESPONSE


class Daemon:
    def __init__(self, *settings):
        self.place = tempfile.TemporaryDirectory()
        self.socket = os.path.join(self.place.name, "mmfreed.sock")
        self.share_socket = os.path.join(self.place.name, "share.sock")
        self.settings = settings
        self.start()

    def start(self):
        arguments = [os.environ["MMFREED"], "--socket", self.socket, "--models", os.environ["MMFREED_MODELS"]]
        if HAS_SHARING:
            arguments += ["--share-socket", self.share_socket]
        for setting in self.settings:
            arguments += ["--set", setting]
        self.log = open(os.path.join(self.place.name, "log"), "a")
        self.process = subprocess.Popen(arguments, stderr=self.log, stdout=self.log)
        end = time.monotonic() + 60
        while not self._listens():
            if self.process.poll() is not None or time.monotonic() > end:
                with open(self.log.name) as log:
                    raise RuntimeError(f"the daemon did not start: {log.read()}")
            time.sleep(0.02)

    def _listens(self):
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(self.socket) == 0

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.log.close()

    def close(self):
        self.process.terminate()
        try:
            self.process.wait(60)
        finally:
            self.process.kill()
            self.process.wait()
            self.log.close()
            self.place.cleanup()


def _has_sharing():
    program = os.environ.get("MMFREED")
    return bool(program) and "--share-socket" in subprocess.run([program, "--help"], capture_output=True, text=True).stdout


HAS_SHARING = _has_sharing()


class False_:
    """A listener whose connections are handed, one after another, to `serve` on a thread."""

    def __init__(self, serve, kind=socket.SOCK_STREAM, name="mmfreed.sock"):
        self.place = tempfile.TemporaryDirectory()
        self.path = os.path.join(self.place.name, "mmfreed.sock")
        self.listener = socket.socket(socket.AF_UNIX, kind)
        self.listener.bind(os.path.join(self.place.name, name))
        self.listener.listen()
        self.serve = serve
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection:
                try:
                    self.serve(connection)
                except OSError:
                    pass

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join(30)
        self.place.cleanup()


def exactly(connection, count):
    data = b""
    while len(data) < count:
        more = connection.recv(count - len(data))
        if not more:
            raise ConnectionError("closed")
        data += more
    return data


def request(connection):
    """The next frame: stream, type, flags, Request or None."""
    length, stream, kind, flags = HEADER.unpack(exactly(connection, HEADER.size))
    data = exactly(connection, length)
    return stream, kind, flags, _messages.parse("ttrpc.Request", data) if kind == 1 else None


def frame(stream, kind, flags=0, data=b""):
    return HEADER.pack(len(data), stream, kind, flags) + data


def response(stream, payload=b"", **status):
    message = _messages.message_class("ttrpc.Response")(payload=payload)
    details = status.pop("details", ())
    if status:
        message.status.code, message.status.message = status["code"], status["message"]
    for kind, detail in details:
        message.status.details.add(type_url=f"type.googleapis.com/{kind}", value=detail.SerializeToString())
    return frame(stream, RESPONSE, 0, message.SerializeToString())


def piece(stream, text):
    message = _messages.message_class("mmfree.v1.GenerateResponse")(text=text.encode())
    return frame(stream, DATA, 0, message.SerializeToString())


def end(stream):
    return frame(stream, DATA, REMOTE_CLOSED | NO_DATA)
