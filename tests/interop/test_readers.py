"""The readers that judge Salient's files are right themselves: published words, round trips."""

import os
import tempfile
import unittest

import numpy as np

import paths
import awq_reader_np
import bit_stream_np
import checkpoint_np
import compressed_tensors_reader_np as ct_reader
import gptq_reader_np
import run_tests
import safetensors_np

GOLDEN = paths.TESTS / "golden" / "forward"

# With in = 16, out = 8 and groups of 8, code[k][n] = (k + 3 n) mod 16 is meant.
K, N = np.mgrid[0:16, 0:8]
CODES = (K + 3 * N) % 16
ZEROS = np.array([np.arange(1, 9), np.arange(8, 16)])
SCALES = np.array([[2.0 ** -(2 + n % 4) for n in range(8)],
                   [2.0 ** -(3 + n % 4) for n in range(8)]], np.float16)

AWQ_QWEIGHT = """5F932C60 60A43D71 71B54E82 82C65F93 93D760A4 A4E871B5 B5F982C6 C60A93D7
                 D71BA4E8 E82CB5F9 F93DC60A 0A4ED71B 1B5FE82C 2C60F93D 3D710A4E 4E821B5F"""
AWQ_QZEROS = "86427531 FDB9ECA8"
GPTQ_QWEIGHT = """76543210 A9876543 DCBA9876 0FEDCBA9 3210FEDC 6543210F 98765432 CBA98765
                  FEDCBA98 210FEDCB 543210FE 87654321 BA987654 EDCBA987 10FEDCBA 43210FED"""
GPTQ_QZEROS = {False: "76543210 EDCBA987", True: "87654321 FEDCBA98"}  # It stands by whether it is v2.
PACKED = """76543210 FEDCBA98 A9876543 210FEDCB DCBA9876 543210FE 0FEDCBA9 87654321
            3210FEDC BA987654 6543210F EDCBA987 98765432 10FEDCBA CBA98765 43210FED"""
PACKED_ZEROS = "87654321 FEDCBA98"

# 3 bits: in = 64, out = 32, groups of 32: code[k][n] = (3 k + n) mod 8, zero[n][g] = (n + 2 g)
# mod 7 + 1; 32 codes in three words.
COLUMNS_3BIT = {0: "98ABC398 C398ABC3 ABC398AB", 1: "E1CC55E1 55E1CC55 CC55E1CC"}
QZEROS_3BIT = {True: "1A3F58D1 FD6347EB 8D1FAC68 AC68FD63 A3F58D1F D6347EB1",
               False: "D11AC688 6B1A2358 688D6344 63446B1A 11AC688D B1A2358D"}


def words(text, *shape):
    """int32 [shape], one column unless the shape says otherwise."""
    array = np.array([int(w, 16) for w in text.split()], np.uint32).view(np.int32)
    return array.reshape(shape or (-1, 1))


def decoded_one_by_one(codes, zeros, scales, group):
    """W [out, in] of codes [in, out], zero points and scales [groups, out], group [in]."""
    weight = np.empty(codes.T.shape, np.float32)
    for k in range(codes.shape[0]):
        for n in range(codes.shape[1]):
            step = int(codes[k, n]) - int(zeros[group[k], n])
            weight[n, k] = float(scales[group[k], n]) * step
    return weight


def packed_one_by_one(codes, bits):
    """Returns the int32 words of rows of codes, by arithmetic on one long integer a row."""
    rows = []
    for row in codes:
        number = sum(int(code) << (bits * i) for i, code in enumerate(row))
        count = -(-len(row) * bits // 32)
        rows.append([(number >> (32 * i)) & 0xFFFFFFFF for i in range(count)])
    return np.array(rows, np.uint32).view(np.int32)


class AwqReader(unittest.TestCase):
    def test_golden_words_unpack(self):
        np.testing.assert_array_equal(awq_reader_np.unpack(words(AWQ_QWEIGHT)), CODES)
        np.testing.assert_array_equal(awq_reader_np.unpack(words(AWQ_QZEROS)), ZEROS)

    def test_golden_words_decode(self):
        decoded = awq_reader_np.dequantize(words(AWQ_QWEIGHT), words(AWQ_QZEROS), SCALES)
        expected = decoded_one_by_one(CODES, ZEROS, SCALES, np.arange(16) // 8)
        np.testing.assert_array_equal(decoded, expected)

    def test_float32_scales_are_refused(self):
        with self.assertRaises(ValueError):
            awq_reader_np.dequantize(
                words(AWQ_QWEIGHT), words(AWQ_QZEROS), SCALES.astype(np.float32)
            )


class GptqReader(unittest.TestCase):
    def test_golden_words_decode(self):
        g_idx = (np.arange(16) // 8).astype(np.int32)
        expected = decoded_one_by_one(CODES, ZEROS, SCALES, g_idx)
        for v2, zeros in GPTQ_QZEROS.items():
            with self.subTest(v2=v2):
                decoded = gptq_reader_np.dequantize(
                    words(GPTQ_QWEIGHT, 2, 8), words(zeros), SCALES, g_idx, 4, v2)
                np.testing.assert_array_equal(decoded, expected)

    def test_golden_words_of_three_bits_decode(self):
        k, n = np.mgrid[0:64, 0:32]
        codes, g_idx = (3 * k + n) % 8, (np.arange(64) // 32).astype(np.int32)
        zeros = (np.arange(32) + 2 * np.arange(2)[:, None]) % 7 + 1
        for column, text in COLUMNS_3BIT.items():
            unpacked = bit_stream_np.unpack(words(f"{text} {text}", 1, 6), 3)
            np.testing.assert_array_equal(unpacked[0], codes[:, column])
        scales = np.ones((2, 32), np.float16)
        qweight = packed_one_by_one(codes.T, 3).T
        self.assertEqual(qweight.shape, (6, 32))
        for v2, text in QZEROS_3BIT.items():
            with self.subTest(v2=v2):
                decoded = gptq_reader_np.dequantize(
                    qweight, words(text, 2, 3), scales, g_idx, 3, v2)
                np.testing.assert_array_equal(decoded, (codes - zeros[g_idx]).T)

    def test_symmetric_zero_points(self):
        for bits, v2, word in ((4, False, "77777777"), (4, True, "88888888"),
                               (8, False, "7F7F7F7F"), (8, True, "80808080")):
            zero = bit_stream_np.unpack(words(word), bits) + (not v2)
            self.assertEqual(set(zero.ravel()), {2 ** (bits - 1)}, word)

    def test_columns_in_the_order_of_their_curvature(self):
        """desc_act: the groups of inputs are where g_idx says, of every width."""
        random = np.random.default_rng(3)
        g_idx = random.permutation(64).astype(np.int32) // 16
        for bits in (2, 3, 4, 8):
            codes = random.integers(0, 2**bits, (64, 32))
            zeros = random.integers(1, 2**bits, (4, 32))
            scales = random.random((4, 32)).astype(np.float16)
            for v2 in (False, True):
                with self.subTest(bits=bits, v2=v2):
                    decoded = gptq_reader_np.dequantize(
                        packed_one_by_one(codes.T, bits).T,
                        packed_one_by_one(zeros if v2 else zeros - 1, bits), scales, g_idx, bits,
                        v2)
                    expected = decoded_one_by_one(codes, zeros, scales, g_idx)
                    np.testing.assert_allclose(decoded, expected, rtol=1e-6)

    def test_what_readers_disagree_on_is_refused(self):
        g_idx, zeros = (np.arange(16) // 8).astype(np.int32), words("7654321F EDCBA987")
        arguments = [words(GPTQ_QWEIGHT, 2, 8), zeros, SCALES, g_idx, 4]
        with self.assertRaisesRegex(ValueError, "zero point of 0"):
            gptq_reader_np.dequantize(*arguments, False)
        gptq_reader_np.dequantize(*arguments, True)
        for wrong in (g_idx + 1, g_idx - 1):
            with self.assertRaisesRegex(ValueError, "of 2 groups"):
                gptq_reader_np.dequantize(*arguments[:3], wrong, 4, True)
        with self.assertRaisesRegex(ValueError, "shapes"):
            gptq_reader_np.dequantize(*arguments[:3], g_idx[:8], 4, True)
        with self.assertRaisesRegex(ValueError, "dtypes"):
            gptq_reader_np.dequantize(*arguments[:2], SCALES.astype(np.float32), g_idx, 4, True)


class CompressedTensorsReader(unittest.TestCase):
    def setUp(self):
        self.tensors = {
            "m.weight_packed": words(PACKED, 8, 2), "m.weight_scale": SCALES.T,
            "m.weight_shape": np.array([8, 16]), "m.weight_zero_point": words(PACKED_ZEROS, 1, 2)}

    def read(self, bits=4, group_size=8, symmetric=False, **changed):
        tensors = {**self.tensors, **{f"m.{part}": array for part, array in changed.items()}}
        return ct_reader.pack_quantized(
            {name: array for name, array in tensors.items() if array is not None}, "m", bits,
            group_size, symmetric)

    def test_golden_words_decode(self):
        expected = decoded_one_by_one(CODES, ZEROS, SCALES, np.arange(16) // 8)
        np.testing.assert_array_equal(self.read(), expected)

    def test_symmetric_row(self):
        signed = [-8, -5, -2, 1, 4, 7, -6, -3, 0, 3, 6, -7, -4, -1, 2, 5]
        decoded = self.read(
            4, 0, True, weight_packed=words("52FC9630 DA741EB8", 1, 2),
            weight_scale=np.array([[0.5]], np.float16), weight_shape=np.array([1, 16]),
            weight_zero_point=None)
        np.testing.assert_array_equal(decoded, [0.5 * np.array(signed)])

    def test_padding(self):
        changed = dict(weight_scale=np.ones((1, 1), np.float16), weight_shape=np.array([1, 10]),
                       weight_zero_point=None)
        decoded = self.read(4, 0, True, weight_packed=words("76543210 00000098", 1, 2), **changed)
        np.testing.assert_array_equal(decoded, [np.arange(-8, 2)])
        with self.assertRaisesRegex(ValueError, "padding"):
            self.read(4, 0, True, weight_packed=words("76543210 00000198", 1, 2), **changed)

    def test_eight_bits_and_groups_by_index(self):
        random = np.random.default_rng(4)
        codes, zeros = random.integers(0, 256, (16, 8)), random.integers(0, 256, (2, 8))
        g_idx = random.permutation(16).astype(np.int32) // 8
        decoded = self.read(
            8, weight_packed=packed_one_by_one(codes.T, 8), weight_g_idx=g_idx,
            weight_zero_point=packed_one_by_one(zeros, 8).reshape(2, 2).T)
        expected = decoded_one_by_one(codes, zeros, SCALES, g_idx)
        np.testing.assert_array_equal(decoded, expected)

    def test_what_engines_trip_over_is_refused(self):
        for said, changed in (
                ("symmetric True", dict(symmetric=True)),
                ("symmetric False", dict(weight_zero_point=None)),
                ("scales float32", dict(weight_scale=SCALES.T.astype(np.float32))),
                ("8 rows of 9", dict(weight_shape=np.array([9, 16]))),
                ("2 words for 17", dict(weight_shape=np.array([8, 17]), group_size=9)),
                ("2 groups of 4", dict(group_size=4)),
                ("weight_shape", dict(weight_shape=np.array([8, 16, 1])))):
            with self.subTest(said), self.assertRaisesRegex(ValueError, said):
                self.read(**changed)

    def test_int_quantized(self):
        tensors = {"m.weight": np.array([[50, -127, 1], [127, 0, -127]], np.int8),
                   "m.weight_scale": np.array([[0.01], [0.02]], np.float32)}
        np.testing.assert_allclose(ct_reader.int_quantized(tensors, "m"),
                                   [[0.5, -1.27, 0.01], [2.54, 0, -2.54]], rtol=1e-6)
        one = {**tensors, "m.weight_scale": np.array([0.5], np.float32)}
        np.testing.assert_array_equal(ct_reader.int_quantized(one, "m")[0], [25, -63.5, 0.5])
        with self.assertRaisesRegex(ValueError, "weight_scale"):
            ct_reader.int_quantized({**one, "m.weight_scale": np.ones(2, np.float32)}, "m")

    def test_activations(self):
        """Half to even on a grid of each token's own, or of one for all."""
        x = np.array([[127, 0.5, 1.5, -2.5], [0, 0, 0, 0], [-1.27, 0.018, -0.004, 1.27]],
                     np.float32)
        np.testing.assert_allclose(
            ct_reader.round_tokens(x),
            [[127, 0, 2, -2], [0, 0, 0, 0], [-1.27, 0.02, 0, 1.27]], rtol=1e-6, atol=1e-9)
        np.testing.assert_array_equal(
            ct_reader.round_static(np.array([0.5], np.float32))(x[:1]), [[63.5, 0.5, 1.5, -2.5]])
        np.testing.assert_array_equal(
            ct_reader.round_static(np.array([0.5], np.float32))(-x[:1]), [[-64, -0.5, -1.5, 2.5]])
        for scale in (np.ones(1), np.zeros(1, np.float32), np.ones((1, 1), np.float32)):
            with self.assertRaises(ValueError):
                ct_reader.round_static(scale)


class Safetensors(unittest.TestCase):
    def test_every_dtype_comes_back(self):
        random = np.random.default_rng(1)
        tensors = {
            "b.f32": random.standard_normal((3, 5)).astype(np.float32),
            "a.f16": random.standard_normal((2, 2)).astype(np.float16),
            "c.i32": np.arange(-3, 3, dtype=np.int32),
            "a.i8": np.array([[-128, 127]], np.int8),
            "d.i64": np.array([-(2**40), 2**40]),
            "empty": np.zeros((0, 4), np.float32),
            "scalar": np.array(7, np.int32),
        }
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, "t.safetensors")
            safetensors_np.write(path, tensors)
            header, base = safetensors_np.read_header(path)
            back = safetensors_np.read(path)
        self.assertEqual(base % 8, 0)
        self.assertEqual(header["__metadata__"], {"format": "pt"})
        self.assertEqual(list(header)[1:], ["d.i64", "b.f32", "empty", "c.i32", "scalar", "a.f16",
                          "a.i8"])
        for name, array in tensors.items():
            self.assertEqual(back[name].dtype, array.dtype)
            np.testing.assert_array_equal(back[name], array)

    def test_bf16_rounds_half_to_even(self):
        values = np.array([1, 1 + 2**-8, 1 + 3 * 2**-8, -1 - 2**-7, 3e38], np.float32)
        bits = safetensors_np.round_bf16(values)
        self.assertEqual([hex(b) for b in bits],
                         ["0x3f80", "0x3f80", "0x3f82", "0xbf81", "0x7f62"])
        wide = safetensors_np.widen_bf16(bits)
        self.assertEqual(wide[2], 1 + 2**-6)


class Llama(unittest.TestCase):
    def test_every_switch_of_the_forward_pass(self):
        """Against what another forward pass computes token by token in float64."""
        cases = sorted(path for path in GOLDEN.iterdir() if path.is_dir())
        self.assertGreaterEqual(len(cases), 9)
        for case in cases:
            with self.subTest(case.name):
                golden = safetensors_np.read(f"{case}.safetensors")
                logits = checkpoint_np.read(case).logits(golden["tokens"][None])[0]
                np.testing.assert_allclose(logits, golden["logits"], rtol=0, atol=1e-4)


if __name__ == "__main__":
    run_tests.run()
