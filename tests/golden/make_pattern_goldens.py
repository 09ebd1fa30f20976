"""Makes name_patterns.json beside this script: which names Python's re.match finds in which patterns.

    python3 tests/golden/make_pattern_goldens.py [--check]

Patterns that engines' and tools' configs have, all that the two languages say differently, and many
made at random (from a fixed seed). `matches` says of each of `names` 1 or 0; it is null where `re`
(of Python 3.11 and later) refuses the pattern. --check writes nothing, and fails where the committed
file says something else.
"""

import json
import pathlib
import random
import re
import sys
import warnings

GOLDEN = pathlib.Path(__file__).with_name("name_patterns.json")

NAMES = [
    "lm_head", "lm_head.x", "model.lm_head", "model.norm", "model.layers.0.mlp.gate", "model.layers.0.mlp.gate_proj",
    "model.layers.10.mlp.down_proj", "model.layers.17.self_attn.q_proj", "model.layers.3.self_attn.o_proj",
    "modelXlayersY0", "MODEL.Layers.3", "a", "b", "ab", "aab", "abc", "ba", "aaaa", "abab", "a.b", "A", "aB", "c", "_",
    "-", "a-", "1", "12a", "a b", "a\n", "\n", "ab\nc", "[", "]", "[]-\\", "{", "}", "a{2}", "a{x}", "a{,}", "^a", "$",
    "a\x0bb", "a\x1cb", "a\xe9b", "\t", "(", ")", "\\", "d", "k", "K", "s", "S", "a1_.x q", ":", "&",
]

# As found in configs, or like them.
USUAL = r"""
lm_head
.*lm_head
^lm_head$
.*mlp.gate$
^model\.layers\.0\.
model.layers.0
model\.layers\.\d+\.mlp\..*
.*layers\.(1[0-9]|[2-4])\..*
.*\.layers\.\d+\.self_attn\.(?:q|k|v)_proj
.*self_attn\.(q|k|v|o)_proj.*
.*(gate|up|down)_proj$
^.*\.mlp\.(?P<which>gate|up)_proj$
(?i)MODEL\.layers
(?i:lm)_head
(?s).*c
(?is)AB.C
model\.layers\.(?:[0-9]|1[0-9])\.mlp
.*\.(?:[^.]+)_proj\Z
\Amodel\b
.*\bmlp\b.*
[^\W\d_]+$
""".split()

# What Python, RE2 and POSIX say differently, or what is not allowed.
ODD = [
    "", "a?b", "(a|b|)c", "a{2}$", "a{1,3}$", "a{2,}$", "a{,2}$", "a{0}b", "a{,}$", "a{x}", "a{}|{b|{1", "a{,", "{", "}",
    "a{1", "(ab)+$", "(ab){2,3}$", "a*?b", "a+?b", "a??b", "a{2}?b", "[a-c_]+$", "[^a-c]$", "[]x-]+$", "[]-a]$", "[^]a]$",
    r"([\d.]+$)", r"(\w+\W\S\s\D$)", r"\[\]\-\\", "()*a", "(a*)*b", "(^a|b)*c", "(?:^)*a", "(?:$)+", "a|bc|d$", "a$", "a\\Z",
    "[[:alpha:]]", "[[:digit:]b]", "[[a]", "[a&&b]", "[a-]", "[+--]", r"a\sb", r"[a\s]+b", r"a[^\s]b", r"[^\S]", r"\_",
    r"[\_]", r"\ ", r"a\.b", ".", r"a.b", "a[^x]b", r"\$", r"\^a", r"[\^]", r"[\]]", r"[\[-\]]+", "a\xe9b", "[\xe0-\xff]",
    "a[^\xe9]b", "(?i)[^k]", "(?i)[a-k]$", "(?i)S", "(?i)(?s)a.b", "(?P<a>a)(?P<b>b)", "a|(?:b|c)d?", "a{0,0}b", "|a", "a||b",
    "a\\{2}", "a[{]", ":", "#", " ",
    # refused
    "*a", "a|+", "(*a)", "^*", "$?", r"\b+", "a**", "a*{2}", "a{2}{3}", "a???", "a{2}*", "{2}a", "(a", "a)", ")", "[ab", "[]",
    "[^]", "[z-a]", r"[\d-a]", r"[a-\d]", "a{3,2}", "a\\", r"\z", r"\q", r"\pL", r"\C", r"\Qa\E", r"[\q]", "a(?i)b", "(?i)*",
    "(?<n>a)", "(?P<a>a)(?P<a>b)", "(?P<>a)", "(?P<1>a)", "(?P<a b>a)", "(?P<a", "(?", "(?z)", "(?:a", "((a)",
]

ATOMS = ["a", "a", "b", "c", "1", "_", "-", "k", ".", r"\.", r"\d", r"\D", r"\w", r"\W", r"\s", r"\S", "[ab]", "[^ab]", "[a-c]",
         r"[\d_]", r"[^\w]", r"[^\W_]", r"[\S]", r"[^\S]", r"[^\s\d]", "[]a]", "[^]a]", "[[a]", "[a-]", r"\[", r"\{",
         r"\\", "{", "}", "]", " ", r"\b", r"\A", r"\Z", "^", "$"]
REPETITIONS = ["*", "+", "?", "{2}", "{1,2}", "{,2}", "{1,}", "{,}", "{}", "{0}", "{x}", "*?", "+?", "??"]


def random_pattern(source, depth=0):
    def part():
        if depth < 3 and source.random() < 0.25:
            atom = source.choice(["(", "(?:", "(?i:", "(?s:"]) + random_pattern(source, depth + 1) + ")"
        else:
            atom = source.choice(ATOMS)
        return atom + (source.choice(REPETITIONS) if source.random() < 0.3 else "")

    def branch():
        return "".join(part() for _ in range(source.choice([1, 1, 2, 3])))

    return "|".join(branch() for _ in range(source.choice([1, 1, 2])))


def decide(pattern):
    try:
        compiled = re.compile(pattern)
    except re.error:
        return {"pattern": pattern, "matches": None}
    return {"pattern": pattern, "matches": "".join(str(int(bool(compiled.match(name)))) for name in NAMES)}


def ascii_alone(pattern):
    """Says whether only names of ASCII are decided alike: \\w and its like know more letters in Python."""
    return re.search(r"\\[dDwWsSbB]", pattern) is not None


def main():
    warnings.simplefilter("ignore")
    source = random.Random(7)
    patterns = USUAL + ODD + sorted({random_pattern(source) for _ in range(600)})
    cases = [decide(pattern) for pattern in patterns]
    for case in cases:
        case["ascii"] = ascii_alone(case["pattern"])
    rows = ",\n".join("    " + json.dumps(case) for case in cases)
    text = f'{{\n  "names": {json.dumps(NAMES)},\n  "patterns": [\n{rows}\n  ]\n}}\n'
    if "--check" in sys.argv[1:]:
        if GOLDEN.read_text() != text:
            sys.exit(f"{GOLDEN} says something else")
        return
    GOLDEN.write_text(text)


if __name__ == "__main__":
    main()
