# SPDX-License-Identifier: Apache-2.0
import unittest

from mmfree import _streams
from mmfree._streams import BACKLOG_LIMIT, DATA, FRAME_LIMIT, NO_DATA, PATIENCE, REMOTE_CLOSED, SILENCE, Streams
from mmfree.errors import Aborted, Cancelled, ConnectionLost, NotFound, ProtocolError, ResourceExhausted

from .support import end, frame, piece, response


def opened(count=1, streaming=False):
    streams = Streams()
    return streams, *(streams.open("s", "m", b"", streaming=streaming, timeout=None) for _ in range(count))


class Frames(unittest.TestCase):
    def test_a_unary_tokenize_has_the_bytes_that_the_protocol_shows(self):
        streams = Streams()
        streams.open("mmfree.v1.Inference", "Tokenize", b"\x12\x02hi\x18\x01", streaming=False, timeout=None)
        shown = b"\x0a\x13mmfree.v1.Inference\x12\x08Tokenize\x1a\x06\x12\x02hi\x18\x01"
        self.assertEqual(bytes(streams.outbox[0]), bytes.fromhex("00000027 00000001 0100") + shown)

    def test_answers_are_the_same_wherever_reads_cut_them(self):
        whole = piece(3, "a") + response(1, b"one") + piece(3, "b") + end(3)
        for cut in range(len(whole) + 1):
            streams, first, second = Streams(), None, None
            first = streams.open("s", "m", b"", streaming=False, timeout=None)
            second = streams.open("s", "m", b"", streaming=True, timeout=None)
            streams.receive(whole[:cut])
            streams.receive(whole[cut:])
            self.assertEqual(first.answer(), b"one")
            self.assertEqual([second.take(), second.take(), second.take()], [b"\x12\x01a", b"\x12\x01b", None])

    def test_a_status_is_an_exception_with_its_details(self):
        streams, call = opened()
        info = _streams._messages.message_class("google.rpc.ErrorInfo")(reason="NO_MODEL")
        streams.receive(response(1, code=5, message="no such model", details=[("google.rpc.ErrorInfo", info)]))
        with self.assertRaises(NotFound) as caught:
            call.answer()
        self.assertEqual((str(caught.exception), caught.exception.reason), ("NOT_FOUND: no such model", "NO_MODEL"))

    def test_frames_of_unknown_streams_are_passed_over(self):
        streams, call = opened()
        self.assertEqual(streams.receive(response(99, b"x") + response(1, b"y")), [call])
        self.assertEqual(call.answer(), b"y")

    def test_what_is_no_frame_of_a_daemon_is_refused(self):
        for header in (frame(1, 1), frame(1, 9), _streams.HEADER.pack(FRAME_LIMIT + 1, 1, DATA, 0)):
            with self.assertRaises(ProtocolError):
                opened()[0].receive(header)

    def test_a_response_that_is_no_message_ends_its_call_alone(self):
        streams, first, second = opened(2)
        streams.receive(frame(1, 2, 0, b"\xff\xff") + response(3, b"fine"))
        self.assertRaises(ProtocolError, first.answer)
        self.assertEqual(second.answer(), b"fine")

    def test_a_request_that_fits_no_frame_is_not_sent(self):
        streams = Streams()
        with self.assertRaises(ResourceExhausted):
            streams.open("s", "m", bytes(FRAME_LIMIT), streaming=False, timeout=None)
        self.assertEqual((len(streams.outbox), streams.calls), (0, {}))


class Ends(unittest.TestCase):
    def test_cancelling_tells_the_daemon_and_touches_no_other_call(self):
        streams, first, second = opened(2, streaming=True)
        streams.outbox.clear()
        streams.cancel(first, Cancelled("no"))
        self.assertEqual(list(streams.outbox), [frame(1, DATA, REMOTE_CLOSED | NO_DATA)])
        streams.receive(piece(1, "late") + piece(3, "x"))
        self.assertRaises(Cancelled, first.take)
        self.assertEqual(second.take(), b"\x12\x01x")

    def test_cancelling_a_call_that_has_ended_changes_nothing(self):
        streams, call = opened()
        streams.receive(response(1, b"x"))
        streams.outbox.clear()
        streams.cancel(call, Cancelled("no"))
        self.assertEqual((call.answer(), len(streams.outbox)), (b"x", 0))

    def test_an_answer_nobody_takes_is_cut_at_its_limit_and_the_others_live(self):
        streams, slow, quick = opened(2, streaming=True)
        text = "x" * 100_000
        for _ in range(BACKLOG_LIMIT // 100_000 + 1):
            streams.receive(piece(1, text) + piece(3, "y"))
            quick.take()
        self.assertRaises(Aborted, slow.take)
        self.assertEqual(len(slow.messages), 0)
        self.assertIn(3, streams.calls)

    def test_an_answer_that_is_taken_is_of_any_length(self):
        streams, call = opened(1, streaming=True)
        for _ in range(3 * BACKLOG_LIMIT // 1_000_000):
            streams.receive(piece(1, "x" * 1_000_000))
            call.take()
        self.assertEqual((call.backlog, call.end), (0, None))

    def test_what_came_before_the_connection_broke_can_be_taken(self):
        streams, call = opened(1, streaming=True)
        streams.receive(piece(1, "x"))
        streams.fail(ConnectionLost("gone"))
        self.assertEqual(call.take(), b"\x12\x01x")
        self.assertRaises(ConnectionLost, call.take)


class Liveness(unittest.TestCase):
    def test_a_silent_daemon_is_asked_once_and_then_given_up(self):
        streams, _ = opened()
        streams.outbox.clear()
        streams.hear(100)
        self.assertEqual(streams.wait_time(100), SILENCE)
        self.assertEqual(len(streams.outbox), 0)
        self.assertEqual(streams.wait_time(100 + SILENCE), PATIENCE)
        self.assertEqual(streams.wait_time(101 + SILENCE), PATIENCE - 1)
        self.assertEqual(len(streams.outbox), 1)
        with self.assertRaises(ConnectionLost):
            streams.wait_time(100 + SILENCE + PATIENCE)

    def test_a_word_from_it_counts_as_life(self):
        streams, _ = opened()
        streams.hear(100)
        streams.wait_time(100 + SILENCE)
        streams.hear(115)
        self.assertEqual(streams.wait_time(115), SILENCE)
