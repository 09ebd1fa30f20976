"""Finds test models that are not in the repository: too large, or not ours to distribute.

They are looked for in $SALIENT_SHARED, else beside the repository in ../shared. Tests that need
them say SKIPPED and why when they are absent.
"""

import os
import pathlib
import unittest

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
SHARED = pathlib.Path(os.environ.get("SALIENT_SHARED") or REPOSITORY.parent / "shared")


def shared(*path):
    """Returns a path below the shared directory; skips the running test when it is absent."""
    found = SHARED.joinpath(*path)
    if not found.exists():
        raise unittest.SkipTest(f"{found} is absent (set SALIENT_SHARED)")
    return str(found)
