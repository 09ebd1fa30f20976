"""client/python/tokens.py against the tokenizers themselves, its file against the NumPy reader."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

import numpy as np
import sentencepiece
import tokenizers

import paths
import run_tests
import safetensors_np

PROGRAM = paths.TESTS.parent / "client" / "python" / "tokens.py"
TEXT = "In the beginning God created the heaven and the earth. "
OTHER = "A tab\tand no line break: na\u00efve \u732b. "
BAD_INPUT = 42


class Tokens(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.scratch = pathlib.Path(scratch.name)
        self.output = self.scratch / "tokens.safetensors"

    def text(self, name, content):
        path = self.scratch / name
        path.write_text(content, encoding="utf-8")
        return path

    def run_program(self, *arguments):
        return subprocess.run([sys.executable, PROGRAM, *map(str, arguments)],
                              capture_output=True, text=True, timeout=120)

    def ids(self, *arguments):
        """input_ids of the file that the program writes."""
        done = self.run_program(*arguments, "-o", self.output)
        self.assertEqual(done.returncode, 0, done.stderr)
        tensors = safetensors_np.read(self.output)
        self.assertEqual(list(tensors), ["input_ids"])
        self.assertEqual(tensors["input_ids"].dtype, np.int32)
        return tensors["input_ids"]

    def refused(self, *arguments, code=BAD_INPUT):
        """Returns what the program says when it refuses; nothing may be left behind."""
        before = set(os.listdir(self.scratch))
        done = self.run_program(*arguments, "-o", self.output)
        self.assertEqual(done.returncode, code, done.stderr)
        self.assertNotIn("Traceback", done.stderr)
        self.assertEqual(set(os.listdir(self.scratch)), before)
        return done.stderr

    def small_model(self, template=True, vocabulary=300, **settings):
        """Returns a directory with a tokenizer.json of single characters; BOS is 1 and "a" is 2."""
        directory = self.scratch / "model"
        directory.mkdir(exist_ok=True)
        words = {"<unk>": 0, "<s>": 1, **{c: 2 + i for i, c in enumerate("abcdefgh")}}
        tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(words, [], unk_token="<unk>"))
        tokenizer.add_special_tokens(["<s>"])
        if template:
            tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
                single="<s> $A", special_tokens=[("<s>", 1)]
            )
        tokenizer.enable_truncation(3)  # Truncation belongs to training and must not cut a text.
        tokenizer.enable_padding(length=50)
        tokenizer.save(str(directory / "tokenizer.json"))
        (directory / "tokenizer_config.json").write_text(json.dumps(settings))
        (directory / "config.json").write_text(json.dumps({"vocab_size": vocabulary}))
        return directory


class SentencePiece(Tokens):
    processor = sentencepiece.SentencePieceProcessor(
        model_file=str(paths.POCKET_LLAMA / "tokenizer.model")
    )

    def test_rows_are_what_sentencepiece_says_of_the_texts(self):
        first, second = TEXT * 40, OTHER * 30
        ids = self.ids(paths.POCKET_LLAMA, self.text("1", first), self.text("2", second),
                       "--tokens", 32)
        expected = self.processor.encode(first, add_bos=True)
        expected += self.processor.encode(second, add_bos=True)
        rows = len(expected) // 32
        self.assertEqual(ids.shape, (rows, 32))
        np.testing.assert_array_equal(ids.ravel(), expected[: rows * 32])

    def test_the_text_comes_back(self):
        text = TEXT * 20
        ids = self.ids(paths.POCKET_LLAMA, self.text("1", text), "--tokens", 2, "--bos", "none",
                       "--rows", len(self.processor.encode(text)) // 2)
        decoded = self.processor.decode(ids.ravel().tolist())
        self.assertTrue(text.startswith(decoded))
        self.assertGreater(len(decoded), len(text) - 10)

    def test_offset_goes_on_where_the_rows_before_it_end(self):
        file = self.text("1", TEXT * 60)
        both = self.ids(paths.POCKET_LLAMA, file, "--tokens", 16, "--rows", 12)
        first = self.ids(paths.POCKET_LLAMA, file, "--tokens", 16, "--rows", 7)
        second = self.ids(paths.POCKET_LLAMA, file, "--tokens", 16, "--rows", 5, "--offset", 7)
        np.testing.assert_array_equal(both, np.concatenate([first, second]))

    def test_every_row_begins_with_bos_if_asked(self):
        file = self.text("1", TEXT * 60)
        ids = self.ids(paths.POCKET_LLAMA, file, "--tokens", 16, "--rows", 9, "--offset", 2,
                       "--bos", "row")
        self.assertTrue((ids[:, 0] == self.processor.bos_id()).all())
        expected = self.processor.encode(TEXT * 60)[2 * 15 : 11 * 15]
        np.testing.assert_array_equal(ids[:, 1:].ravel(), expected)


class TokenizersPackage(Tokens):
    def test_the_post_processor_says_whether_a_text_begins_with_bos(self):
        text = self.text("1", "abc" * 8)
        for template, expected in ((True, [1] + [2, 3, 4] * 8), (False, [2, 3, 4] * 8)):
            with self.subTest(template=template):
                ids = self.ids(self.small_model(template), text, "--tokens", 4)
                self.assertEqual(ids.ravel().tolist(), expected[:24])

    def test_tokenizer_config_has_the_last_word(self):
        model = self.small_model(template=True, add_bos_token=False, bos_token="<s>")
        ids = self.ids(model, self.text("1", "abcd" * 4), "--tokens", 4)
        self.assertEqual(ids.tolist(), [[2, 3, 4, 5]] * 4)

    def test_bos_may_be_named_as_an_object(self):
        model = self.small_model(template=False, bos_token={"content": "<s>"})
        ids = self.ids(model, self.text("1", "abcd" * 3), "--tokens", 5, "--bos", "row")
        self.assertEqual(ids.tolist(), [[1, 2, 3, 4, 5]] * 3)


class BadInput(Tokens):
    def test_directory_without_a_tokenizer(self):
        (self.scratch / "empty").mkdir()
        message = self.refused(self.scratch / "empty", self.text("1", TEXT))
        self.assertIn("tokenizer.json or tokenizer.model", message)

    def test_files_that_are_no_tokenizers(self):
        for name in ("tokenizer.json", "tokenizer.model"):
            directory = self.scratch / name.replace(".", "_")
            directory.mkdir()
            (directory / name).write_text("nothing of the kind")
            self.assertIn(name, self.refused(directory, self.text("1", TEXT)))

    def test_text_that_is_not_utf8(self):
        path = self.scratch / "latin1"
        path.write_bytes(b"abc\xe9d")
        self.assertIn("byte 3 is not UTF-8", self.refused(paths.POCKET_LLAMA, path))

    def test_no_text(self):
        self.assertIn("absent", self.refused(paths.POCKET_LLAMA, self.scratch / "absent"))

    def test_too_little_text_says_how_much_there_is(self):
        file = self.text("1", TEXT * 10)
        rows = len(SentencePiece.processor.encode(TEXT * 10, add_bos=True)) // 8
        message = self.refused(paths.POCKET_LLAMA, file, "--tokens", 8, "--rows", 1000)
        self.assertIn(f"text for {rows} rows of 8 tokens; 1000 rows", message)
        self.assertIn("one row", self.refused(paths.POCKET_LLAMA, file, "--offset", 500))

    def test_token_beyond_the_vocabulary_of_the_model(self):
        model = self.small_model(vocabulary=5)
        message = self.refused(model, self.text("1", "abcdefgh"), "--tokens", 4)
        self.assertIn("gives token 8", message)
        self.assertIn("vocab_size 5", message)

    def test_rows_are_no_longer_than_what_the_model_has_seen(self):
        model = self.small_model(template=False)
        (model / "config.json").write_text('{"vocab_size": 300, "max_position_embeddings": 6}')
        text = self.text("1", "abcdefgh" * 2)
        self.assertEqual(self.ids(model, text).shape, (2, 6))
        self.assertEqual(self.ids(model, text, "--tokens", 4).shape, (4, 4))
        self.assertEqual(self.ids(model, text, "--tokens", 8, "--allow-long-rows").shape, (2, 8))
        os.remove(self.output)
        message = self.refused(model, text, "--tokens", 7)
        self.assertIn("--tokens 7", message)
        self.assertIn("max_position_embeddings 6", message)

    def test_usage(self):
        file = self.text("1", TEXT)
        for wrong in (["--rows", "0"], ["--tokens", "1"], ["--offset", "-1"], ["--bos", "x"]):
            self.refused(paths.POCKET_LLAMA, file, *wrong, code=2)

    def test_output_directory_that_is_not_there(self):
        done = self.run_program(paths.POCKET_LLAMA, self.text("1", TEXT * 20), "--tokens", "8",
                                "-o", self.scratch / "no" / "tokens.safetensors")
        self.assertEqual(done.returncode, BAD_INPUT, done.stderr)
        self.assertNotIn("Traceback", done.stderr)


if __name__ == "__main__":
    run_tests.run()
