"""Runs a shell script on a terminal of its own, and prints all output. Further arguments
are pairs: a text to wait for, and the input to send then. Each text is looked for after
the one before."""

import os
import pty
import sys

pid, fd = pty.fork()
if pid == 0:
    os.execvp("sh", ["sh", "-c", sys.argv[1]])
seen, at, steps = b"", 0, [arg.encode() for arg in sys.argv[2:]]
while True:
    try:
        chunk = os.read(fd, 4096)
    except OSError:  # the terminal has no other user
        break
    if not chunk:
        break
    seen += chunk
    while steps and seen.find(steps[0], at) >= 0:
        at = seen.find(steps[0], at) + len(steps[0])
        os.write(fd, steps[1])
        steps = steps[2:]
os.waitpid(pid, 0)
sys.stdout.buffer.write(seen)
