"""Tells whether the real transformers loads checkpoint directories and runs them, on a CPU. Run by the
interpreter that tests/tool_environment.sh makes for transformers.

    transformers_verdicts.py TOKENS ROWS DIR...

Ends with one JSON object on standard output: {directory: perplexity, or why there is none}.
"""

import json
import sys

from transformers_perplexity import perplexity, read_rows  # It sets what must be set before an import.

import transformers


def main():
    tokens, rows, *directories = sys.argv[1:]
    transformers.utils.logging.disable_progress_bar()
    ids = read_rows(tokens, int(rows))
    found = {}
    for directory in directories:
        try:
            found[directory] = perplexity(directory, ids)["perplexity"]
        except Exception as error:  # Whatever it is, the directory does not load.
            found[directory] = f"{type(error).__name__}: {error}"[:1000]
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
