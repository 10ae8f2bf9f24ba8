"""The command in a real pseudo terminal, and what a person sees there."""

import asyncio
import os
import pty
import struct
import sys
from fcntl import ioctl
from termios import TIOCSWINSZ

import pyte


class Terminal:
    """A terminal of a size, with one command in it."""

    def __init__(self, columns, rows):
        self._size = struct.pack("HHHH", rows, columns, 0, 0)
        self._screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self._screen)
        self._changed = asyncio.Event()
        self._is_over = False

    async def start(self, *args, url, api_key, stdout=None):
        """Run `seedance` with these arguments; `stdout` is a file for its results."""
        self._ours, theirs = pty.openpty()
        ioctl(theirs, TIOCSWINSZ, self._size)
        results = theirs if stdout is None else os.open(stdout, os.O_WRONLY | os.O_CREAT)
        known = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
        known |= {"SEEDANCE_BASE_URL": url, "SEEDANCE_API_KEY": api_key}
        self.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "seedance_async.cli", *args),
            env={**known, "TERM": "xterm-256color"},
            stdin=theirs,
            stdout=results,
            stderr=theirs,
            start_new_session=True,
        )
        for each in {theirs, results}:
            os.close(each)
        os.set_blocking(self._ours, False)
        asyncio.get_running_loop().add_reader(self._ours, self._read)

    def _read(self):
        try:
            data = os.read(self._ours, 1 << 16)
        except OSError:  # the command has ended
            data = b""
        if data:
            self._stream.feed(data)
        else:
            asyncio.get_running_loop().remove_reader(self._ours)
            os.close(self._ours)
            self._is_over = True
        self._changed.set()

    def echo(self, text):
        """Show what a terminal echoes of a key, where the cursor is."""
        self._stream.feed(text)

    @property
    def lines(self):
        """What is to be seen, without blank lines."""
        return [line.rstrip() for line in self._screen.display if line.strip()]

    @property
    def text(self):
        """The same as one text."""
        return "\n".join(self.lines)

    async def until(self, words):
        """Wait until these words are to be seen."""
        await self._until(lambda: words in self.text)

    async def ended(self):
        """Wait for the end of the command and of what it shows."""
        await self._until(lambda: self._is_over)
        await self.process.wait()

    async def _until(self, condition):
        async with asyncio.timeout(20):
            while not condition():
                self._changed.clear()
                await self._changed.wait()
