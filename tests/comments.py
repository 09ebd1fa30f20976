#!/usr/bin/env python3
"""Judges the comments of the C++ sources by what can be counted.

    tests/comments.py [--list] [DIRECTORY]      DIRECTORY: the repository, unless another is named

1. A comment is a sentence. One that begins like a title or a relative clause ("What ...", "Whether
   ...", "Of the next two") mostly has no verb: at most 1.5 % of the comments may begin so, which
   leaves room for the few that are sentences all the same. --list prints each of them.
2. A dense loop does not say why it works as it does: in each source file of the rooms named below
   at least 5 % of the lines are comments, unless the file is shorter than a loop needs.
3. A comment behind code is a sentence, too: in those rooms each ends in a full stop and, but for names,
   shapes and formulas, begins with a capital letter.
"""

import argparse
import pathlib
import re
import sys

HOUSES = ("core", "server", "client", "proto", "tests")
LARGEST_SHARE_OF_OPENERS = 0.015
DENSE_ROOMS = ("core/kernels", "core/linalg", "core/method", "core/statistics")
LEAST_SHARE_OF_LINES = 0.05
NOT_FOR_READERS = re.compile(r"(NOLINT|IWYU|namespace )")
SHORT_FILE = 40  # lines that are neither blank nor includes

OPENER = re.compile(r"(What|Whatever|Whether|Who|Whom|Whose|Where|Which|Why|How|Of|Those|That|As|Also|"
                    r"The same|So much|Into)\b")
# These begin many a sentence, but none so short.
PREPOSITION = re.compile(r"(At|By|For|From|In|On|Not|To|Up|When|With|Without)\b")
SHORT_PHRASE = 6  # words


def comment_blocks(lines):
    """Yields (line number, text) of each run of lines that are comments and nothing else."""
    block, start = [], 0
    for number, line in enumerate(lines + [""], 1):
        match = re.match(r"\s*//+ ?(.*)", line)
        if match:
            start = start if block else number
            block.append(match.group(1).strip())
        elif block:
            yield start, " ".join(block)
            block = []


def phrases_behind_code(lines):
    """Yields (line number, text) of each comment behind code that is no sentence."""
    for number, line in enumerate(lines, 1):
        match = re.match(r"\s*(?!//)\S.*?\s// (.*)", line)
        if not match or line.startswith(("}", "#")) or NOT_FOR_READERS.match(match.group(1)):
            continue
        goes_on = number < len(lines) and lines[number].strip().startswith("//")
        if not (match.group(1).endswith(".") or goes_on) or re.match(r"[a-z]+\b(?![_.])", match.group(1)):
            yield number, match.group(1)


def is_title(text):
    """Returns whether a comment begins like a title or a clause instead of a sentence."""
    return bool(OPENER.match(text)) or bool(
        PREPOSITION.match(text) and len(text.split()) <= SHORT_PHRASE)


def share_of_comment_lines(lines):
    full = [line.strip() for line in lines if line.strip() and not line.startswith("#include")]
    return sum(line.startswith("//") for line in full) / len(full), len(full)


def main():
    parser = argparse.ArgumentParser(description="Judges the comments of the C++ sources.")
    parser.add_argument("--list", action="store_true", help="print every comment that begins like a title")
    parser.add_argument("directory", nargs="?", type=pathlib.Path,
                        default=pathlib.Path(__file__).resolve().parent.parent)
    arguments = parser.parse_args()

    files = sorted(path for house in HOUSES for path in (arguments.directory / house).rglob("*")
                   if path.suffix in (".h", ".cc"))
    faults, titles, comments = [], [], 0
    for path in files:
        name = path.relative_to(arguments.directory).as_posix()
        lines = path.read_text(encoding="utf-8").split("\n")
        for number, text in comment_blocks(lines):
            comments += 1
            if is_title(text):
                titles.append(f"{name}:{number}: {text[:100]}")
        dense = name.startswith(tuple(room + "/" for room in DENSE_ROOMS))
        if dense:
            faults += [f"{name}:{number}: the comment behind code is no sentence: {text}"
                       for number, text in phrases_behind_code(lines)]
        if path.suffix == ".cc" and dense:
            share, full = share_of_comment_lines(lines)
            if share < LEAST_SHARE_OF_LINES and full >= SHORT_FILE:
                faults.append(f"{name}: {share:.1%} of its {full} lines are comments, expected "
                              f"{LEAST_SHARE_OF_LINES:.0%} or more")
    share = len(titles) / max(comments, 1)
    if comments == 0:
        faults.append(f"{arguments.directory}: no comment was found: this is not the repository")
    if share > LARGEST_SHARE_OF_OPENERS:
        faults.append(f"{len(titles)} of {comments} comments ({share:.1%}) begin like a title, expected "
                      f"{LARGEST_SHARE_OF_OPENERS:.1%} at most; tests/comments.py --list names them")
    if arguments.list:
        print("\n".join(titles))
    print("\n".join(faults) or f"comments: {comments}, of which {len(titles)} begin like a title")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
