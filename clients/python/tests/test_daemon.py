# SPDX-License-Identifier: Apache-2.0
"""Against a real daemon and the demonstration model."""

import asyncio
import json
import math
import os
import threading
import time
import unittest
from unittest import mock

import mmfree
from mmfree import _methods

from .support import HAS_SHARING, Daemon

try:
    import numpy
except ImportError:
    numpy = None

try:
    import prometheus_client.parser as prometheus
except ImportError:
    prometheus = None

PROMPT = "Once upon a time"
# The original code's own continuation, greedy.
STORY = " there lived a King and Queen who had a little daughter, and she had a little daughter, and she had a little"
# An answer without end: the end of text is forbidden.
ENDLESS = {"temperature": 0.0, "logit_bias": {2: -100.0}, "max_tokens": 100_000}


def setUpModule():
    global daemon
    daemon = Daemon("max_tokens=100000")


def tearDownModule():
    daemon.close()


def until(what, seconds=60):
    end = time.monotonic() + seconds
    while not what():
        if time.monotonic() > end:
            raise AssertionError("waited in vain")
        time.sleep(0.01)


class Inference(unittest.TestCase):
    def setUp(self):
        self.client = mmfree.Client(daemon.socket, timeout=60)
        self.addCleanup(self.client.close)

    def test_a_session_goes_on_like_its_fork_and_its_saved_state(self):
        session = self.client.create_session(model="demo", name="talk", ttl=60).session
        first = self.client.generate(PROMPT, max_tokens=8, temperature=0.0, session=session)
        first.read()
        self.assertEqual(first.finished.session_tokens, self.client.get_session(session).tokens)
        fork = self.client.fork_session(session).session
        restored = self.client.restore_session(self.client.save_session(session)).session
        options = {"max_tokens": 8, "temperature": 0.0}
        answers = {self.client.generate("and then", session=each, **options).read() for each in (session, fork, restored)}
        self.assertEqual(len(answers), 1)
        self.assertEqual({each.session for each in self.client.sessions()}, {session, fork, restored})
        for each in (session, fork, restored):
            self.client.drop_session(each)
        with self.assertRaises(mmfree.NotFound):
            self.client.generate(PROMPT, session=session).read()
        with self.assertRaises(mmfree.InvalidArgument):
            self.client.restore_session(b"nothing")

    def test_a_state_larger_than_a_request_is_restored_in_parts_and_damaged_leaves_nothing(self):
        session = self.client.create_session(model="demo", ttl=60).session
        self.client.generate(PROMPT, max_tokens=8, temperature=0.0, session=session).read()
        state = self.client.save_session(session)
        damaged = bytearray(state)
        damaged[len(damaged) // 2] ^= 1

        async def restored():
            async with mmfree.AsyncClient(daemon.socket) as client:
                info = await client.restore_session(state, name="parts")
                return info, await client.save_session(info.session)

        with mock.patch.multiple(_methods, STATE_IN_ONE=0, STATE_PART=len(state) // 7):
            info = self.client.restore_session(state, name="parts")
            other, saved = asyncio.run(restored())
            with self.assertRaises(mmfree.InvalidArgument):
                self.client.restore_session(bytes(damaged))
        self.assertEqual(self.client.save_session(info.session), state)
        self.assertEqual(saved, state)
        self.assertEqual((info.name, info.incomplete, other.name), ("parts", False, "parts"))
        mine = {session, info.session, other.session}
        self.assertEqual({each.session for each in self.client.sessions()}, mine)
        for each in mine:
            self.client.drop_session(each)

    def test_a_greedy_answer_is_the_original_codes(self):
        answer = self.client.generate(PROMPT, max_tokens=24, temperature=0.0)
        pieces = list(answer)
        self.assertEqual("".join(map(str, pieces)), STORY)
        self.assertEqual(sum(len(piece.tokens) for piece in pieces), 24)
        self.assertEqual(answer.started.model, "demo")
        self.assertEqual((answer.finished.reason, answer.finished.usage.completion_tokens), (mmfree.FinishReason.LENGTH, 24))

    def test_an_answer_obeys_its_schema_pattern_or_grammar(self):
        schema = {
            "type": "object",
            "properties": {"name": {"type": "string", "maxLength": 8}, "age": {"type": "integer", "minimum": 10, "maximum": 99}},
            "required": ["name", "age"],
            "additionalProperties": False,
        }
        found = json.loads(self.client.generate(PROMPT, json_schema=schema, seed=5, max_tokens=200).read())
        self.assertEqual(list(found), ["name", "age"])
        self.assertTrue(10 <= found["age"] <= 99 and len(found["name"]) <= 8)
        self.assertRegex(self.client.generate(PROMPT, regex="(yes|no){3}").read(), r"\A(yes|no){3}\Z")
        self.assertIn(self.client.generate(PROMPT, grammar='root ::= "up" | "down"').read(), ("up", "down"))
        with self.assertRaises(mmfree.InvalidArgument) as caught:
            self.client.generate(PROMPT, json_schema={"properties": {"a": {"not": {}}}}).read()
        self.assertIn("#/properties/a/not", caught.exception.message)
        with self.assertRaises(ValueError):
            self.client.generate(PROMPT, regex="a", json_object=True)

    def test_a_seed_repeats_an_answer(self):
        first = self.client.generate(PROMPT, max_tokens=20)
        text = first.read()
        self.assertEqual(self.client.generate(PROMPT, max_tokens=20, seed=first.started.seed).read(), text)

    def test_token_ids_are_taken_as_they_are(self):
        tokens = self.client.tokenize(PROMPT, add_bos=True).tokens
        self.assertEqual(tokens, (1, 1879, 674, 261, 514))
        self.assertEqual(self.client.generate(tokens, max_tokens=24, temperature=0.0).read(), STORY)

    def test_detokenize_undoes_tokenize(self):
        text = "Zoë said \N{SNOWMAN}\n\ttwice"
        self.assertEqual(self.client.detokenize(self.client.tokenize(text).tokens), text)

    def test_a_model_without_a_chat_template_tells_what_supplies_one(self):
        with self.assertRaisesRegex(mmfree.NotFound, r"demo\.jinja supplies one"):
            self.client.chat_template()

    def test_stop_strings_and_echo(self):
        answer = self.client.generate(PROMPT, temperature=0.0, stop=" who", echo=True)
        self.assertEqual(answer.read(), PROMPT + " there lived a King and Queen")
        self.assertEqual(answer.finished.reason, mmfree.FinishReason.STOP)

    def test_logprobs_come_with_the_tokens(self):
        (piece,) = [p for p in self.client.generate(PROMPT, max_tokens=1, temperature=0.0, logprobs=2) if p.logprobs]
        chosen = piece.logprobs[0].chosen
        self.assertEqual((chosen.token, chosen.text), (439, b" there"))
        self.assertEqual(len(piece.logprobs[0].top), 2)
        self.assertLess(chosen.logprob, 0)

    def test_scores_are_what_generate_reports(self):
        answer = self.client.generate(PROMPT, max_tokens=3, temperature=0.0, logprobs=2, echo=True)
        pieces = list(answer)
        tokens = [token for piece in pieces for token in piece.tokens]
        reported = answer.prompt_logprobs[1:] + tuple(each for piece in pieces for each in piece.logprobs)
        self.assertTrue(math.isnan(answer.prompt_logprobs[0].chosen.logprob))
        prompt = [each.chosen.token for each in answer.prompt_logprobs]
        found = self.client.score(prompt + tokens, top=2)
        self.assertEqual(found.scores, reported)
        self.assertEqual((found.first, found.usage.prompt_tokens), (1, len(prompt) + 3))
        self.assertEqual(self.client.score(PROMPT, top=2).scores, answer.prompt_logprobs[1:])
        self.assertEqual(self.client.score(prompt + tokens, start=len(prompt), top=2).scores, reported[-3:])
        with self.assertRaises(mmfree.InvalidArgument):
            self.client.score([1])

        async def again():
            async with mmfree.AsyncClient(daemon.socket) as client:
                generation = client.generate(PROMPT, max_tokens=1, logprobs=2, echo=True)
                await generation.read()
                return await client.score(prompt + tokens, top=2), generation.prompt_logprobs

        scores, prompts = asyncio.run(again())
        self.assertEqual(scores.scores, reported)
        self.assertEqual(prompts[1:], answer.prompt_logprobs[1:])

    def test_vectors_have_length_one_where_that_is_asked_for(self):
        first, second = self.client.embed(["a text", [1, 439]], normalize=True)
        self.assertEqual(len(first), len(second))
        for vector in (first, second):
            self.assertAlmostEqual(math.sqrt(sum(x * x for x in vector)), 1, places=4)

    def test_vectors_of_tokens_have_the_last_one_that_pooling_gives(self):
        (tokens,) = self.client.embed_tokens([PROMPT])
        self.assertEqual(len(tokens), 5)
        self.assertEqual(tokens[-1], self.client.embed([PROMPT], pooling="last")[0])

    @unittest.skipIf(numpy is None, "numpy is not installed")
    def test_an_array_holds_the_same_vectors(self):
        texts = [f"text {n}" for n in range(5)]
        array = self.client.embed_array(texts)
        self.assertEqual((array.dtype, array.tolist()), (numpy.float32, self.client.embed(texts)))

    def test_no_inputs_have_no_vectors_or_a_refusal_that_says_so(self):
        try:
            self.assertEqual(self.client.embed([]), [])
        except mmfree.InvalidArgument as error:
            self.assertEqual(error.violations[0].subject, "input")

    def test_the_daemon_tells_of_itself(self):
        self.assertTrue(self.client.healthy())
        self.assertIn("ttrpc 1.2", self.client.info().protocol)
        self.assertEqual(self.client.status().state, "serving")
        self.assertEqual([model.name for model in self.client.models().models], ["demo"])

    @unittest.skipIf(prometheus is None, "prometheus_client is not installed")
    def test_metrics_are_what_prometheus_reads(self):
        self.client.generate(PROMPT, max_tokens=5, temperature=0.0).read()
        families = {family.name: family for family in prometheus.text_string_to_metric_families(self.client.metrics())}
        (written,) = [s for s in families["mmfreed_completion_tokens"].samples if s.labels["account"] == str(os.getuid())]
        self.assertGreaterEqual(written.value, 5)
        self.assertEqual(families["gen_ai_server_time_to_first_token_seconds"].type, "histogram")
        self.assertEqual({family.documentation == "" for family in families.values()}, {False})


class Errors(unittest.TestCase):
    def setUp(self):
        self.client = mmfree.Client(daemon.socket, timeout=60)
        self.addCleanup(self.client.close)

    def test_an_unknown_model_is_not_found(self):
        with self.assertRaises(mmfree.NotFound) as caught:
            self.client.generate("x", model="none").read()
        self.assertIsNone(caught.exception.retry_after)

    def test_a_wrong_field_is_named(self):
        with self.assertRaises(mmfree.InvalidArgument) as caught:
            self.client.generate("x", top_p=2.0).read()
        self.assertEqual(caught.exception.violations[0].subject, "top_p")

    def test_a_deadline_that_passes_before_an_answer(self):
        with self.assertRaises(mmfree.DeadlineExceeded):
            self.client.tokenize("x" * 100_000, timeout=1e-9)

    def test_a_deadline_that_passes_during_an_answer_ends_it(self):
        answer = self.client.generate(PROMPT, timeout=1.0, **ENDLESS)
        self.assertGreater(len(answer.read()), 0)
        self.assertEqual(answer.finished.reason, mmfree.FinishReason.DEADLINE)

    def test_a_request_that_is_too_large_is_refused_and_the_connection_lives(self):
        with self.assertRaises(mmfree.ResourceExhausted):
            self.client.tokenize("x" * (5 << 20))
        self.assertEqual(self.client.detokenize([439]), "there")


class Concurrency(unittest.TestCase):
    def setUp(self):
        self.client = mmfree.Client(daemon.socket, timeout=60)
        self.addCleanup(self.client.close)

    def test_calls_of_several_threads_share_a_connection(self):
        answers = []
        ask = lambda: answers.append(self.client.generate(PROMPT, max_tokens=24, temperature=0.0).read())  # noqa: E731
        threads = [threading.Thread(target=ask) for _ in range(8)]
        connection = self.client._connected()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        self.assertEqual(answers, [STORY] * 8)
        self.assertIs(self.client._connected(), connection)

    def test_other_calls_may_be_made_between_two_pieces(self):
        answer, again = self.client.generate(PROMPT, max_tokens=24, temperature=0.0), []
        for piece in answer:
            again.append(self.client.detokenize(piece.tokens))
        self.assertEqual("".join(again), STORY.replace(" ", ""))

    def test_leaving_one_answer_ends_it_alone(self):
        kept = self.client.generate(PROMPT, **ENDLESS)
        next(kept)
        for piece in self.client.generate(PROMPT, **ENDLESS):
            self.assertEqual(self.client.status().active, 2)
            break
        until(lambda: self.client.status().active == 1)
        self.assertGreater(len(next(kept).text), 0)
        kept.close()
        until(lambda: self.client.status().active == 0)

    def test_an_answer_can_be_cancelled_by_its_id_from_elsewhere(self):
        answer = self.client.generate(PROMPT, **ENDLESS)
        next(answer)
        with mmfree.Client(daemon.socket) as other:
            self.assertTrue(other.cancel(answer.started.request_id))
        answer.read()
        self.assertEqual(answer.finished.reason, mmfree.FinishReason.CANCELLED)


class Restarts(unittest.TestCase):
    def test_a_killed_daemon_is_reported_once_and_its_successor_is_used(self):
        own = Daemon("max_tokens=100000")
        self.addCleanup(own.close)
        with mmfree.Client(own.socket, timeout=60) as client:
            answer = client.generate(PROMPT, **ENDLESS)
            next(answer)
            own.kill()
            self.assertRaises(mmfree.ConnectionLost, answer.read)
            self.assertRaises(mmfree.ConnectionFailed, client.status)
            os.unlink(own.socket)
            own.start()
            client.wait()
            self.assertEqual(client.generate(PROMPT, max_tokens=24, temperature=0.0).read(), STORY)


class Async(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        self.client = mmfree.AsyncClient(daemon.socket, timeout=60)
        self.addAsyncCleanup(self.client.close)

    async def test_tasks_share_a_connection(self):
        asked = [self.client.generate(PROMPT, max_tokens=24, temperature=0.0).read() for _ in range(8)]
        self.assertEqual(await asyncio.gather(*asked), [STORY] * 8)
        with mmfree.Client(daemon.socket) as client:
            self.assertEqual(await self.client.embed(["x"]), client.embed(["x"]))

    async def test_cancelling_a_task_ends_its_answer_alone(self):
        kept = self.client.generate(PROMPT, **ENDLESS)
        await anext(kept)
        task = asyncio.create_task(self.client.generate(PROMPT, **ENDLESS).read())
        while (await self.client.status()).active != 2:
            await asyncio.sleep(0.01)
        task.cancel()
        with self.assertRaises(asyncio.CancelledError):
            await task
        while (await self.client.status()).active != 1:
            await asyncio.sleep(0.01)
        self.assertGreater(len((await anext(kept)).text), 0)
        await kept.close()

    async def test_errors_are_the_same(self):
        with self.assertRaises(mmfree.NotFound):
            await self.client.generate("x", model="none").read()
        with self.assertRaises(mmfree.InvalidArgument):
            await self.client.detokenize([1 << 31])

    @unittest.skipUnless(HAS_SHARING, "this daemon shares no models")
    async def test_a_model_is_shared(self):
        with await self.client.share("demo") as shared:
            self.assertEqual(shared.mmap[:4], b"GGUF")


@unittest.skipUnless(HAS_SHARING, "this daemon shares no models")
class Sharing(unittest.TestCase):
    def setUp(self):
        self.client = mmfree.Client(daemon.socket, timeout=60)
        self.addCleanup(self.client.close)

    def test_the_mapping_is_the_file_that_is_served(self):
        (model,) = self.client.models().models
        with self.client.share() as shared, open(model.path, "rb") as file:
            self.assertEqual((shared.name, shared.digest, shared.size), ("demo", model.digest, model.file_bytes))
            self.assertEqual(shared.mmap[:], file.read())
            if shared.protection == mmfree.Protection.PLAIN:
                self.assertEqual(os.fstat(shared.fd).st_ino, os.stat(model.path).st_ino)

    def test_a_model_is_found_by_its_digest(self):
        digest = self.client.models().models[0].digest
        with self.client.share(digest=digest) as shared:
            self.assertEqual(shared.name, "demo")

    def test_neither_the_mapping_nor_the_descriptor_can_be_written(self):
        with self.client.share() as shared:
            with self.assertRaises(TypeError):
                shared.mmap[0] = 0
            self.assertRaises(OSError, os.write, shared.fd, b"x")
            self.assertRaises(OSError, os.ftruncate, shared.fd, 0)

    def test_errors_are_those_of_calls(self):
        with self.assertRaises(mmfree.NotFound):
            self.client.share("none")
        with self.assertRaises(mmfree.FailedPrecondition):
            self.client.share("demo", digest="0" * 64)

    def test_closing_gives_back_every_descriptor(self):
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(20):
            self.client.share().close()
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)
