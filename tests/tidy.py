#!/usr/bin/env python3
"""Reads sources of ours with clang-tidy, as .clang-tidy says, and compiles headers each on its own.

    tests/tidy.py [--all] [DIRECTORY]     DIRECTORY: the repository, unless another is named

Reads what differs from HEAD~1 or from HEAD, or is new, up to a number of files that takes a few minutes, and
says how many it left out; with --all everything, which takes half an hour. The tests themselves are not read.
What includes generated messages needs a build. Says SKIPPED without clang-tidy 19.
"""

import argparse
import pathlib
import subprocess
import sys

import clang

MOST_SOURCES = 16
MOST_HEADERS = 32
CONFIG = pathlib.Path(__file__).resolve().parent.parent / ".clang-tidy"


def changed(root):
    """Returns the names of the files that differ from HEAD~1 or from HEAD, or are new."""
    names = set()
    for words in (["diff", "--name-only", "--diff-filter=d", "HEAD~1"],
                  ["diff", "--name-only", "--diff-filter=d", "HEAD"],
                  ["ls-files", "--others", "--exclude-standard"]):
        ended = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=False)
        if ended.returncode == 0:
            names |= set(ended.stdout.split())
        elif "HEAD~1" not in words:  # The first commit differs from none.
            print(f"SKIPPED: git does not say what has changed: {ended.stderr.strip()}")
            sys.exit(0)
    return sorted(names)


def at_most(most, names, what):
    if len(names) > most:
        print(f"NOT READ: {len(names) - most} of {len(names)} {what} that have changed; "
              "tests/run.sh --lint reads all")
    return names[:most]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--all", action="store_true", help="everything, not what has changed")
    parser.add_argument("directory", nargs="?", default=pathlib.Path(__file__).parent.parent)
    arguments = parser.parse_args()
    root = pathlib.Path(arguments.directory).resolve()
    tidy = [clang.tool("clang-tidy"), "--quiet", f"--config-file={CONFIG}"]
    compiler = clang.tool("clang++")
    units = clang.units(root)
    flags = {source: words for _, words, sources in units for source in sources}
    rooms = {source.rpartition("/")[0]: words for source, words in flags.items()}
    if arguments.all:
        headers = sorted(path.relative_to(root).as_posix() for house in clang.HOUSES
                         for path in (root / house).rglob("*.h"))
        # Files that are compiled together are read together: most of the time goes into what they include.
        commands = [[*tidy, "--checks=-bugprone-suspicious-include", str(file), "--", *words]
                    for file, words, _ in units]
    else:
        names = changed(root)
        headers = at_most(MOST_HEADERS, [name for name in names if name.startswith(clang.HOUSES)
                                         and name.endswith(".h")], "headers")
        sources = at_most(MOST_SOURCES, [name for name in names if name in flags], "sources")
        commands = [[*tidy, name, "--", *flags[name]] for name in sources]
    homeless = [name for name in headers if name.rpartition("/")[0] not in rooms]
    if homeless:
        print(f"NOT COMPILED: headers of rooms that compile no source: {' '.join(homeless)}")
    headers = [name for name in headers if name not in homeless]
    read = len(commands)
    commands += [[compiler, "-fsyntax-only", "-w", "-x", "c++", *rooms[name.rpartition("/")[0]], name]
                 for name in headers]
    # What stands in a header is found once for each that includes it.
    faults = list(dict.fromkeys(clang.run_all(root, commands)))
    clang.end(faults, f"tidy: {read} read, {len(headers)} headers compiled")


if __name__ == "__main__":
    main()
