"""Lets the tests of this directory import what they share with others."""

import pathlib
import sys

TESTS = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "interop"), str(TESTS / "support"), str(TESTS / "integration")]
POCKET_LLAMA = TESTS / "data" / "pocket-llama"
