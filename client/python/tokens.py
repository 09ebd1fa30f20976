#!/usr/bin/env python3
"""Turns text into rows of token ids, with the model's own tokenizer, for `salient --calibration`
and `--evaluation`.

    pip install -r client/python/requirements.txt
    python client/python/tokens.py MODEL_DIR TEXT... -o tokens.safetensors --rows 128 --tokens 512

Reads MODEL_DIR/tokenizer.json, else MODEL_DIR/tokenizer.model, and writes one tensor, `input_ids`
I32 [rows, tokens]. The texts (UTF-8) follow one another without a gap: no row is padded, and the
tokens that do not fill a row are dropped. With the same texts, --offset 128 begins where the 128
rows of another file ended: tokens to evaluate with must not be those of the calibration. No row is
longer than the max_position_embeddings of MODEL_DIR/config.json, unless --allow-long-rows says so.
"""

import argparse
import array
import json
import os
import struct
import sys
import tempfile

USAGE, BAD_INPUT = 2, 42  # They are the exit codes of `salient`.
DEFAULT_ROWS = 128
DEFAULT_TOKENS = 512


class InputError(Exception):
    """Says what is wrong with a file, for people."""


def read_json(path):
    """Returns the object in a JSON file, {} if there is no such file."""
    try:
        with open(path, encoding="utf-8") as file:
            value = json.load(file)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: {error}") from error
    if not isinstance(value, dict):
        raise InputError(f"{path}: expected a JSON object")
    return value


def package(name, file):
    """Returns the module `name`, which reads `file`."""
    try:
        return __import__(name)
    except ImportError as error:
        raise InputError(
            f"{file} is read by the Python package {name}, which is not installed:"
            " pip install -r client/python/requirements.txt"
        ) from error


class SentencePieceModel:
    """Reads tokenizer.model. A text begins with BOS unless tokenizer_config.json says otherwise."""

    def __init__(self, path, settings):
        library = package("sentencepiece", path)
        try:
            self._processor = library.SentencePieceProcessor(model_file=path)
        except (OSError, RuntimeError) as error:
            raise InputError(f"{path}: not a SentencePiece model: {error}") from error
        self.bos = self._processor.bos_id() if self._processor.bos_id() >= 0 else None
        self.adds_bos = self.bos is not None and settings.get("add_bos_token", True)

    def encode(self, text):
        """Token ids without BOS."""
        return self._processor.encode(text)


class TokenizersModel:
    """Reads tokenizer.json. Its post-processor says whether a text begins with BOS, unless
    tokenizer_config.json does."""

    def __init__(self, path, settings):
        library = package("tokenizers", path)
        try:
            self._tokenizer = library.Tokenizer.from_file(path)
        except Exception as error:  # The package raises Exception itself.
            raise InputError(f"{path}: not a tokenizer: {error}") from error
        # A file may ask for its training's truncation and padding.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        encoded = self._tokenizer.encode("a")
        leading = encoded.ids[0] if encoded.special_tokens_mask[:1] == [1] else None
        name = settings.get("bos_token")
        name = name.get("content") if isinstance(name, dict) else name
        self.bos = self._tokenizer.token_to_id(name) if isinstance(name, str) else None
        self.bos = leading if self.bos is None else self.bos
        self.adds_bos = self.bos is not None and settings.get("add_bos_token", leading is not None)

    def encode(self, text):
        """Token ids without BOS."""
        return self._tokenizer.encode(text, add_special_tokens=False).ids


def open_tokenizer(model_dir):
    settings = read_json(os.path.join(model_dir, "tokenizer_config.json"))
    kinds = {"tokenizer.json": TokenizersModel, "tokenizer.model": SentencePieceModel}
    for name, kind in kinds.items():
        path = os.path.join(model_dir, name)
        if os.path.exists(path):
            return kind(path, settings)
    raise InputError(f"{model_dir}: expected tokenizer.json or tokenizer.model in it")


def read_text(path):
    try:
        with open(path, "rb") as file:
            return file.read().decode("utf-8")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: byte {error.start} is not UTF-8") from error


def make_rows(tokenizer, paths, bos, rows, tokens, offset):
    """Returns (ids of `rows` rows, or of fewer where the texts end, how many rows the texts gave). Texts
    that are not needed any more are not read."""
    of_text = tokens - 1 if bos == "row" else tokens
    wanted = (offset + rows) * of_text
    ids = array.array("i")
    for path in paths:
        if bos == "text":
            ids.append(tokenizer.bos)
        ids.extend(tokenizer.encode(read_text(path)))
        if len(ids) >= wanted:
            break
    count = min(len(ids) // of_text, offset + rows)
    if bos != "row":
        return ids[offset * tokens : max(offset, count) * tokens], count
    result = array.array("i")
    for row in range(offset, count):
        result.append(tokenizer.bos)
        result.extend(ids[row * of_text : (row + 1) * of_text])
    return result, count


def check_vocabulary(model_dir, ids):
    """A tokenizer of another model is found here and not in the middle of a job."""
    path = os.path.join(model_dir, "config.json")
    size = read_json(path).get("vocab_size")
    if isinstance(size, int) and max(ids) >= size:
        raise InputError(
            f"{model_dir}: the tokenizer gives token {max(ids)}, but {path} has vocab_size {size}"
        )


def row_tokens(options):
    """Tokens of a row: what was asked for, or the default, within what the model has seen."""
    path = os.path.join(options.model, "config.json")
    limit = read_json(path).get("max_position_embeddings")
    if options.allow_long_rows or type(limit) is not int or limit < 2:
        return options.tokens or DEFAULT_TOKENS
    if options.tokens is None:
        return min(DEFAULT_TOKENS, limit)
    if options.tokens > limit:
        raise InputError(
            f"--tokens {options.tokens}: {path} has max_position_embeddings {limit}, and the model"
            " never saw later positions; --allow-long-rows makes such rows all the same"
        )
    return options.tokens


def write_tokens(path, ids, rows, tokens):
    """The file appears complete or not at all."""
    entry = {"dtype": "I32", "shape": [rows, tokens], "data_offsets": [0, 4 * len(ids)]}
    header = json.dumps({"__metadata__": {"format": "pt"}, "input_ids": entry},
                        separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    if sys.byteorder == "big":
        ids = array.array("i", ids)
        ids.byteswap()
    directory = os.path.dirname(os.path.abspath(path))
    try:
        handle, part = tempfile.mkstemp(dir=directory, prefix=".tokens-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(struct.pack("<Q", len(header)) + header)
                ids.tofile(file)
            umask = os.umask(0)
            os.umask(umask)
            os.chmod(part, 0o666 & ~umask)
            os.replace(part, path)
        except BaseException:
            os.unlink(part)
            raise
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error


def positive(text):
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not positive")
    return value


def not_negative(text):
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is negative")
    return value


def parse_arguments(arguments):
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", metavar="MODEL_DIR", help="checkpoint directory")
    parser.add_argument("texts", metavar="TEXT", nargs="+", help="text file, UTF-8")
    parser.add_argument("-o", "--output", required=True, metavar="FILE")
    parser.add_argument("--rows", type=positive,
                        help=f"default: as many as the texts give, at most {DEFAULT_ROWS}")
    parser.add_argument("--tokens", type=positive, help="tokens a row; default:"
                        f" {DEFAULT_TOKENS}, or what the model has seen if that is less")
    parser.add_argument("--allow-long-rows", action="store_true",
                        help="make rows that are longer than what the model has seen")
    parser.add_argument("--offset", type=not_negative, default=0, help="rows to leave out (0)")
    parser.add_argument("--bos", choices=("text", "row", "none"),
                        help="what begins with a BOS token; default: a text, if the tokenizer"
                        " begins texts so, else none")
    result = parser.parse_args(arguments)
    if result.tokens == 1:
        parser.error("--tokens 1: a row needs a token to predict")
    return result


def make(options):
    """Writes the file. (rows, tokens)"""
    tokenizer = open_tokenizer(options.model)
    tokens = row_tokens(options)
    bos = options.bos or ("text" if tokenizer.adds_bos else "none")
    if bos != "none" and tokenizer.bos is None:
        raise InputError(f"{options.model}: --bos {bos}: the tokenizer has no BOS token")
    ids, found = make_rows(tokenizer, options.texts, bos, options.rows or DEFAULT_ROWS,
                           tokens, options.offset)
    rows = len(ids) // tokens
    if rows == 0 or rows < (options.rows or 0):
        wanted = f"{options.rows} rows" if options.rows else "one row"
        raise InputError(
            f"{', '.join(options.texts)}: text for {found} rows of {tokens} tokens;"
            f" {wanted} from row {options.offset} were asked for"
        )
    check_vocabulary(options.model, ids)
    write_tokens(options.output, ids, rows, tokens)
    return rows, tokens


def main(arguments=None):
    options = parse_arguments(arguments)
    try:
        rows, tokens = make(options)
    except InputError as error:
        print(f"tokens.py: {error}", file=sys.stderr)
        return BAD_INPUT
    print(f"{options.output}: {rows} rows of {tokens} tokens", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
