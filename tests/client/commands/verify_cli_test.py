"""Runs `salient verify` and `salient estimate` on a whole model. Standard library only.

    verify_cli_test.py SALIENT SALIENTD MODEL_DIRECTORY
"""

import json
import sys
import unittest

import model_case
import programs
from model_case import ModelCase, digests
from programs import LiveServer, run


class VerifyTest(ModelCase):
    def test_verify_compares_source_result_and_rtn(self):
        self.assert_done(self.quantize())
        report = json.loads(self.assert_done(
            self.verify(self.output, "--against", self.source, "--json")))
        self.assertGreater(report["source"]["perplexity"], 1)
        self.assertGreater(report["result"]["perplexity"], 1)
        self.assertGreater(report["rtn"]["perplexity"], 1)
        self.assertGreater(report["kl"], 0)
        self.assertLess(report["kl"], report["rtn_kl"])
        self.assertGreater(report["top1_agreement"], 0.5)
        self.assertLessEqual(report["top1_agreement"], 1)
        for layer in report["layers"]:
            self.assertGreater(layer["error"], 0)
        table = self.assert_done(self.verify(self.output, "--against", self.source))
        for name in (self.output, self.source, "round-to-nearest", "KL"):
            self.assertIn(name, table)

    def test_verify_of_a_model_and_itself_finds_nothing(self):
        report = json.loads(self.assert_done(
            self.verify(self.source, "--against", self.source, "--no-rtn", "--json")))
        self.assertEqual(report["result"], report["source"])
        self.assertEqual(report["kl"], 0)
        self.assertEqual(report["top1_agreement"], 1)
        self.assertNotIn("rtn", report)

    def test_verify_alone_is_perplexity(self):
        report = json.loads(self.assert_done(self.verify(self.source, "--json")))
        self.assertGreater(report["result"]["perplexity"], 1)
        self.assertNotIn("source", report)
        self.assertNotIn("kl", report)

    def test_round_to_nearest_can_be_asked_for(self):
        three, eight = (json.loads(self.assert_done(self.verify(
            self.source, "--against", self.source, "--rtn-bits", bits, "--rtn-group-size", "32",
            "--json")))["rtn_kl"] for bits in ("3", "8"))
        self.assertGreater(three, 10 * eight)

    def test_estimate_needs_no_tokens_and_changes_nothing(self):
        before = digests(self.source)
        estimates = {}
        with LiveServer() as server:
            for name, flags in {"small": ("--rows", "2", "--tokens", "64"), "default": (),
                                "file": ("--calibration", self.calibration, "--rows", "2"),
                                "remote": ("--rows", "2", "--tokens", "64", "--server",
                                           server.address)}.items():
                said = self.assert_done(run("estimate", self.source, *flags, "--json"))
                estimates[name] = json.loads(said)
            jobs = json.loads(self.assert_done(
                run("jobs", "list", "--server", server.address, "--json")))
        self.assertEqual(jobs, {"jobs": []})
        for name, estimate in estimates.items():
            for field in ("seconds", "peak_rss_bytes", "flop", "output_bytes"):
                self.assertGreater(estimate[field], 0, name)
        self.assertGreater(estimates["default"]["flop"], estimates["small"]["flop"])
        self.assertEqual(estimates["remote"]["flop"], estimates["small"]["flop"])
        table = self.assert_done(run("estimate", self.source))
        self.assertIn("peak memory", table)
        self.assertEqual(digests(self.source), before)
        self.assert_nothing_written()


if __name__ == "__main__":
    programs.SALIENT, programs.SALIENTD, model_case.MODEL = sys.argv[1:4]
    unittest.main(argv=[sys.argv[0], *sys.argv[4:]], verbosity=2)
