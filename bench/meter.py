"""Run commands at once and tell what they took; small, since a child's peak memory begins with that of its parent.

Reads `{"commands": [[...], ...]}` as JSON from standard input and prints `{"wall": seconds, "cpu": seconds, "memory":
MiB, "failed": [...]}`: CPU time and the sum of the peaks by the kernel's account of each child, wait4(2).
"""

import json
import os
import sys
import tempfile
import time


def main() -> None:
    commands = json.load(sys.stdin)["commands"]
    with tempfile.TemporaryFile() as words:
        quiet = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0), (os.POSIX_SPAWN_DUP2, words.fileno(), 2)]
        began = time.perf_counter()
        children = [os.posix_spawnp(argv[0], argv, os.environ, file_actions=quiet) for argv in commands]
        ends = [os.wait4(child, 0) for child in children]
        wall = time.perf_counter() - began
        words.seek(0)
        failed = words.read().decode(errors="replace")[-2000:] if any(status for _, status, _ in ends) else ""
    used = [usage for _, _, usage in ends]
    cpu = sum(usage.ru_utime + usage.ru_stime for usage in used)
    memory = sum(usage.ru_maxrss for usage in used) / 1024
    json.dump({"wall": wall, "cpu": cpu, "memory": memory, "failed": failed}, sys.stdout)


if __name__ == "__main__":
    main()
