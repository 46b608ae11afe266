# SPDX-License-Identifier: Apache-2.0
"""Against false daemons: what only they can be made to do."""

import asyncio
import gc
import os
import threading
import unittest

import mmfree
from mmfree import _messages

from .support import False_, end, exactly, piece, request, response

TOKENS = _messages.message_class("mmfree.v1.TokenizeResponse")(tokens=[7]).SerializeToString()


class False_Test(unittest.TestCase):
    def serve(self, serve):
        daemon = False_(serve)
        self.addCleanup(daemon.close)
        client = mmfree.Client(daemon.path, timeout=60)
        self.addCleanup(client.close)
        return client


class Reconnecting(False_Test):
    def test_one_answer_is_asked_for_again_when_the_connection_breaks_and_then_no_more(self):
        asked = []

        def serve(connection):
            asked.append(request(connection)[3].method)

        client = self.serve(serve)
        with self.assertRaises(mmfree.ConnectionLost) as caught:
            client.tokenize("x")
        self.assertEqual(asked, ["Tokenize", "Tokenize"])
        self.assertEqual(caught.exception.retry_after, 0.1)

    def test_a_generation_is_not_begun_twice(self):
        asked = []

        def serve(connection):
            stream, _, _, what = request(connection)
            asked.append(what.method)
            connection.sendall(piece(stream, "half"))

        pieces = self.serve(serve).generate("x")
        self.assertEqual(next(pieces).text, "half")
        self.assertRaises(mmfree.ConnectionLost, next, pieces)
        self.assertEqual(asked, ["Generate"])

    def test_a_connection_that_was_closed_while_idle_is_replaced_before_a_generation(self):
        closed = threading.Event()
        count = []

        def serve(connection):
            count.append(1)
            stream = request(connection)[0]
            if len(count) == 1:
                connection.sendall(response(stream, TOKENS))
                connection.close()
                closed.set()
            else:
                connection.sendall(piece(stream, "whole") + end(stream))

        client = self.serve(serve)
        client.tokenize("x")
        closed.wait(30)
        self.assertEqual(client.generate("x").read(), "whole")

    def test_a_daemon_that_stops_is_left_and_the_next_call_connects_anew(self):
        info = _messages.message_class("google.rpc.ErrorInfo")(reason="DRAINING")
        delay = _messages.message_class("google.rpc.RetryInfo")()
        delay.retry_delay.nanos = 250_000_000
        details = [("google.rpc.ErrorInfo", info), ("google.rpc.RetryInfo", delay)]
        count = []

        def serve(connection):
            count.append(1)
            stream = request(connection)[0]
            if len(count) == 1:
                connection.sendall(response(stream, code=14, message="stopping", details=details))
                connection.settimeout(30)
                connection.recv(1)  # until the client hangs up
            else:
                connection.sendall(response(stream, TOKENS))

        client = self.serve(serve)
        with self.assertRaises(mmfree.Unavailable) as caught:
            client.tokenize("x")
        self.assertEqual(caught.exception.retry_after, 0.25)
        self.assertEqual(client.tokenize("x").tokens, (7,))

    def test_a_forked_child_connects_for_itself(self):
        def serve(connection):
            while True:
                connection.sendall(response(request(connection)[0], TOKENS))

        daemon = False_(lambda connection: threading.Thread(target=_quiet(serve), args=(connection.dup(),)).start())
        self.addCleanup(daemon.close)
        with mmfree.Client(daemon.path, timeout=60) as client:
            client.tokenize("x")
            child = os.fork()
            if child == 0:
                os._exit(0 if client.tokenize("x").tokens == (7,) else 1)
            self.assertEqual(os.waitpid(child, 0)[1], 0)
            self.assertEqual(client.tokenize("x").tokens, (7,))


def _quiet(serve):
    def run(connection):
        with connection:
            try:
                serve(connection)
            except OSError:
                pass

    return run


class Backpressure(False_Test):
    def test_an_answer_nobody_takes_is_not_read_from_the_socket(self):
        written, full = [], threading.Event()
        offered, text = 64 << 20, piece(1, "x" * 1000)

        def serve(connection):
            request(connection)
            connection.sendall(piece(1, "first"))
            connection.setblocking(False)
            rest = b""
            try:
                while not rest and sum(written) < offered:
                    written.append(connection.send(text))
                    rest = text[written[-1] :]
            except BlockingIOError:
                pass
            full.set()
            connection.setblocking(True)
            connection.sendall(rest + end(1))
            connection.recv(1)

        pieces = self.serve(serve).generate("x")
        self.assertEqual(next(pieces).text, "first")
        self.assertTrue(full.wait(60))
        self.assertLess(sum(written), 4 << 20)
        self.assertEqual(set(pieces.read()), {"x"})


class Leaving(False_Test):
    def frames_after(self, leave):
        """What the daemon hears after a client left a generation by `leave(pieces)`; another call follows."""
        heard = []

        def serve(connection):
            stream = request(connection)[0]
            connection.sendall(piece(stream, "x"))
            heard.append(request(connection)[:3])
            stream = request(connection)[0]
            connection.sendall(response(stream, TOKENS))
            connection.recv(1)

        client = self.serve(serve)
        pieces = client.generate("x")
        next(pieces)
        leave(pieces)
        del pieces
        gc.collect()
        self.assertEqual(client.tokenize("x").tokens, (7,))
        return heard

    def test_dropping_the_iterator_cancels_its_call(self):
        self.assertEqual(self.frames_after(lambda pieces: None), [(1, 3, 5)])

    def test_closing_it_cancels_its_call(self):
        self.assertEqual(self.frames_after(lambda pieces: pieces.close()), [(1, 3, 5)])

    def test_closing_from_another_thread_wakes_who_waits(self):
        def serve(connection):
            stream = request(connection)[0]
            self.assertEqual(request(connection)[:3], (stream, 3, 5))
            connection.sendall(response(stream, code=1, message="cancelled"))
            connection.recv(1)

        pieces = self.serve(serve).generate("x")
        threading.Timer(0.05, pieces.close).start()
        self.assertRaises(mmfree.Cancelled, next, pieces)

    def test_closing_the_client_wakes_who_waits(self):
        client = self.serve(lambda connection: exactly(connection, 1 << 20))
        pieces = client.generate("x")
        threading.Timer(0.05, client.close).start()
        self.assertRaises(mmfree.Cancelled, next, pieces)


class Deadlines(False_Test):
    def test_a_daemon_that_does_not_keep_the_deadline_is_not_waited_for(self):
        heard = []

        def serve(connection):
            heard.append(request(connection)[3].timeout_nano)
            heard.append(request(connection)[:3])
            connection.recv(1)

        grace, mmfree.client._connection.GRACE = mmfree.client._connection.GRACE, 0.05
        try:
            with self.assertRaises(mmfree.DeadlineExceeded):
                self.serve(serve).tokenize("x", timeout=0.1)
        finally:
            mmfree.client._connection.GRACE = grace
        self.assertEqual(heard[0], 100_000_000)

    def test_a_timeout_is_above_zero(self):
        for timeout in (0, -1, float("nan")):
            with self.assertRaises(ValueError):
                mmfree.Client("/nonexistent", timeout=timeout)


class Refusals(False_Test):
    def test_where_nobody_listens_the_path_is_named(self):
        with self.assertRaises(mmfree.ConnectionFailed) as caught:
            mmfree.Client("/nonexistent/mmfreed.sock").status()
        self.assertEqual(str(caught.exception), "UNAVAILABLE: no daemon is listening on /nonexistent/mmfreed.sock")

    def test_a_path_that_is_too_long_or_a_wrong_url_is_refused(self):
        for path in ("x" * 108, "", "unix://relative"):
            with self.assertRaises(ValueError):
                mmfree.Client(path).status()

    def test_nonsense_ends_the_connection_with_a_protocol_error(self):
        def serve(connection):
            request(connection)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            connection.recv(1)

        with self.assertRaises(mmfree.ProtocolError):
            self.serve(serve).tokenize("x")

    def test_an_answer_that_cannot_be_decoded_is_a_protocol_error(self):
        def serve(connection):
            connection.sendall(response(request(connection)[0], b"\xff"))
            connection.recv(1)

        with self.assertRaises(mmfree.ProtocolError):
            self.serve(serve).tokenize("x")

    def test_wrong_arguments_are_told_before_anything_is_sent(self):
        client = mmfree.Client("/nonexistent")
        self.assertRaises(TypeError, client.embed, "a text")
        self.assertRaises(TypeError, client.generate, b"bytes")
        self.assertRaises(TypeError, client.generate, "x", temprature=1)
        self.assertRaises(ValueError, client.embed, ["x"], pooling="max")


class Async(unittest.IsolatedAsyncioTestCase):
    async def serve(self, serve):
        daemon = False_(serve)
        self.addCleanup(daemon.close)
        client = mmfree.AsyncClient(daemon.path, timeout=60)
        self.addAsyncCleanup(client.close)
        return client

    async def test_cancelling_a_task_cancels_its_call(self):
        heard = []

        def serve(connection):
            stream = request(connection)[0]
            heard.append(stream)
            heard.append(request(connection)[:3])
            connection.sendall(response(request(connection)[0], TOKENS))
            connection.recv(1)

        client = await self.serve(serve)
        task = asyncio.create_task(client.generate("x").read())
        while not heard:
            await asyncio.sleep(0.01)
        task.cancel()
        with self.assertRaises(asyncio.CancelledError):
            await task
        self.assertEqual((await client.tokenize("x")).tokens, (7,))
        self.assertEqual(heard, [1, (1, 3, 5)])

    async def test_a_connection_that_was_closed_while_idle_is_replaced(self):
        def serve(connection):
            connection.sendall(response(request(connection)[0], TOKENS))

        client = await self.serve(serve)
        for _ in range(3):
            self.assertEqual((await client.tokenize("x")).tokens, (7,))

    async def test_one_answer_is_asked_for_again_when_the_connection_breaks_and_then_no_more(self):
        asked = []
        client = await self.serve(lambda connection: asked.append(request(connection)[3].method))
        with self.assertRaises(mmfree.ConnectionLost):
            await client.tokenize("x")
        self.assertEqual(asked, ["Tokenize", "Tokenize"])

    async def test_the_socket_is_read_while_somebody_waits_and_while_nothing_is_under_way(self):
        def serve(connection):
            stream = request(connection)[0]
            connection.sendall(piece(stream, "first"))
            request(connection)
            connection.sendall(piece(stream, "second") + end(stream))
            connection.recv(1)

        def is_reading():
            return client._connection._transport.is_reading()

        client = await self.serve(serve)
        pieces = client.generate("x")
        self.assertEqual((await anext(pieces)).text, "first")
        self.assertFalse(is_reading())
        second = asyncio.create_task(anext(pieces))
        await asyncio.sleep(0)
        self.assertTrue(is_reading())
        client._connection.start("s", "Go", b"", streaming=False, timeout=None)
        self.assertEqual((await second).text, "second")
        self.assertFalse(is_reading())
        await pieces.close()
