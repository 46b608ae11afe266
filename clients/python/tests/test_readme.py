# SPDX-License-Identifier: Apache-2.0
import asyncio
import contextlib
import io
import os
import re
import textwrap
import unittest

import mmfree

from .support import HAS_SHARING, Daemon

README = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "README.md")


@unittest.skipUnless(os.path.exists(README), "the README is not here")
class Readme(unittest.TestCase):
    def test_its_blocks_work_when_pasted(self):
        with open(README) as file:
            blocks = re.findall(r"```python\n(.*?)```", file.read(), re.S)
        self.assertGreaterEqual(len(blocks), 3)
        daemon = Daemon()
        self.addCleanup(daemon.close)
        places = {"MMFREED_SOCKET": daemon.socket, "MMFREED_SHARE_SOCKET": daemon.share_socket}
        os.environ.update(places)
        self.addCleanup(lambda: [os.environ.pop(name) for name in places])
        try:
            import numpy  # noqa: F401
        except ImportError:
            blocks = [re.sub(r"(?m)^.*embed_array.*$", "", block) for block in blocks]
        for block in blocks:
            if "share(" in block and not HAS_SHARING:
                continue
            with self.subTest(block), contextlib.redirect_stdout(io.StringIO()):
                if "async with" in block:
                    space = {"mmfree": mmfree}
                    exec("async def main():\n" + textwrap.indent(block, "    "), space)
                    asyncio.run(space["main"]())
                else:
                    exec(block, {"mmfree": mmfree})
