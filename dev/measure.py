"""What parts of dev/figures have in common: the programs (of $BIN, or built), models made once, a daemon, and the form of a figure."""
import json
import os
import subprocess
import sys
import tempfile

bin = os.environ.get("BIN")
if not bin:
    subprocess.run(["dev/build-release"], check=True, stdout=sys.stderr)
    bin = ".build/static"
ctl = os.path.join(bin, "mmfreectl")
cache = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "mmfreed-figures", "serving")
short = False


def figure(name, value, unit, goal=None, ok=True):
    """A line; without a goal it is there to be looked at."""
    global short
    short |= not ok
    print(f"{name} | {value:.4g} {unit} | " + (f"{goal} | {'ok' if ok else 'short'}" if goal else "-"), flush=True)


def finish():
    sys.exit(1 if short else 0)


def model(shape):
    """A directory with a packed file of this shape alone, and the file."""
    if shape == "demo":
        return "models", "models/demo.gguf"
    place = os.path.join(cache, shape)
    path = os.path.join(place, f"{shape}.gguf")
    if not os.path.exists(path):
        os.makedirs(place, exist_ok=True)
        subprocess.run([ctl, "bench-client", "--make", shape, "--output", path], check=True, stdout=sys.stderr)
    return place, path


def rows(*command, **options):
    lines = subprocess.run(command, check=True, capture_output=True, text=True, **options).stdout.splitlines()
    return {row["name"]: row for row in map(json.loads, lines)}


def median(values):
    return sorted(values)[len(values) // 2]


class Daemon:
    """A daemon with a socket of its own; ends with the block."""

    def __init__(self, models, *options, programs=bin):
        self.place = tempfile.TemporaryDirectory(prefix="mmfreed-figures.")
        socket = os.path.join(self.place.name, "mmfreed.sock")
        self.environment = dict(os.environ, MMFREED_SOCKET=socket)
        self.command = [os.path.join(programs, "mmfreed"), "--socket", socket, "--models", models, *options]

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stderr=subprocess.DEVNULL)
        subprocess.run([ctl, "wait"], check=True, env=self.environment)
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()
        self.place.cleanup()
