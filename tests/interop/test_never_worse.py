"""No result is worse than plain round-to-nearest on text that was not calibrated on: a few cases of
never_worse.py."""

import unittest

import paths  # noqa: F401
import never_worse
import run_tests


class NeverWorse(unittest.TestCase):
    def test_small_cases(self):
        for cell in never_worse.cells(never_worse.SMALL_MODELS, never_worse.SMALL, 8):
            with self.subTest(**{key: cell[key] for key in ("k", "tokens", "heavy")}):
                print("\n" + never_worse.row_text(cell), flush=True)
                self.assertFalse(cell["worse"], cell)
                if cell["ratio"] is not None:
                    self.assertGreaterEqual(cell["ratio"], 0)
                    self.assertLessEqual(cell["ratio"], 1)


if __name__ == "__main__":
    run_tests.run()
