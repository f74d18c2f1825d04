"""The program as somebody in front of a terminal sees it."""

import contextlib
import os
import pty
import subprocess
import sys
import threading


def on_a_terminal(*words: str, columns: int = 80, piped: bool = False) -> tuple[int, str, str]:
    """Run the program with a terminal as its stderr, and as its stdout unless that is piped.

    Returns:
        The exit code, what came through the pipe, and what was drawn.
    """
    environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": str(columns)}
    environment.pop("NO_COLOR", None)
    reading, writing = pty.openpty()
    drawn = bytearray()

    def watch() -> None:
        with contextlib.suppress(OSError):  # the end of a terminal whose last writer is gone
            while data := os.read(reading, 4096):
                drawn.extend(data)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "fluxsrc", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if piped else writing,
            stderr=writing,
            env=environment,
            check=False,
        )
    finally:
        os.close(writing)  # else the watcher, and with it the test run, would wait for ever
        watcher.join()
        os.close(reading)
    return done.returncode, (done.stdout or b"").decode(), drawn.decode()
