#!/usr/bin/env python3
"""Checks with clang's -Wthread-safety that no member is used without the mutex that guards it.

    tests/locks.py [DIRECTORY]      DIRECTORY: the repository, unless another is named

Reads the sources that lock something (core/parallel/mutex.h, absl::Mutex), or include of ours what does:
whoever calls a function that has to be called under a lock need not name one. They are compiled as
build/release/compile_commands.json says to GCC; what includes generated messages needs them there. Versions of clang differ in what they find, so one judges: clang 19. Says SKIPPED without it.
"""

import concurrent.futures
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "release"
VERSION = 19
HOUSES = ("core/", "server/", "client/", "proto/wire/")
LOCKS = re.compile(r"\b(Mutex|MutexLock|ABSL_GUARDED_BY|ABSL_\w*LOCKS?_(REQUIRED|EXCLUDED|FUNCTION))\b")
DEFINES_LOCKS = "core/parallel/mutex.h"
INCLUDE = re.compile(r'#include "([^"]+)"')


def tool(name):
    found = shutil.which(f"{name}-{VERSION}")
    if found is None:
        print(f"SKIPPED: {name}-{VERSION} is not installed")
        sys.exit(0)
    return found


def name_of(path):
    return pathlib.Path(path).resolve().relative_to(ROOT).as_posix()


def units():
    """Returns (file to compile, flags that say what it means, our sources in it) of each object."""
    result = []
    for entry in json.loads((BUILD / "compile_commands.json").read_text(encoding="utf-8")):
        words = shlex.split(entry["command"])
        flags = []
        for at, word in enumerate(words):
            if word.startswith(("-I", "-D", "-std")):
                flags.append(word)
            elif word == "-isystem":
                flags += [word, words[at + 1]]
        file = pathlib.Path(entry["file"])
        sources = INCLUDE.findall(file.read_text(encoding="utf-8")) if "Unity" in file.parts else [file]
        sources = [name_of(source) for source in sources if ROOT in pathlib.Path(source).resolve().parents]
        result.append((file, flags, sources))
    return result


def with_includes(name, found):
    """Adds to `found` a source of ours and what of ours it includes, in turn. Returns it."""
    path = ROOT / name
    if name not in found and name.startswith(HOUSES) and path.is_file():
        found[name] = path.read_text(encoding="utf-8")
        for include in INCLUDE.findall(found[name]):
            with_includes(include, found)
    return found


def run_all(commands):
    """Runs commands side by side. Returns what the failed ones said, in order."""
    def run(command):
        ended = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               text=True, check=False)
        return ended.stdout if ended.returncode != 0 else None
    with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return [said for said in pool.map(run, commands) if said is not None]


def end(faults, what):
    print("\n".join(faults) or what)
    sys.exit(1 if faults else 0)


def main():
    global ROOT, BUILD
    ROOT = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ROOT).resolve()
    BUILD = ROOT / "build" / "release"
    clang = tool("clang++")
    commands = []
    for file, flags, sources in units():
        read = {}
        for source in sources:
            with_includes(source, read)
        if any(LOCKS.search(text) for name, text in read.items() if name != DEFINES_LOCKS):
            commands.append([clang, "-fsyntax-only", "-Wno-everything", "-Wthread-safety", "-Werror",
                             *flags, str(file)])
    if not commands:
        end(["no source locks anything: this is not the repository"], "")
    end(run_all(commands), f"locks: {len(commands)} compiled")


if __name__ == "__main__":
    main()
