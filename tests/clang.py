"""What checks that read our sources with clang share: the sources as build/release/compile_commands.json
compiles them with GCC. Versions of clang differ in what they find, so one judges: clang 19."""

import concurrent.futures
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

VERSION = 19
HOUSES = ("core/", "server/", "client/", "proto/wire/")
INCLUDE = re.compile(r'#include "([^"]+)"')


def tool(name):
    """Returns the path of a tool, or ends this check as one that cannot run."""
    found = shutil.which(f"{name}-{VERSION}")
    if found is None:
        print(f"SKIPPED: {name}-{VERSION} is not installed")
        sys.exit(0)
    return found


def units(root):
    """Returns (file to compile, flags that say what it means, our sources in it) of each object that has some
    of the houses."""
    result = []
    text = (root / "build/release/compile_commands.json").read_text(encoding="utf-8")
    for entry in json.loads(text):
        words = shlex.split(entry["command"])
        flags = []
        for at, word in enumerate(words):
            if word.startswith(("-I", "-D", "-std")):
                flags.append(word)
            elif word == "-isystem":
                flags += [word, words[at + 1]]
        file = pathlib.Path(entry["file"])
        sources = INCLUDE.findall(file.read_text(encoding="utf-8")) if "Unity" in file.parts else [file]
        paths = [pathlib.Path(source).resolve() for source in sources]
        names = [path.relative_to(root).as_posix() for path in paths if root in path.parents]
        names = [name for name in names if name.startswith(HOUSES)]
        if names:
            result.append((file, flags, names))
    return result


def run_all(root, commands):
    """Runs commands side by side. Returns what the failed ones said, in order."""
    def run(command):
        ended = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
        # clang-tidy counts the warnings that it does not show on stderr.
        return (ended.stdout.strip() or ended.stderr) if ended.returncode != 0 else None
    with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return [said for said in pool.map(run, commands) if said is not None]


def end(faults, what):
    print("\n".join(faults) or what)
    sys.exit(1 if faults else 0)
