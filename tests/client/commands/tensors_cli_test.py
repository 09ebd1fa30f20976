"""Runs `salient tensors` with its embedded server and against a live `salientd`. Standard library
only.

    tensors_cli_test.py SALIENT SALIENTD
"""

import json
import os
import sys
import unittest

import programs
from programs import LiveServer
from tensor_files import floats, nibbles, read_safetensors, unpack, write_safetensors
from tensors_case import TensorsCase


class TensorsCliTest(TensorsCase):
    def test_remote_and_embedded_give_the_same_bytes(self):
        embedded = self.tensors("--workers", "1")
        self.assertEqual(embedded.returncode, 0, embedded.stderr)
        with open(self.output, "rb") as file:
            expected = file.read()
        os.remove(self.output)
        with LiveServer("--workers", "2") as server:
            remote = self.tensors("--server", server.address)
        self.assertEqual(remote.returncode, 0, remote.stderr)
        with open(self.output, "rb") as file:
            self.assertEqual(file.read(), expected)

    def test_every_linear_is_packed_and_every_group_has_its_scale(self):
        result = self.tensors()
        self.assertEqual(result.returncode, 0, result.stderr)
        tensors, metadata = read_safetensors(self.output)
        shapes = {name: (dtype, shape) for name, (dtype, shape, _) in tensors.items()}
        expected = {"qk.scale": ("F32", [128]), "down.scale": ("F32", [256])}
        for name, columns, rows in (("q", 128, 16), ("k", 128, 8), ("down", 256, 24)):
            groups = columns // 128
            expected[f"{name}.qweight"] = ("I32", [columns, rows // 8])
            expected[f"{name}.qzeros"] = ("I32", [groups, rows // 8])
            expected[f"{name}.scales"] = ("F16", [groups, rows])
        self.assertEqual(shapes, expected)
        self.assertEqual(metadata["bits"], "4")
        self.assertEqual(metadata["group_size"], "128")
        self.assertEqual(metadata["format"], "pt")
        self.assertTrue(all(s > 0 for s in unpack(tensors["qk.scale"])))

    def test_round_to_nearest_decodes_to_within_a_step(self):
        result = self.tensors("--method", "rtn")
        self.assertEqual(result.returncode, 0, result.stderr)
        packed, _ = read_safetensors(self.output)
        source, _ = read_safetensors(self.weights)
        self.assertEqual(set(unpack(packed["qk.scale"])), {1.0})
        for name, rows, columns in (("q", 16, 128), ("down", 24, 256)):
            weight = unpack(source[f"{name}.weight"])
            codes = nibbles(packed[f"{name}.qweight"])
            zeros = nibbles(packed[f"{name}.qzeros"])
            scales = unpack(packed[f"{name}.scales"])
            for row in range(rows):
                for column in range(columns):
                    group = column // 128
                    step = scales[group * rows + row]
                    decoded = step * (codes[column][row] - zeros[group][row])
                    # Half a step, and at the ends of the range half a step of the zero point too.
                    self.assertLessEqual(abs(decoded - weight[row * columns + column]),
                                         step * 1.02, (name, row, column))

    def test_every_layout_that_the_call_has_can_be_asked_for(self):
        expected = {
            "gptq": {"q.qweight", "q.qzeros", "q.scales", "q.g_idx"},
            "gptq-v2": {"q.qweight", "q.qzeros", "q.scales", "q.g_idx"},
            "compressed-tensors": {"q.weight_packed", "q.weight_scale", "q.weight_shape"},
            "int-quantized": {"q.weight", "q.weight_scale"},
            "dequantized-fp16:bits=3": {"q.weight"},
        }
        for layout, names in expected.items():
            method = ("--method", "rtn", "--symmetric", "--overwrite", "--format", layout)
            result = self.tensors(*method)
            self.assertEqual(result.returncode, 0, result.stderr)
            tensors, metadata = read_safetensors(self.output)
            self.assertTrue(names <= set(tensors), (layout, sorted(tensors)))
            self.assertEqual(metadata["layout"], layout.split(":")[0])
        self.assertEqual(metadata["bits"], "3")
        refused = self.tensors("--format", "awq-gemm", "--activations", "static", "--overwrite")
        self.assertEqual(refused.returncode, 2, refused.stderr)
        self.assertIn("--activations goes with --format int-quantized", refused.stderr)

    def test_an_output_that_is_there_stays_unless_told_otherwise(self):
        with open(self.output, "w") as file:
            file.write("mine")
        nowhere = ("--server", f"127.0.0.1:{programs.free_port()}")
        refused = self.tensors(*nowhere)
        self.assertEqual(refused.returncode, 42, refused.stderr)
        self.assertIn("is there already", refused.stderr)
        self.assertIn("--overwrite", refused.stderr)
        failed = self.tensors("--overwrite", *nowhere)
        self.assertEqual(failed.returncode, 69, failed.stderr)
        with open(self.output) as file:
            self.assertEqual(file.read(), "mine", "replaced by nothing")
        self.assertEqual(self.tensors("--overwrite").returncode, 0)
        self.assertIn("q.qweight", read_safetensors(self.output)[0])

    def test_groups_by_file_and_by_flag_give_the_same_bytes(self):
        by_flag = self.tensors()
        self.assertEqual(by_flag.returncode, 0, by_flag.stderr)
        with open(self.output, "rb") as file:
            expected = file.read()
        with open(self.path("groups.json"), "w") as file:
            json.dump([{"name": "qk", "linears": ["q", "k"], "input": "qk.input"},
                       {"name": "down", "linears": ["down"]}], file)
        by_file = self.tensors("--overwrite", groups=("--groups", self.path("groups.json")))
        self.assertEqual(by_file.returncode, 0, by_file.stderr)
        with open(self.output, "rb") as file:
            self.assertEqual(file.read(), expected)

    def test_tied_heads_share_their_scale(self):
        with open(self.path("groups.json"), "w") as file:
            json.dump([{"name": "down", "linears": ["down"],
                        "tied_heads": {"head_dim": 32, "query_heads_per_kv_head": 4}}], file)
        result = self.tensors(groups=("--groups", self.path("groups.json")))
        self.assertEqual(result.returncode, 0, result.stderr)
        tensors, _ = read_safetensors(self.output)
        scale = unpack(tensors["down.scale"])
        for channel in range(256):
            # Heads 0-3 read the first kv head, 4-7 the second.
            first = channel // 128 * 128 + channel % 32
            self.assertEqual(scale[channel], scale[first], channel)

    def test_padding_is_never_sent(self):
        before = self.tensors()
        self.assertEqual(before.returncode, 0, before.stderr)
        with open(self.output, "rb") as file:
            expected = file.read()
        tensors, _ = read_safetensors(self.activations)
        dtype, shape, data = tensors["qk.input"]
        row = 20 * 128 * 4
        padded = data[:row + 11 * 128 * 4]
        padded += floats([1e30]) * ((len(data) - len(padded)) // 4)
        tensors["qk.input"] = (dtype, shape, padded)
        write_safetensors(self.activations, tensors)
        after = self.tensors("--overwrite")
        self.assertEqual(after.returncode, 0, after.stderr)
        with open(self.output, "rb") as file:
            self.assertEqual(file.read(), expected)

    def test_without_groups_every_activations_tensor_is_one(self):
        self.make_long_work(count=2)
        result = self.tensors("--json", "--method", "rtn", groups=())
        self.assertEqual(result.returncode, 0, result.stderr)
        groups = json.loads(result.stdout)["groups"]
        self.assertEqual([group["linears"] for group in groups], [["m0"], ["m1"]])

    def test_json_is_all_of_standard_output(self):
        result = self.tensors("--json")
        self.assertEqual(result.returncode, 0, result.stderr)
        report = json.loads(result.stdout)
        self.assertEqual(report["output"], self.output)
        self.assertEqual(report["parameters"], (16 + 8) * 128 + 24 * 256)
        self.assertEqual(report["bytes_in"], 16 * 128 * 2 + 8 * 128 * 4 + 24 * 256 * 4)
        self.assertGreater(report["bytes_out"], 0)
        self.assertLess(report["bytes_out"], report["bytes_in"])
        self.assertGreater(report["seconds"], 0)
        self.assertEqual([group["name"] for group in report["groups"]], ["qk", "down"])
        for group in report["groups"]:
            self.assertLessEqual(group["loss"], group["loss_rtn"])
            self.assertLessEqual(group["relative_output_error"],
                                 group["relative_output_error_rtn"])
            self.assertIn("ratio", group)
            self.assertIn("identity", group["candidate"])
        self.assertEqual(report["groups"][0]["token_count"], 31)
        self.assertEqual(len(result.stderr.splitlines()), 2, "one plain line a group")

    def test_table_names_every_group(self):
        result = self.tensors()
        self.assertEqual(result.returncode, 0, result.stderr)
        lines = result.stdout.splitlines()
        self.assertIn("loss/RTN", lines[0])
        self.assertTrue(lines[2].startswith("qk "))
        self.assertTrue(lines[3].startswith("down "))
        self.assertIn(self.output, lines[-1])



if __name__ == "__main__":
    programs.SALIENT, programs.SALIENTD = sys.argv[1:3]
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]], verbosity=2)
