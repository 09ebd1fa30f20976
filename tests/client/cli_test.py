"""Runs the real `salient` against its embedded server and against a live `salientd`.

Knows nothing of the program's sources: safetensors files are written and read here, packed words
are decoded here by the published layout. Standard library only.

    cli_test.py SALIENT SALIENTD
"""

import json
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import unittest

SALIENT, SALIENTD = "", ""
TIMEOUT = 240  # Of any one run; only a hang reaches it.
# Columns of a packed AWQ word from its lowest nibble upwards.
AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7]
SIZES = {"F32": 4, "F16": 2, "BF16": 2, "I32": 4, "I64": 8}


def write_safetensors(path, tensors):
    """tensors: {name: (dtype, shape, bytes)}."""
    header, offset = {}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape,
                        "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, _, data in tensors.values():
            file.write(data)


def read_safetensors(path):
    with open(path, "rb") as file:
        size = struct.unpack("<Q", file.read(8))[0]
        header = json.loads(file.read(size))
        data = file.read()
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        tensors[name] = (entry["dtype"], entry["shape"], data[begin:end])
    return tensors, metadata


def floats(values):
    return struct.pack(f"<{len(values)}f", *values)


def halves(values):
    return struct.pack(f"<{len(values)}e", *values)


def unpack(tensor):
    dtype, _, data = tensor
    code = {"F32": "f", "F16": "e", "I32": "i"}[dtype]
    return struct.unpack(f"<{len(data) // SIZES[dtype]}{code}", data)


def nibbles(tensor):
    """AWQ gemm words [rows, columns / 8] to codes [rows][columns]."""
    _, (rows, words), _ = tensor
    values = unpack(tensor)
    result = []
    for row in range(rows):
        codes = [0] * (words * 8)
        for word in range(words):
            value = values[row * words + word] & 0xFFFFFFFF
            for place, column in enumerate(AWQ_ORDER):
                codes[word * 8 + column] = value >> (4 * place) & 15
        result.append(codes)
    return result


def gaussian(rng, count, deviation=1.0):
    return [rng.gauss(0, deviation) for _ in range(count)]


def small_model(directory, seed=1):
    """q, k [16 and 8, 128] that read "qk"; down [24, 256] that reads "down"."""
    rng = random.Random(seed)
    weights = os.path.join(directory, "weights.safetensors")
    activations = os.path.join(directory, "activations.safetensors")
    write_safetensors(weights, {
        "q.weight": ("F16", [16, 128], halves(gaussian(rng, 16 * 128, 0.05))),
        "k.weight": ("F32", [8, 128], floats(gaussian(rng, 8 * 128, 0.05))),
        "down.weight": ("F32", [24, 256], floats(gaussian(rng, 24 * 256, 0.02))),
    })
    # A few loud channels, or there would be nothing for the search to find.
    loud = [8.0 if j % 37 == 0 else 1.0 for j in range(256)]
    hidden = [x * loud[i % 128] for i, x in enumerate(gaussian(rng, 3 * 20 * 128))]
    inner = [x * loud[i % 256] for i, x in enumerate(gaussian(rng, 30 * 256))]
    write_safetensors(activations, {
        "qk.input": ("F32", [3, 20, 128], floats(hidden)),
        "qk.lengths": ("I64", [3], struct.pack("<3q", 20, 11, 0)),
        "down": ("F16", [30, 256], halves(inner)),
    })
    return weights, activations


def run(*arguments, **options):
    return subprocess.run([SALIENT, *arguments], capture_output=True, text=True, timeout=TIMEOUT,
                          check=False, **options)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class LiveServer:
    """A salientd on a port of its own."""

    def __init__(self, *flags):
        self.process = subprocess.Popen(
            [SALIENTD, "--listen", "127.0.0.1:0", "--metrics-listen", "", "--log-level", "off",
             *flags], stdout=subprocess.PIPE, text=True)
        ready = self.process.stdout.readline()
        self.address = dict(word.split("=") for word in ready.split() if "=" in word)["grpc"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(TIMEOUT)
        self.process.stdout.close()


class CliTest(unittest.TestCase):
    def setUp(self):
        self.temporary = tempfile.TemporaryDirectory()
        self.addCleanup(self.temporary.cleanup)
        self.directory = self.temporary.name
        self.weights, self.activations = small_model(self.directory)
        self.output = self.path("packed.safetensors")

    def path(self, name):
        return os.path.join(self.directory, name)

    def tensors(self, *flags, groups=("--group", "qk=q,k", "--group", "down=down")):
        return run("tensors", self.weights, self.activations, "-o", self.output, *groups, *flags)

    def assert_fails(self, result, code, *says):
        self.assertEqual(result.returncode, code, result.stderr)
        self.assertEqual(result.stdout, "")
        for text in says:
            self.assertIn(text, result.stderr)
        last = result.stderr.strip().splitlines()[-1]
        self.assertTrue(last.startswith("salient: "), result.stderr)
        self.assertFalse(os.path.exists(self.output))
        left = [name for name in os.listdir(self.directory) if name.startswith("packed")]
        self.assertEqual(left, [], "something was left behind")

    def make_long_work(self, count=48):
        """Enough groups that a call is still running long after its first one."""
        rng = random.Random(5)
        self.weights, self.activations = self.path("long_w"), self.path("long_a")
        row = floats(gaussian(rng, 512))
        write_safetensors(self.weights, {
            f"m{i}.weight": ("F32", [512, 512], row * 512) for i in range(count)})
        write_safetensors(self.activations, {
            f"m{i}": ("F32", [64, 512], floats(gaussian(rng, 64 * 512))) for i in range(count)})

    def start_long_work(self, *flags):
        """A running call whose first group is done."""
        process = subprocess.Popen(
            [SALIENT, "tensors", self.weights, self.activations, "-o", self.output, *flags],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        first = process.stderr.readline()
        self.assertIn("group 1 of 48 done", first)
        return process


class WorkingTest(CliTest):
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

    def test_groups_by_file_and_by_flag_give_the_same_bytes(self):
        by_flag = self.tensors()
        self.assertEqual(by_flag.returncode, 0, by_flag.stderr)
        with open(self.output, "rb") as file:
            expected = file.read()
        with open(self.path("groups.json"), "w") as file:
            json.dump([{"name": "qk", "linears": ["q", "k"], "input": "qk.input"},
                       {"name": "down", "linears": ["down"]}], file)
        by_file = self.tensors(groups=("--groups", self.path("groups.json")))
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
        after = self.tensors()
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

    def test_an_old_output_is_replaced(self):
        with open(self.output, "w") as file:
            file.write("old")
        result = self.tensors()
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("q.qweight", read_safetensors(self.output)[0])

    def test_health_and_info_of_a_live_server(self):
        with LiveServer("--workers", "2") as server:
            healthy = run("health", "--server", server.address)
            self.assertEqual((healthy.returncode, healthy.stdout), (0, "SERVING\n"))
            service = run("health", "--server", server.address, "--service",
                          "salient.v1.QuantizationService")
            self.assertEqual(service.returncode, 0, service.stderr)
            unknown = run("health", "--server", server.address, "--service", "nobody")
            self.assertEqual(unknown.returncode, 69)
            self.assertIn("nobody", unknown.stderr)
            table = run("info", "--server", server.address)
            self.assertEqual(table.returncode, 0, table.stderr)
            self.assertRegex(table.stdout, r"workers +2\n")
            info = run("info", "--server", server.address, "--json")
            self.assertEqual(info.returncode, 0, info.stderr)
            described = json.loads(info.stdout)
            self.assertEqual(described["worker_count"], 2)
            self.assertIn("awq", described["scales"])
            self.assertIn("awq_gemm", described["output_formats"])
            self.assertEqual(described["activation_formats"], ["dynamic_token", "static_tensor"])
            self.assertEqual(described["tasks"], ["quantize", "evaluate", "study", "inspect"])
            self.assertRegex(table.stdout, r"tasks of jobs +quantize, evaluate, study, inspect\n")
            self.assertGreater(described["limits"]["max_chunk_bytes"], 0)

    def test_version_and_help(self):
        self.assertRegex(run("--version").stdout, r"^salient \d+\.\d+\.\d+\n$")
        for arguments in (["--help"], ["tensors", "--help"]):
            result = run(*arguments)
            self.assertEqual(result.returncode, 0)
            self.assertIn("Usage", result.stdout)


class FailingTest(CliTest):
    def test_usage_is_2(self):
        for arguments in (
                [], ["nonsense"], ["tensors"], ["tensors", self.weights, self.activations],
                ["tensors", self.weights, self.activations, "-o", self.output, "--method", "best"],
                ["tensors", self.weights, self.activations, "-o", self.output, "--bits", "9"],
                ["tensors", self.weights, self.activations, "-o", self.output, "--group-size", "0"],
                ["tensors", self.weights, self.activations, "-o", self.output, "--server", "x:1",
                 "--workers", "2"],
                ["health", "--timeout", "0"]):
            result = run(*arguments)
            self.assertEqual(result.returncode, 2, arguments)
            self.assertEqual(result.stdout, "")
            self.assertNotEqual(result.stderr, "")
        self.assertFalse(os.path.exists(self.output))

    def test_bad_files_are_42_and_need_no_server(self):
        nowhere = ("--server", f"127.0.0.1:{free_port()}")
        self.assert_fails(self.tensors(*nowhere, groups=("--group", "qk=q,absent")), 42,
                          "weights.safetensors", '"absent.weight"')
        self.assert_fails(self.tensors(*nowhere, groups=("--group", "qk=q,down")), 42,
                          '"down.weight"', "expected in_features 128")
        self.assert_fails(self.tensors(*nowhere, groups=("--group", "other=q")), 42,
                          "activations.safetensors", '"other"')
        self.assert_fails(self.tensors(*nowhere, groups=("--group", "qk")), 42, "NAME=LINEAR")
        self.assert_fails(self.tensors(*nowhere, groups=("--groups", self.path("none.json"))), 42,
                          "none.json")
        # A directory is no list, and not an empty one.
        self.assert_fails(self.tensors(*nowhere, groups=("--groups", self.directory)), 42,
                          self.directory, "regular file")
        good = self.weights
        self.weights = self.path("missing.safetensors")
        self.assert_fails(self.tensors(*nowhere), 42, "missing.safetensors")
        self.weights = self.path("noise.safetensors")
        with open(self.weights, "wb") as file:
            file.write(b"\xff" * 100)
        self.assert_fails(self.tensors(*nowhere), 42, "noise.safetensors")
        self.weights = good
        self.output = self.path("no/such/packed.safetensors")
        self.assert_fails(self.tensors(*nowhere), 42, self.output)

    def test_an_input_is_never_overwritten(self):
        with open(self.weights, "rb") as file:
            before = file.read()
        self.output = self.weights
        result = self.tensors()
        self.assertEqual(result.returncode, 42)
        self.assertIn("is an input", result.stderr)
        with open(self.weights, "rb") as file:
            self.assertEqual(file.read(), before)

    def test_what_the_server_refuses_is_42_and_a_good_call_still_works(self):
        with LiveServer() as server:
            there = ("--server", server.address)
            tensors, _ = read_safetensors(self.weights)
            _, shape, data = tensors["down.weight"]
            bad = data[:400] + floats([float("nan")]) + data[404:]
            write_safetensors(self.weights, {**tensors, "down.weight": ("F32", shape, bad)})
            self.assert_fails(self.tensors(*there), 42, "down")
            write_safetensors(self.weights, tensors)
            self.assert_fails(self.tensors(*there, "--bits", "3"), 42, "bits")
            self.assert_fails(self.tensors(*there, "--group-size", "96"), 42, "group_size")
            self.assertEqual(self.tensors(*there).returncode, 0)

    def test_no_server_is_69(self):
        address = f"127.0.0.1:{free_port()}"
        says = f"cannot reach a server at {address}: Connection refused"
        self.assert_fails(self.tensors("--server", address), 69, says)
        for command in ("health", "info"):
            self.assert_fails(run(command, "--server", address), 69, says)

    def test_silent_server_is_69(self):
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            address = "127.0.0.1:%d" % silent.getsockname()[1]
            self.assert_fails(run("health", "--server", address, "--timeout", "0.5"), 69, address)

    def test_server_that_dies_midway_is_69(self):
        self.make_long_work()
        with LiveServer("--workers", "1") as server:
            process = self.start_long_work("--server", server.address)
            server.process.kill()
            stdout, stderr = process.communicate(timeout=TIMEOUT)
        result = subprocess.CompletedProcess([], process.returncode, stdout, stderr)
        self.assert_fails(result, 69, server.address)

    def test_full_server_is_75(self):
        self.make_long_work()
        with LiveServer("--workers", "1", "--max-active-calls", "1") as server:
            process = self.start_long_work("--server", server.address)
            self.weights, self.activations = small_model(self.directory)
            refused = self.tensors("--server", server.address)
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=TIMEOUT)
        self.assert_fails(refused, 75, "try again")

    def interrupt(self, *flags):
        self.make_long_work()
        process = self.start_long_work(*flags)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=TIMEOUT)
        result = subprocess.CompletedProcess([], process.returncode, stdout, stderr)
        self.assert_fails(result, 130, "interrupted")

    def test_ctrl_c_is_130_with_an_embedded_server(self):
        self.interrupt("--workers", "1")

    def test_ctrl_c_is_130_and_the_server_lives_on(self):
        with LiveServer("--workers", "1") as server:
            self.interrupt("--server", server.address)
            self.weights, self.activations = small_model(self.directory)
            again = self.tensors("--server", server.address)
            self.assertEqual(again.returncode, 0, again.stderr)


if __name__ == "__main__":
    SALIENT, SALIENTD = sys.argv[1:3]
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]], verbosity=2)
