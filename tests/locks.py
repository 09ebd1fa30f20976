#!/usr/bin/env python3
"""Checks with clang's -Wthread-safety that no member is used without the mutex that guards it.

    tests/locks.py [DIRECTORY]      DIRECTORY: the repository, unless another is named

Reads the sources that lock something (core/parallel/mutex.h, absl::Mutex), or include of ours what does:
whoever calls a function that has to be called under a lock need not name one. What includes generated
messages needs a build. Says SKIPPED without clang 19.
"""

import pathlib
import re
import sys

import clang

LOCKS = re.compile(r"\b(Mutex|MutexLock|ABSL_GUARDED_BY|ABSL_\w*LOCKS?_(REQUIRED|EXCLUDED|FUNCTION))\b")
DEFINES_LOCKS = "core/parallel/mutex.h"


def with_includes(root, name, found):
    """Adds to `found` a source of ours and what of ours it includes, in turn. Returns it."""
    path = root / name
    if name not in found and name.startswith(clang.HOUSES) and path.is_file():
        found[name] = path.read_text(encoding="utf-8")
        for include in clang.INCLUDE.findall(found[name]):
            with_includes(root, include, found)
    return found


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent.parent).resolve()
    compiler = clang.tool("clang++")
    commands = []
    for file, flags, sources in clang.units(root):
        read = {}
        for source in sources:
            with_includes(root, source, read)
        if any(LOCKS.search(text) for name, text in read.items() if name != DEFINES_LOCKS):
            commands.append([compiler, "-fsyntax-only", "-Wno-everything", "-Wthread-safety", "-Werror",
                             *flags, str(file)])
    if not commands:
        clang.end(["no source locks anything: this is not the repository"], "")
    clang.end(clang.run_all(root, commands), f"locks: {len(commands)} compiled")


if __name__ == "__main__":
    main()
