# SPDX-License-Identifier: Apache-2.0
"""Against false share sockets: what only they can be made to do."""

import os
import socket
import tempfile
import unittest

import mmfree
from mmfree import _messages

from .support import False_


def answer(size):
    return _messages.message_class("mmfree.v1.ShareResponse")(
        name="m", digest="d", file_bytes=size, format_version=1, protection=2
    ).SerializeToString()


class FalseShares(unittest.TestCase):
    def setUp(self):
        self.file = tempfile.TemporaryFile()
        self.file.write(b"GGUF" + bytes(8188))
        self.file.flush()
        self.addCleanup(self.file.close)

    def ask(self, data, fds, **wanted):
        """What share() makes of an answer; no descriptor may be left open."""
        heard = []

        def serve(connection):
            heard.append(connection.recv(4096))
            socket.send_fds(connection, [data], fds)

        false = False_(serve, socket.SOCK_SEQPACKET, "share.sock")
        self.addCleanup(false.close)
        before = set(os.listdir("/proc/self/fd"))
        try:
            with mmfree.share(path=false.path, timeout=60, **wanted) as shared:
                return heard[0], shared.mmap[:], repr(shared)
        finally:
            after = {fd for fd in os.listdir("/proc/self/fd") if fd not in before}
            leaked = [fd for fd in after if os.path.exists(f"/proc/self/fd/{fd}") and "deleted" in os.readlink(f"/proc/self/fd/{fd}")]
            self.assertEqual(leaked, [])

    def test_one_descriptor_and_its_description(self):
        asked, mapped, shown = self.ask(answer(8192), [self.file.fileno()], model="m")
        self.assertEqual((asked, mapped), (b"\n\x01m", b"GGUF" + bytes(8188)))
        self.assertEqual(shown, "SharedModel('m', digest='d', size=8192, protection=SEALED)")

    def test_a_status_without_descriptor_is_an_exception(self):
        status = _messages.message_class("google.rpc.Status")(code=5, message="no such model").SerializeToString()
        with self.assertRaises(mmfree.NotFound):
            self.ask(status, [])

    def test_more_than_one_descriptor_is_refused_and_all_are_closed(self):
        with self.assertRaises(mmfree.ProtocolError):
            self.ask(answer(8192), [self.file.fileno()] * 3)

    def test_a_file_shorter_than_what_is_said_is_refused(self):
        with self.assertRaises(mmfree.ProtocolError):
            self.ask(answer(8193), [self.file.fileno()])

    def test_a_description_that_cannot_be_decoded_is_refused(self):
        with self.assertRaises(mmfree.ProtocolError):
            self.ask(b"\xff\xff", [self.file.fileno()])

    def test_a_closed_connection_is_a_failure(self):
        false = False_(lambda connection: None, socket.SOCK_SEQPACKET, "share.sock")
        self.addCleanup(false.close)
        with self.assertRaises(mmfree.ConnectionFailed):
            mmfree.share(path=false.path, timeout=60)

    def test_a_socket_that_says_nothing_is_given_up_in_time(self):
        false = False_(lambda connection: connection.recv(1) and connection.recv(1), socket.SOCK_SEQPACKET, "share.sock")
        self.addCleanup(false.close)
        with self.assertRaises(mmfree.DeadlineExceeded):
            mmfree.share("model", path=false.path, timeout=0.05)

    def test_the_environment_names_another_socket(self):
        os.environ["MMFREED_SHARE_SOCKET"] = "/nonexistent/share"
        try:
            with self.assertRaises(mmfree.ConnectionFailed) as caught:
                mmfree.share()
        finally:
            del os.environ["MMFREED_SHARE_SOCKET"]
        self.assertIn("/nonexistent/share", caught.exception.message)
