#!/usr/bin/env python3
"""Checks that every C++ source is compiled, and that it includes what it needs of ours.

    tests/sources.py [--mend] [DIRECTORY]     DIRECTORY: the repository, unless another is named

1. Each .cc file stands in a CMakeLists.txt: one that does not is never compiled nor tested.
2. Each header of ours that is included exists, and is named by its path from the top.
3. A file that uses a name includes the header that declares it, or its own header does: what another
   header happens to include may go. A name counts where exactly one header within reach declares it at the
   top of a namespace. Members, names that the file declares itself and those behind another namespace
   do not count.

--mend adds the includes that are missing; clang-format puts them in order.
"""

import argparse
import os
import pathlib
import re
import sys

HOUSES = ("core", "server", "client", "proto", "tests")
# Whose headers a house can use, besides its own.
REACH = {"core": (), "proto": (), "server": ("core", "proto"), "client": ("core", "proto"),
         "tests": ("core", "proto", "server", "client")}  # bench and support
NAMESPACES = ("salient", "client", "wire", "server")
TYPES = (
    re.compile(r"^(?:class|struct|enum class)(?: [A-Z_]+(?:\([^)]*\))?)? ([A-Z]\w+)\b(?!;)", re.M),
    re.compile(r"^using ([A-Z]\w+) =", re.M),
    re.compile(r"^(?:inline )?constexpr [^=({;]*?\b(k[A-Z]\w+)\b", re.M),
)
FUNCTION = re.compile(
    r"^(?!return|class|struct|using|namespace|template|#|//|\}| )[\w:<>,*& ]+?[ &*>]([A-Z]\w+)\(", re.M)
MEMBER = re.compile(r"^ +(?!return\b)(?:[\w:<>,*&\[\] ]+[ &*>])([A-Z]\w+)\(", re.M)
NESTED = re.compile(r"\b(?:class|struct|enum class|typename|using(?: [\w:]+::)?|constexpr [^=({;]*?) ?"
                    r"\b([A-Z]\w+|k[A-Z]\w+)")
ENUM = re.compile(r"\benum(?: class)? \w+(?: : \w+)? \{([^}]*)\}")
QUOTED = re.compile(r'^#include "([^"]+)"', re.M)


def code_of(text):
    """Returns a file without comments and without what its strings hold."""
    text = re.sub(r"^\s*//[^\n]*", "", text, flags=re.M)
    text = re.sub(r'"(?:\\.|[^"\\\n])*"', '""', text)
    return re.sub(r"//[^\n]*", "", text)


def declared(code):
    return {name for pattern in (*TYPES, FUNCTION) for name in pattern.findall(code)}


def members_of(code):
    """Returns the names of member functions and of enumerators."""
    return set(MEMBER.findall(code)) | set(re.findall(r"\bk[A-Z]\w+", " ".join(ENUM.findall(code))))


def house_of(name):
    """Returns the house of a file; that of tests of a house is, for example, tests/core."""
    parts = name.split("/")
    return "/".join(parts[:2]) if parts[0] == "tests" and len(parts) > 2 and parts[1] in REACH else parts[0]


def reach_of(name):
    """Returns the houses whose headers the file can use."""
    house = house_of(name)
    tested = house.removeprefix("tests/")
    reach = {house, tested, *REACH[tested]}
    return reach if house == tested else reach | {"tests", *(f"tests/{each}" for each in REACH[tested])}


def not_compiled(root, names):
    listed = set()
    for page in (path for house in HOUSES for path in (root / house).rglob("CMakeLists.txt")):
        text = re.sub(r"#[^\n]*", "", page.read_text(encoding="utf-8"))
        words = re.findall(r"[\w./${}]+\.cc\b", text)
        listed |= {os.path.relpath(os.path.normpath(page.parent / word), root) for word in words}
    # A variable of CMake stands for some name.
    listed = re.compile("|".join(re.sub(r"\\\$\\{\w+\\}", r"\\w+", re.escape(word)) for word in listed))
    return [f"{name}: stands in no CMakeLists.txt, so nothing compiles it"
            for name in names if name.endswith(".cc") and not listed.fullmatch(name)]


def bad_includes(root, includes):
    faults = []
    for name, paths in includes.items():
        for path in paths:
            generated = re.fullmatch(r"(salient/v1/\w+?)(\.grpc)?\.pb\.h", path)
            if generated and not (root / "proto" / f"{generated.group(1)}.proto").is_file():
                faults.append(f"{name}: includes {path}, and proto/{generated.group(1)}.proto does not exist")
            elif path.partition("/")[0] in HOUSES and not (root / path).is_file():
                faults.append(f"{name}: includes {path}, which does not exist")
            elif ((root / name).parent / path).is_file():
                faults.append(f"{name}: includes {path}; expected its path from the top of the repository")
    return faults


def owners(codes):
    """Returns the headers that declare each name, and the names of member functions and enumerators."""
    homes, members = {}, set()
    for name, code in codes.items():
        if name.endswith(".h"):
            for word in declared(code):
                homes.setdefault(word, set()).add(name)
            members |= members_of(code)
    return homes, members


def missing_includes(codes, includes):
    """Yields (file, name that it uses, header that it does not include)."""
    homes, members = owners(codes)
    behind = "|".join(NAMESPACES)
    word_pattern = re.compile(rf"(?<![.>:\w~])(?:(?:{behind})::)*([A-Z]\w+|k[A-Z]\w+)\b")
    for name, code in sorted(codes.items()):
        own = name[:-3] + ".h"
        tested = re.sub(r"^tests/", "", re.sub(r"_test\.cc$", ".h", name))
        known = {name, own, *includes[name], *includes.get(own, ())}
        if tested in includes[name]:  # The test of a file is one with it.
            known |= includes.get(tested, set())
        both = code + codes.get(own, "")
        mine = declared(code) | members_of(both) | set(NESTED.findall(both))
        for word in sorted(set(word_pattern.findall(code)) - mine):
            headers = {home for home in homes.get(word, ()) if house_of(home) in reach_of(name)}
            is_type = any(word in pattern.findall(codes[home]) for home in headers for pattern in TYPES[:2])
            if len(headers) == 1 and not headers & known and (is_type or word not in members):
                yield name, word, headers.pop()


def mend(root, faults):
    for name, _, header in faults:
        text = (root / name).read_text(encoding="utf-8")
        if f'#include "{header}"' in text:
            continue
        # Behind the last quoted include, where there is one; clang-format sorts.
        at = [match.end() for match in re.finditer(r'^#include "[^"]+"$', text, re.M)] or \
             [match.end() for match in re.finditer(r"^#(?:include <[^>]+>|define SALIENT_\w+_H_)$", text, re.M)]
        text = f'{text[:at[-1]]}\n#include "{header}"{text[at[-1]:]}'
        (root / name).write_text(text, encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description="Holds sources against build files and includes.")
    parser.add_argument("--mend", action="store_true", help="add the includes that are missing")
    parser.add_argument("directory", nargs="?", type=pathlib.Path,
                        default=pathlib.Path(__file__).parent.parent, help="the repository")
    options = parser.parse_args()
    root = options.directory.resolve()
    texts = {path.relative_to(root).as_posix(): path.read_text(encoding="utf-8")
             for house in HOUSES for path in (root / house).rglob("*") if path.suffix in (".h", ".cc")}
    includes = {name: set(QUOTED.findall(text)) for name, text in texts.items()}
    missing = list(missing_includes({name: code_of(text) for name, text in texts.items()}, includes))
    if options.mend:
        mend(root, missing)
    faults = not_compiled(root, texts) + bad_includes(root, includes)
    faults += [f"{name}: uses {word} and does not include {header}" for name, word, header in missing]
    if not texts:
        faults.append(f"{root}: no source was found: this is not the repository")
    print("\n".join(faults) or f"sources: {len(texts)} files")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
