#!/usr/bin/env python3
"""Checks that what the READMEs name exists.

    tests/readmes.py [DIRECTORY]                           paths, files of rooms and metrics
    tests/readmes.py --salient FILE --salientd FILE        commands and flags, from the programs' --help

Everything in backticks, in a link or in a block of commands that looks like a path, a metric, a
command or a flag of ours has to be one. DIRECTORY is the repository, unless another is named.
"""

import argparse
import itertools
import pathlib
import re
import shlex
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Files of models, directories of machines, and what a build makes: named, and not in the repository.
FOREIGN_PATHS = {"build", "1_Pooling", "additional_chat_templates", "modules.json", "groups.json", "../shared"}
SOURCES = (".h", ".cc", ".py", ".sh", ".md", ".proto", ".cmake")
# Flags of the programs that the READMEs run beside ours.
FOREIGN_FLAGS = {"--output-on-failure", "--test-dir", "--cap-drop", "--read-only", "--user", "--gtest"}


def tracked(directory, *patterns):
    """Returns the files of these patterns: those that git knows or would take, else all."""
    listed = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns],
                            cwd=directory, capture_output=True, text=True, check=False)
    if listed.returncode == 0:
        files = (directory / name for name in listed.stdout.splitlines())
    else:
        files = itertools.chain(*(directory.rglob(pattern) for pattern in patterns))
    return sorted(path for path in files if path.is_file() and "build" not in path.parts)


def split(text):
    """Returns the prose of a page and the lines of its blocks of code, continued ones joined."""
    blocks = re.findall(r"^ *```[a-z]*\n(.*?)^ *```|^((?: {4}[^\n]*\n)+)", text, re.M | re.S)
    prose = re.sub(r"^ *```.*?^ *```", "", text, flags=re.M | re.S)
    code = "".join(fenced or indented for fenced, indented in blocks).replace("\\\n", " ")
    return prose, code.splitlines()


def spans(prose):
    return re.findall(r"`([^`\n]+)`", prose) + re.findall(r"\]\(([^)#\s]+)\)", prose)


def alternatives(name):
    """Yields the names that a{b,c}d stands for."""
    match = re.search(r"\{([^{}]*)\}", name)
    if not match:
        yield name
        return
    for choice in match.group(1).split(","):
        yield from alternatives(name[:match.start()] + choice + name[match.end():])


def looks_like_path(name):
    if not re.fullmatch(r"(\.\./)*[A-Za-z0-9_.*{},-]+(/[A-Za-z0-9_.*{},-]+)*/?", name):
        return False
    if name in FOREIGN_PATHS or name.split("/")[0] in FOREIGN_PATHS:
        return False
    return "/" in name or (name.endswith(SOURCES) and not name.startswith("."))


def exists(name, page, rooms, root, names_below):
    """Returns whether a path exists as seen from the page's directory, from one above it up to the
    repository, from tests or from a room that the same line names; without its ending, too. A bare
    file may be anywhere below."""
    name = name.replace("NAME", "*")
    if "/" not in name and names_below(page.parent, name):
        return True
    above = [directory for directory in (page.parent, *page.parent.parents)
             if directory == root or root in directory.parents]
    for directory in (*above, root / "tests", *(root / room for room in rooms)):
        pattern = name.rstrip("/")
        while pattern.startswith("../"):
            directory, pattern = directory.parent, pattern[3:]
        if any(itertools.chain(directory.glob(pattern), directory.glob(pattern + ".*"))):
            return True
    return False


def table_stems(prose):
    """Yields what the tables of files ("| file | ...") name in their first column."""
    inside = False
    for line in prose.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not line.lstrip().startswith("|"):
            inside = False
        elif cells[0] in ("file", "files"):
            inside = True
        elif inside:
            yield from re.findall(r"`([^`\s]+)`", cells[0])


def check_paths(root):
    faults, found = [], 0
    basenames = {}

    def names_below(directory, name):
        if directory not in basenames:
            basenames[directory] = [path.name for path in directory.rglob("*")]
        pattern = re.compile(re.escape(name).replace(r"\*", ".*"))
        return any(pattern.fullmatch(base) for base in basenames[directory])

    for page in tracked(root, "*.md"):
        prose, code = split(page.read_text(encoding="utf-8"))
        named = {(name, ()) for name in table_stems(prose)}
        for line in prose.splitlines():
            names = [name for name in spans(line) if looks_like_path(name)]
            rooms = tuple(name for name in names if name.endswith("/"))
            named |= {(name, rooms) for name in names}
        named |= {(word, ()) for line in code for word in line.split()
                  if re.match(r"(tests|deploy|core|server|client|proto)/", word) and looks_like_path(word)}
        for name, rooms in sorted(named):
            for path in alternatives(name):
                found += 1
                if not exists(path, page, rooms, root, names_below):
                    faults.append(f"{page.relative_to(root)}: {path} does not exist")
    if found == 0:
        faults.append(f"{root}: no README names a path: this is not the repository")
    return faults, f"{found} paths"


def check_metrics(root):
    """Metrics that pages, rules and dashboards name are declared in server/observe."""
    declared = set()
    for path in tracked(root, "server/observe/*.cc", "server/observe/*.h"):
        declared |= set(re.findall(r'"(salient_[a-z0-9_]+)"', path.read_text(encoding="utf-8")))
    # Targets of CMake and modules of tests begin with salient_, too, but not like a metric.
    ours = {name.rsplit("_", 1)[0] for name in declared} - {"salient"}
    faults, found = [], 0
    pages = tracked(root, "README.md", "*/README.md", "deploy/*.yaml", "deploy/*.yml", "deploy/*.json")
    for page in pages:
        text = page.read_text(encoding="utf-8")
        for name in sorted(set(re.findall(r"\bsalient_[a-z0-9_]+", text))):
            family = re.sub(r"_(bucket|count|sum)$", "", name)
            if name in declared or family in declared or any(d.startswith(name) for d in declared):
                found += 1
            elif re.search(r"_(total|seconds|bytes|ratio|info|bucket|count|sum)$", name) or any(
                    name.startswith(start) for start in ours):
                faults.append(f"{page.relative_to(root)}: server/observe declares no metric {name}")
    return faults, f"{found} metrics"


def help_of(*command):
    shown = subprocess.run([*command, "--help"], capture_output=True, text=True, timeout=60, check=True).stdout
    flags = set(re.findall(r"--[a-z][a-z0-9-]*", shown))
    listed = re.search(r"^Subcommands:\n((?:  .*\n)+)", shown, re.M)
    names = re.findall(r"^  ([a-z][a-z-]*)", listed.group(1), re.M) if listed else []
    return flags, names


def flags_of(salient, salientd):
    """Returns the flags of each command, and those that any of our programs and scripts takes."""
    commands = {("salientd",): help_of(salientd)[0]}
    waiting = [()]
    while waiting:
        path = waiting.pop()
        commands[("salient", *path)], names = help_of(salient, *path)
        waiting += [(*path, name) for name in names]
    declared = set().union(*commands.values())
    for path in tracked(ROOT, "*.sh", "*.py", "tests/bench/*.cc"):
        text = path.read_text(encoding="utf-8")
        declared |= set(re.findall(r"^\s*(--[a-z-]+)\)", text, re.M))
        declared |= set(re.findall(r"(?:add_argument|add_option|add_flag)\(\s*\"(--[a-z-]+)", text))
    return commands, declared


def ours_of(line):
    """Yields (program, words behind it) for each of our programs that a line of code runs."""
    try:
        words = shlex.split(line, comments=True)
    except ValueError:
        words = line.split()
    for at, word in enumerate(words):
        if at > 0 and words[at - 1] not in ("|", "&&", ";", "&", "time", "exec") and (
                not re.match(r"[A-Z_]+=", words[at - 1])):
            continue
        program = word.rsplit("/", 1)[-1]
        if program in ("salient", "salientd"):
            end = next((i for i in range(at + 1, len(words)) if words[i] in ("|", "&&", ";", ">", "&")), len(words))
            yield program, words[at + 1:end]


def check_flags(salient, salientd):
    commands, declared = flags_of(salient, salientd)
    faults, found = [], 0
    for page in tracked(ROOT, "*.md"):
        name = page.relative_to(ROOT)
        prose, code = split(page.read_text(encoding="utf-8"))
        lines = code + [span for span in spans(prose) if re.match(r"(\S*/)?salientd? ", span)]
        for line in lines:
            for program, words in ours_of(line):
                command = (program,)
                for word in words:
                    if (*command, word) not in commands:
                        break
                    command = (*command, word)
                found += 1
                if program == "salient" and command == ("salient",) and words and re.fullmatch(
                        r"[a-z]+", words[0]):
                    faults.append(f"{name}: salient has no command {words[0]}: {line.strip()}")
                for flag in re.findall(r"(?:^|\s)(--[a-z][a-z0-9-]*)", " ".join(words)):
                    if flag not in commands[command]:
                        faults.append(f"{name}: {' '.join(command)} has no flag {flag}")
        for span in spans(prose):
            for flag in re.findall(r"(?:^|[\s\[|])(--[a-z][a-z0-9-]*)", span):
                found += 1
                if flag not in declared | FOREIGN_FLAGS:
                    faults.append(f"{name}: no program or script of ours has a flag {flag}")
    if found == 0:
        faults.append("no README names a command or flag")
    return sorted(set(faults)), f"{found} commands and flags"


def main():
    parser = argparse.ArgumentParser(description="Checks that what the READMEs name exists.")
    parser.add_argument("--salient")
    parser.add_argument("--salientd")
    parser.add_argument("directory", nargs="?", type=pathlib.Path, default=ROOT)
    arguments = parser.parse_args()
    root = arguments.directory.resolve()
    if arguments.salient and arguments.salientd:
        results = [check_flags(arguments.salient, arguments.salientd)]
    else:
        results = [check_paths(root), check_metrics(root)]
    faults = [fault for some, _ in results for fault in some]
    print("\n".join(faults) or "READMEs: " + ", ".join(said for _, said in results))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
