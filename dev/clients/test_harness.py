# SPDX-License-Identifier: Apache-2.0
"""lm-evaluation-harness at mmfree-gateway ($GATEWAY): its own definitions of the zero-shot tasks on rows made here, against `mmfreectl
eval` ($MMFREECTL) and against a computation from `mmfreectl logits`, both on the packed file $MODEL."""

import io
import json
import os
import subprocess
import sys
import tempfile
import unittest

PLACE = tempfile.TemporaryDirectory()
os.environ |= {"HF_HOME": PLACE.name, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "OPENAI_API_KEY": "any"}

import lm_eval  # noqa: E402
import numpy  # noqa: E402
from lm_eval.models.openai_completions import LocalCompletionsAPI  # noqa: E402
from lm_eval.tasks import TaskManager  # noqa: E402

MODEL, MMFREECTL = os.environ["MODEL"], os.environ["MMFREECTL"]


def arc(question, texts, key):
    return {"question": question, "choices": {"text": texts, "label": list("ABCD"[: len(texts)])}, "answerKey": key}


def openbook(question, texts, key):
    row = arc("", texts, key)
    return {"question_stem": question, "choices": row["choices"], "answerKey": key}


# The harness's file, and rows.
TASKS = {
    "arc_easy": (
        "arc/arc_easy.yaml",
        [
            arc("What does a bird build?", ["a nest", "a castle of stone", "a car", "the moon"], "A"),
            arc("What is cold?", ["fire", "ice and snow", "the big sun"], "B"),
            arc("Where do fish live?", ["in a tree", "up in the sky", "in the water", "under a bed"], "C"),
        ],
    ),
    "arc_challenge": (
        "arc/arc_challenge.yaml",
        [
            arc("Why did the little girl cry?", ["She lost her doll.", "She was happy.", "It was a dog.", "No."], "A"),
            arc("A boy has two apples and eats one. How many are left?", ["two", "one", "three", "none at all"], "B"),
        ],
    ),
    "hellaswag": (
        "hellaswag/hellaswag.yaml",
        [
            {
                "activity_label": "Baking",
                "ctx_a": "A woman stands in the kitchen. [header] She mixes  the dough.",
                "ctx_b": "she THEN",
                "endings": [" puts it in the oven.", "[title] flies away.", " sings a  song [step] to it.", " sleeps."],
                "label": label,
            }
            for label in ("0", "2")
        ],
    ),
    "openbookqa": (
        "openbookqa/openbookqa.yaml",
        [
            openbook("The sun gives us", ["light", "a big red ball", "rain", "cake"], " A"),
            openbook("When it rains, Tom takes his", ["bed", "umbrella", "hat and coat", "dog"], "B"),
        ],
    ),
    "piqa": (
        "piqa/piqa.yaml",
        [
            {"goal": "Make a cake", "sol1": "mix flour and eggs, and bake them", "sol2": "throw it away", "label": 0},
            {"goal": "Find a lost toy", "sol1": "eat it", "sol2": "look under the bed", "label": 1},
        ],
    ),
    "winogrande": (
        "winogrande/default.yaml",
        [
            {"sentence": "The dog chased the cat because _ was angry.", "option1": "the dog", "option2": "the cat", "answer": "1"},
            {"sentence": "Lily gave Tom the ball so _ could play.", "option1": "Lily", "option2": "Tom", "answer": "2"},
        ],
    ),
}


def local_tasks(place: str) -> None:
    """The harness's tasks, on files instead of its hub's data sets."""
    for name, (source, rows) in TASKS.items():
        path = os.path.join(place, name + ".jsonl")
        with open(path, "w", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
        task = {
            "include": os.path.join(os.path.dirname(lm_eval.__file__), "tasks", source),
            "task": "local_" + name,
            "tag": None,
            "dataset_path": "json",
            "dataset_name": None,
            "dataset_kwargs": {"data_files": {"validation": path}},
            "training_split": None,
            "validation_split": "validation",
            "test_split": None,
        }
        with open(os.path.join(place, name + ".yaml"), "w", encoding="utf-8") as file:
            json.dump(task, file)  # which is YAML


class Harness(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        place = PLACE.name
        local_tasks(place)
        cls.model = LocalCompletionsAPI(
            base_url=os.environ["GATEWAY"] + "/v1/completions", model="demo", num_concurrent=1, max_retries=1
        )
        cls.found = lm_eval.simple_evaluate(
            cls.model,
            tasks=["local_" + name for name in TASKS],
            task_manager=TaskManager(include_path=place, include_defaults=False),
            bootstrap_iters=0,
        )
        cls.record = os.path.join(place, "record.json")
        files = [f"{name}={os.path.join(place, name)}.jsonl" for name in TASKS]
        done = subprocess.run(
            [MMFREECTL, "eval", MODEL, *files, "--json", "--resume", cls.record], check=True, stdout=subprocess.PIPE
        )
        cls.own = json.loads(done.stdout)["tasks"]
        with open(cls.record, encoding="utf-8") as file:
            cls.sums = {name: task["results"] for name, task in json.load(file)["tasks"].items()}

    def samples(self, name: str) -> list:
        return sorted(self.found["samples"]["local_" + name], key=lambda sample: sample["doc_id"])

    def test_the_gateway_is_its_tokenizer(self) -> None:
        self.assertEqual(self.model.tokenizer_backend, "remote")

    def test_as_many_right_as_mmfreectl_eval(self) -> None:
        for name, (_, rows) in TASKS.items():
            theirs = self.found["results"]["local_" + name]
            self.assertEqual(self.own[name]["questions"], len(rows))
            self.assertAlmostEqual(theirs["acc,none"], self.own[name]["acc"], places=12, msg=name)
            if name != "winogrande":
                self.assertAlmostEqual(theirs["acc_norm,none"], self.own[name]["acc_norm"], places=12, msg=name)

    def test_log_probabilities_of_mmfreectl_eval_and_of_logits(self) -> None:
        for name, (_, rows) in TASKS.items():
            samples = self.samples(name)
            self.assertEqual(len(samples), len(rows))
            for sample, own in zip(samples, self.sums[name]):
                theirs = [answer[0][0] for answer in sample["resps"]]
                pairs = [pair[:2] for pair in sample["arguments"]]
                self.assertEqual(len(theirs), len(own))
                for found, known, pair in zip(theirs, own, pairs):
                    self.assertAlmostEqual(found, known, delta=1e-4, msg=(name, pair))
                    self.assertAlmostEqual(found, self.from_logits(*pair), delta=1e-4, msg=(name, pair))

    def from_logits(self, context: str, rest: str) -> float:
        """log p(rest | context), by float64 of all logits."""
        head = self.model.tok_encode(context)
        whole = self.model.tok_encode(context + rest)
        done = subprocess.run(
            [MMFREECTL, "logits", MODEL, "--tokens", ",".join(map(str, whole)), "-o", "-"],
            check=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        rows = numpy.load(io.BytesIO(done.stdout)).astype(numpy.float64)
        rows -= rows.max(axis=1, keepdims=True)
        rows -= numpy.log(numpy.exp(rows).sum(axis=1, keepdims=True))
        return sum(rows[place - 1, whole[place]] for place in range(len(head), len(whole)))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
