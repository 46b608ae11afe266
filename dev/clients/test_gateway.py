# SPDX-License-Identifier: Apache-2.0
"""What apps do with the clients of PyPI, at mmfree-gateway ($GATEWAY). Each test is a claim about a client that is not ours."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import unittest

BASE = os.environ["GATEWAY"]
V1 = BASE + "/v1"
PROMPT = "Once upon a time"


class OpenAI(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        import openai

        cls.openai = openai
        cls.client = openai.OpenAI(base_url=V1, api_key="any", max_retries=0)

    @classmethod
    def tearDownClass(cls) -> None:
        cls.client.close()

    def complete(self, **more):
        return self.client.completions.create(
            model="demo", prompt=PROMPT, max_tokens=12, seed=7, **more
        )

    def test_models(self) -> None:
        self.assertEqual({m.id for m in self.client.models.list()}, {"demo", "chat"})
        self.assertEqual(self.client.models.retrieve("demo").id, "demo")

    def test_completion_and_stream_agree(self) -> None:
        whole = self.complete()
        parts = list(self.complete(stream=True, stream_options={"include_usage": True}))
        text = "".join(p.choices[0].text for p in parts if p.choices)
        self.assertEqual(text, whole.choices[0].text)
        self.assertEqual(parts[-1].usage, whole.usage)
        self.assertEqual(parts[0].system_fingerprint, whole.system_fingerprint)
        self.assertEqual(whole.usage.completion_tokens, 12)
        self.assertEqual(whole.choices[0].finish_reason, "length")

    def test_logprobs(self) -> None:
        choice = self.complete(logprobs=2).choices[0]
        self.assertEqual("".join(choice.logprobs.tokens), choice.text)
        self.assertTrue(all(p <= 0 for p in choice.logprobs.token_logprobs))

    def test_async(self) -> None:
        async def run() -> str:
            async with self.openai.AsyncOpenAI(base_url=V1, api_key="any") as client:
                stream = await client.completions.create(
                    model="demo", prompt=PROMPT, max_tokens=12, seed=7, stream=True
                )
                return "".join([p.choices[0].text async for p in stream])

        self.assertEqual(asyncio.run(run()), self.complete().choices[0].text)

    def test_several_at_once(self) -> None:
        async def run() -> list:
            async with self.openai.AsyncOpenAI(base_url=V1, api_key="any") as client:
                return await asyncio.gather(
                    *(
                        client.completions.create(
                            model="demo", prompt=PROMPT, max_tokens=12, seed=seed
                        )
                        for seed in range(8)
                    )
                )

        texts = [a.choices[0].text for a in asyncio.run(run())]
        self.assertEqual(texts[7], self.complete().choices[0].text)

    def test_chat(self) -> None:
        messages = [{"role": "user", "content": PROMPT}]
        whole = self.client.chat.completions.create(
            model="chat", messages=messages, seed=7, max_completion_tokens=12
        )
        stream = self.client.chat.completions.create(
            model="chat", messages=messages, seed=7, max_tokens=12, stream=True
        )
        text = "".join(p.choices[0].delta.content or "" for p in stream)
        self.assertEqual(text, whole.choices[0].message.content)
        pieces = []
        with self.client.chat.completions.stream(
            model="chat", messages=messages, seed=7, max_tokens=12
        ) as events:
            try:
                pieces = [e.delta for e in events if e.type == "content.delta"]
            except self.openai.LengthFinishReasonError:
                self.fail("the end of an answer is no fault of a stream's")
        self.assertEqual("".join(pieces), text)

    def test_structured_output(self) -> None:
        schema = {"type": "object", "properties": {"a": {"enum": ["x", "y"]}}}
        schema |= {"required": ["a"], "additionalProperties": False}
        answer = self.client.chat.completions.create(
            model="chat",
            messages=[{"role": "user", "content": PROMPT}],
            max_tokens=60,
            seed=7,
            response_format={
                "type": "json_schema",
                "json_schema": {"name": "n", "strict": True, "schema": schema},
            },
        )
        self.assertIn(json.loads(answer.choices[0].message.content)["a"], ("x", "y"))
        self.assertEqual(answer.choices[0].finish_reason, "stop")

    def test_no_chat_template(self) -> None:
        with self.assertRaises(self.openai.BadRequestError) as caught:
            self.client.chat.completions.create(
                model="demo", messages=[{"role": "user", "content": "a"}]
            )
        self.assertEqual(caught.exception.code, "no_chat_template")

    def test_embeddings(self) -> None:
        # base64, which the SDK asks for by itself
        coded = self.client.embeddings.create(model="demo", input=["a", "b"])
        plain = self.client.embeddings.create(
            model="demo", input=["a", "b"], encoding_format="float"
        )
        for a, b in zip(coded.data, plain.data):
            self.assertEqual(len(a.embedding), len(b.embedding))
            self.assertTrue(all(abs(x - y) < 1e-7 for x, y in zip(a.embedding, b.embedding)))
            self.assertAlmostEqual(sum(x * x for x in a.embedding), 1, places=5)

    def test_errors(self) -> None:
        with self.assertRaises(self.openai.NotFoundError) as caught:
            self.client.completions.create(model="gpt-4", prompt="a")
        self.assertEqual(caught.exception.code, "model_not_found")
        with self.assertRaises(self.openai.BadRequestError) as caught:
            self.complete(extra_body={"top_q": 1})
        self.assertEqual(caught.exception.param, "top_q")

    def test_closing_a_stream_is_no_fault(self) -> None:
        stream = self.client.completions.create(
            model="demo", prompt=PROMPT, max_tokens=2000, stream=True
        )
        next(iter(stream))
        stream.close()
        self.assertEqual(len(self.complete().choices), 1)


class OtherClients(unittest.TestCase):
    def test_langchain(self) -> None:
        from langchain_openai import ChatOpenAI, OpenAIEmbeddings
        from langchain_openai import OpenAI as Completion

        answer = Completion(model="demo", base_url=V1, api_key="any", max_tokens=8).invoke(PROMPT)
        self.assertTrue(answer)
        chat = ChatOpenAI(model="chat", base_url=V1, api_key="any", max_tokens=8, seed=3)
        whole = chat.invoke(PROMPT).content
        self.assertEqual("".join(p.content for p in chat.stream(PROMPT)), whole)
        embeddings = OpenAIEmbeddings(
            model="demo", base_url=V1, api_key="any", check_embedding_ctx_length=False
        )
        self.assertEqual(len(embeddings.embed_documents(["a", "b"])), 2)

    def test_litellm(self) -> None:
        os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
        import litellm

        messages = [{"role": "user", "content": PROMPT}]
        more = {"api_base": V1, "api_key": "any", "max_tokens": 8, "seed": 3}
        whole = litellm.completion(model="openai/chat", messages=messages, **more)
        parts = litellm.completion(model="openai/chat", messages=messages, stream=True, **more)
        text = "".join(p.choices[0].delta.content or "" for p in parts)
        self.assertEqual(text.strip(), whole.choices[0].message.content.strip())
        answer = litellm.text_completion(
            model="text-completion-openai/demo", prompt=PROMPT, **more
        )
        self.assertTrue(answer.choices[0].text)

    def test_llm(self) -> None:
        running = []
        for model in ("local", "local-chat"):
            for more in ([], ["--no-stream"]):
                # A directory each, for it keeps a log there.
                place = os.path.join(os.environ["LLM_USER_PATH"], str(len(running)))
                os.makedirs(place)
                with open(place + "/extra-openai-models.yaml", "w", encoding="utf-8") as file:
                    file.write(
                        f'- {{model_id: local, model_name: demo, api_base: "{V1}", completion: true}}\n'
                        f'- {{model_id: local-chat, model_name: chat, api_base: "{V1}"}}\n'
                    )
                process = subprocess.Popen(
                    [sys.executable, "-m", "llm", "-m", model, "-o", "max_tokens", "8", *more]
                    + ["--key", "any", PROMPT],
                    env=os.environ | {"LLM_USER_PATH": place},
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
                running.append(process)
        for process in running:
            out, err = process.communicate(timeout=300)
            self.assertEqual(process.returncode, 0, err)
            self.assertTrue(out.strip())

    def test_ollama(self) -> None:
        import ollama

        client = ollama.Client(host=BASE)
        self.assertEqual({m.model for m in client.list().models}, {"demo:latest", "chat:latest"})
        self.assertEqual(client.show("demo").details.format, "gguf")
        options = {"seed": 5, "num_predict": 8}
        whole = client.generate("demo", PROMPT, options=options)
        parts = list(client.generate("demo", PROMPT, options=options, stream=True))
        self.assertEqual("".join(p.response for p in parts), whole.response)
        self.assertEqual(parts[-1].eval_count, 8)
        messages = [{"role": "user", "content": PROMPT}]
        chat = client.chat("chat", messages, options=options)
        parts = client.chat("chat", messages, options=options, stream=True)
        self.assertEqual("".join(p.message.content for p in parts), chat.message.content)
        self.assertEqual(len(client.embed("demo", ["a", "b"]).embeddings), 2)
        with self.assertRaises(ollama.ResponseError):
            client.generate("none", PROMPT)

    def test_unix_socket(self) -> None:
        with socket.socket(socket.AF_UNIX) as peer:
            peer.connect(os.environ["GATEWAY_SOCKET"])
            peer.sendall(b"GET /v1/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            answer = b""
            while part := peer.recv(65536):
                answer += part
        self.assertTrue(answer.startswith(b"HTTP/1.1 200"))


if __name__ == "__main__":
    unittest.main()
