"""Runs `salient study` on a whole model: with the embedded server, and against a live `salientd`.
Standard library only.

    study_cli_test.py SALIENT SALIENTD MODEL_DIRECTORY
"""

import json
import os
import sys
import unittest

import model_case
import programs
from model_case import ModelCase
from programs import free_port, LiveServer, run

CHOICES = ("none", "weight", "random", "activation")


class StudyCliTest(ModelCase):
    def study(self, *flags):
        return run("study", self.source, "--calibration", self.calibration,
                   "--evaluation", self.evaluation, "--rows", "2",
                   "--calibration-rows", "3", *flags)

    def test_embedded_and_remote_find_the_same(self):
        embedded = json.loads(self.assert_done(self.study("--json", "--workers", "1")))
        for choice in CHOICES:
            self.assertGreater(embedded[choice]["perplexity"], 1)
            self.assertGreater(embedded[choice]["kl"], 0)
            self.assertGreater(embedded[choice]["relative_error"], 0)
            self.assertGreater(embedded[choice]["top1_agreement"], 0.3)
        self.assertLess(embedded["activation"]["relative_error"],
                        embedded["none"]["relative_error"])
        self.assertEqual(embedded["tokens"], 2 * 255)
        self.assertEqual((embedded["bits"], embedded["group_size"]), (3, 128))
        self.assertEqual(embedded["salient_share"], 0.01)
        with LiveServer("--workers", "2") as server:
            there = ("--server", server.address)
            remote = json.loads(self.assert_done(self.study("--json", *there)))
            for part in ("source", *CHOICES):
                self.assertEqual(remote[part], embedded[part])
            # What it found stays with the job, for whoever looks later.
            job = remote["job"].removeprefix("jobs/")
            table = self.assert_done(run("jobs", "watch", job, *there))
            self.assertIn("1 % by activation", table)
            self.assertIn(f"{remote['activation']['perplexity']:.5f}", table)
            self.assertIn("study", self.assert_done(run("jobs", "list", *there)))

    def test_flags_arrive(self):
        table = self.assert_done(self.study("--bits", "4", "--group-size", "-1", "--share", "0.05",
                                            "--symmetric", "--compute-dtype", "f32"))
        for text in ("perplexity", "KL", "relative error", "all (source)", "5 % by weight",
                     "4 bits, symmetric, a scale for a row"):
            self.assertIn(text, table)
        one, two = (json.loads(self.assert_done(self.study("--json", "--seed", seed)))
                    for seed in ("1", "2"))
        self.assertNotEqual(one["random"], two["random"])
        self.assertEqual(one["activation"], two["activation"])

    def test_usage_is_2(self):
        tokens = ("--calibration", self.calibration, "--evaluation", self.evaluation)
        for arguments in (
                [], [self.source], [self.source, *tokens[:2]], [self.source, *tokens[2:]],
                [self.source, *tokens, "--bits", "9"], [self.source, *tokens, "--share", "1.5"],
                [self.source, *tokens, "--share", "0"], [self.source, *tokens, "--rows", "-1"],
                [self.source, *tokens, "--group-size", "-2"],
                [self.source, *tokens, "--compute-dtype", "f16"]):
            self.assert_fails(run("study", *arguments), 2)

    def test_bad_input_is_42_and_needs_no_server(self):
        nowhere = ("--server", f"127.0.0.1:{free_port()}")
        self.assert_fails(self.study(*nowhere), 69, "cannot reach")
        self.evaluation = os.path.join(self.directory, "none.safetensors")
        self.assert_fails(self.study(*nowhere), 42, "none.safetensors")
        self.evaluation, self.source = self.calibration, self.directory
        self.assert_fails(self.study(*nowhere), 42, "config.json")

    def test_what_no_group_can_be_cut_into_is_42(self):
        self.assert_fails(self.study("--group-size", "1000"), 42, "nothing to quantize", "1000")


if __name__ == "__main__":
    programs.SALIENT, programs.SALIENTD, model_case.MODEL = sys.argv[1:4]
    unittest.main(argv=[sys.argv[0], *sys.argv[4:]], verbosity=2)
