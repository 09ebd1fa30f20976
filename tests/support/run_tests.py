"""Runs unittest.main for ctest: says SKIPPED and why, and exits with 77 when every test was skipped."""

import sys
import unittest

SKIPPED = 77  # It is SKIP_RETURN_CODE of the ctests.


def run(module="__main__"):
    program = unittest.main(module=module, exit=False, verbosity=2)
    result = program.result
    for test, reason in result.skipped:
        print(f"SKIPPED {test.id()}: {reason}")
    if not result.wasSuccessful():
        sys.exit(1)
    # A module that is skipped as a whole counts as one that was skipped, and none that ran.
    sys.exit(SKIPPED if result.skipped and len(result.skipped) >= result.testsRun else 0)
