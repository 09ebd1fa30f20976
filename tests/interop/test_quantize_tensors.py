"""Groups through a live server, judged from the tensors that come back.

Never worse: no Linear of any test model, nor of random heavy-tailed groups, has a greater output
error on its calibration tokens than plain round-to-nearest, recomputed here with NumPy.
The currency: how calibration is cut into batches and in which order its rows come changes no byte
of the result, nor does the number of workers.
"""

import unittest

import grpc
import numpy as np

import paths
import awq_reader_np
import llama
import llama_groups
import llama_np
import quantize_np
import run_tests
import salient_client
import statistics_np
from live_server import LiveServer
from salient_client import Group, report_pb
from shared_models import shared


def setUpModule():
    global servers
    servers = {workers: LiveServer("--workers", str(workers)) for workers in (2, 1, 3)}


def tearDownModule():
    for server in servers.values():
        server.stop()


def quantize(groups, workers=2, **options):
    """Returns {name: GroupResult} of one call."""
    with salient_client.connect(servers[workers].address) as channel:
        first = salient_client.options(**options)
        results = list(salient_client.quantize_tensors(channel, first, iter(groups)))
    names = [result.report.name for result in results]
    assert names == [group.name for group in groups], names
    return dict(zip(names, results))


def rows(activations):
    return [(row, 0, values) for row, values in enumerate(activations)]


class NeverWorseThanRoundToNearest(unittest.TestCase):
    def check(self, groups, group_size, **options):
        """Checks `groups`, [(Group, activations [rows, tokens, in])]."""
        results = quantize([group for group, _ in groups], group_size=group_size, **options)
        ratios = []
        for group, activations in groups:
            result = results[group.name]
            gram = quantize_np.Statistics.of(np.stack(activations)).gram
            tokens = sum(len(values) for values in activations)
            for (name, weight), report in zip(group.linears, result.report.linears):
                weight = weight.astype(np.float32)
                rounded = quantize_np.round_nearest(weight, 4, group_size).decode()
                before = quantize_np.quadratic_loss(rounded - weight, gram)
                written = awq_reader_np.linear(result.tensors, name) / result.scales
                after = quantize_np.quadratic_loss(written - weight, gram)
                output = quantize_np.quadratic_loss(weight, gram)
                with self.subTest(name):
                    # Nothing is left to be worse than where round-to-nearest is exact.
                    self.assertLessEqual(after, before * (1 + 1e-4) + 1e-9 * output)
                    if result.report.exact_loss:
                        for mine, theirs in ((before, report.loss_rtn), (after, report.loss)):
                            self.assertLessEqual(
                                abs(mine / tokens - theirs), 1e-3 * theirs + 1e-6 * output / tokens
                            )
                if before > 0:
                    ratios.append(after / before)
        print(f"{len(groups)} groups: loss over RTN's {np.mean(ratios):.3f} on average, "
              f"worst {np.max(ratios):.3f}")

    def check_model(self, directory, calibration, group_size, row_count=8):
        model, source = llama_np.Llama.load(directory), llama_np.read_tensors(directory)
        tokens = llama.read_tokens(calibration, row_count)
        hidden, groups = model.embed(tokens), []
        for layer in range(model.layers):
            hidden, inputs = llama_groups.run_block(model, layer, hidden)
            for name, linears in llama_np.GROUPS.items():
                if not llama_groups.quantizable(model, layer, name, group_size):
                    continue
                names = [llama_groups.module(layer, linear) for linear in linears]
                group = Group(
                    llama_groups.group_name(layer, name),
                    [(module, source[f"{module}.weight"]) for module in names],
                    rows(inputs[name]),
                    tied_heads=llama_groups.tied_heads(model) if name == "o" else None,
                )
                groups.append((group, inputs[name]))
        self.assertGreater(len(groups), 0)
        self.check(groups, group_size)

    def test_pocket_llama(self):
        calibration = paths.POCKET_LLAMA / "calibration_open.safetensors"
        self.check_model(paths.POCKET_LLAMA, calibration, 128)

    def test_pocket_llama_in_groups_of_32(self):
        calibration = paths.POCKET_LLAMA / "calibration_open.safetensors"
        self.check_model(paths.POCKET_LLAMA, calibration, 32)

    def test_pocket_llama_salient(self):
        self.check_model(
            shared("models", "pocket-llama-salient"),
            shared("data", "pocket-llama", "calibration.safetensors"),
            128,
        )

    def test_stories260k(self):
        self.check_model(
            shared("models", "stories260k"),
            shared("data", "stories260k", "calibration.safetensors"),
            32,
        )

    def test_babyllama(self):
        self.check_model(
            shared("models", "babyllama-969k"),
            shared("data", "babyllama-969k", "calibration.safetensors"),
            32,
        )

    def heavy_tailed(self, name, seed, in_features, outs, dtype=np.float32, tokens=(97, 200, 31)):
        """Makes Student-t weights and activations, uneven channels, some dead, some shifted."""
        random = np.random.default_rng(seed)
        spread = np.exp(random.standard_normal(in_features)).astype(np.float32)
        spread[random.choice(in_features, in_features // 50, replace=False)] *= 30
        spread[random.choice(in_features, in_features // 50, replace=False)] = 0
        shift = random.standard_normal(in_features) * (random.random(in_features) < 0.1)
        activations = [
            ((random.standard_t(3, (n, in_features)) + shift) * spread).astype(np.float32)
            for n in tokens
        ]
        weights = [
            (random.standard_t(2, (out, in_features)) * 0.02).astype(dtype) for out in outs
        ]
        for weight in weights:
            weight[0] = 0  # A row is pruned.
            weight[1] = np.abs(weight[1])  # Groups are one-sided.
            weight[2, : in_features // 2] = 0.01  # Groups are constant.
        linears = [(f"{name}.{i}", weight) for i, weight in enumerate(weights)]
        return Group(name, linears, rows(activations)), activations

    def check_ragged(self, groups, group_size, **options):
        """Checks as check does, for rows of unequal length."""
        flat = [(group, [np.concatenate(activations)]) for group, activations in groups]
        self.check(flat, group_size, **options)

    def test_random_heavy_tailed_groups(self):
        groups = [
            self.heavy_tailed("narrow", 1, 64, [8]),
            self.heavy_tailed("half", 2, 256, [64, 24, 16], np.float16),
            self.heavy_tailed("ragged", 3, 320, [40]),
            self.heavy_tailed("whole_gram", 4, 1024, [64]),
        ]
        self.check_ragged(groups, 64)
        self.check_ragged(groups, 64, range="minmax", rounding="nearest")
        self.check_ragged(groups, 64, scale="none", range="minmax", rounding="block")

    def test_random_heavy_tailed_groups_wider_than_the_exact_gram(self):
        for seed in (5, 6):
            groups = [
                self.heavy_tailed("wide", seed, 1536, [64], tokens=(300, 211)),
                self.heavy_tailed("wider", seed + 10, 2048, [32, 32], tokens=(300, 211)),
            ]
            results = quantize([group for group, _ in groups], group_size=128)
            self.assertFalse(any(r.report.exact_loss for r in results.values()))
            self.check_ragged(groups, 128)


class Twin(unittest.TestCase):
    """The same method in NumPy decides the same."""

    METHODS = ("rtn", "block128-rounding", "block256")

    def setUp(self):
        """Takes the groups of one block of the committed model."""
        self.model = llama_np.Llama.load(paths.POCKET_LLAMA)
        source = llama_np.read_tensors(paths.POCKET_LLAMA)
        tokens = llama.read_tokens(paths.POCKET_LLAMA / "calibration_open.safetensors", 12)
        hidden = self.model.embed(tokens)
        for layer in range(2):
            hidden, self.inputs = llama_groups.run_block(self.model, layer, hidden)
        self.groups = []
        for name, linears in llama_np.GROUPS.items():
            members = [(linear, source[llama_groups.module(1, linear) + ".weight"])
                       for linear in linears]
            tied = llama_groups.tied_heads(self.model) if name == "o" else None
            self.groups.append(Group(name, members, rows(self.inputs[name]), tied_heads=tied))
        self.statistics = {n: quantize_np.Statistics.of(x) for n, x in self.inputs.items()}

    def same_share(self, written, name, quantized):
        """Shares of codes, zero points and scales that are equal."""
        codes = awq_reader_np.unpack(written[f"{name}.qweight"]).T
        zeros = awq_reader_np.unpack(written[f"{name}.qzeros"]).T
        scales = written[f"{name}.scales"].T.astype(np.float32)
        return [np.mean(a == b) for a, b in (
            (codes, quantized.codes), (zeros, quantized.zeros), (scales, quantized.scales))]

    def test_same_candidates_scales_and_codes(self):
        missed = []
        for key in self.METHODS:
            method = quantize_np.METHODS[key]
            results = quantize(self.groups, **llama.METHODS[key])
            for group in self.groups:
                with self.subTest(f"{key} {group.name}"):
                    result, statistics = results[group.name], self.statistics[group.name]
                    weights = [weight for _, weight in group.linears]
                    mine = quantize_np.quantize_group(weights, statistics, method, group.tied_heads)
                    chosen = result.report.candidate
                    theirs = None if chosen.identity else (chosen.weight_aware, chosen.ratio)
                    if theirs != mine.candidate:
                        # The search evaluates in full what a sample of rows finds best. What it
                        # misses is worth next to nothing, and seldom.
                        losses = mine.losses["search"]
                        self.assertLess(losses[theirs], 1.005 * losses[mine.candidate])
                        missed.append(f"{key} {group.name}")
                        continue
                    np.testing.assert_array_equal(result.scales, mine.scale)
                    for (name, _), quantized in zip(group.linears, mine.linears):
                        codes, zeros, scales = self.same_share(result.tensors, name, quantized)
                        self.assertGreaterEqual(codes, 0.999, name)
                        self.assertGreaterEqual(zeros, 0.999, name)
                        self.assertGreaterEqual(scales, 0.98, name)  # Sums of a refit round apart.
        self.assertLessEqual(len(missed), len(self.METHODS) * len(self.groups) // 4, missed)


class Currency(unittest.TestCase):
    """Takes one exact-Gram group of two Linears and one sketched group, 12 calibration rows."""

    def setUp(self):
        random = np.random.default_rng(7)
        lengths = random.integers(1, 300, 12)
        self.groups = []
        for name, in_features, outs in (("exact", 256, [64, 32]), ("sketched", 1536, [48])):
            spread = np.exp(random.standard_normal(in_features))
            # float16 values, so that both element types can carry them.
            x = [(random.standard_normal((n, in_features)) * spread).astype(np.float16)
                 for n in lengths]
            linears = [(f"{name}.{i}", random.standard_normal((o, in_features)).astype(np.float32))
                       for i, o in enumerate(outs)]
            self.groups.append((name, linears, x))

    def result(self, workers, cut, dtype="<f4"):
        """All bytes out, with each group's activations cut into batches by `cut`."""
        return self.bytes_out(workers, [
            Group(name, linears, list(cut(x)), activation_dtype=np.dtype(dtype))
            for name, linears, x in self.groups
        ])

    def bytes_out(self, workers, groups):
        results = quantize(groups, workers)
        out = {}
        for name, result in results.items():
            for tensor, array in result.tensors.items():
                out[tensor] = array.tobytes()
            out[f"{name} scales"] = result.scales.tobytes()
            report = type(result.report)()
            report.CopyFrom(result.report)
            report.seconds = 0
            out[f"{name} report"] = report.SerializeToString(deterministic=True)
        return out

    def check_same(self, one, other, what):
        for key, data in one.items():
            self.assertEqual(data, other[key], f"{key} differs: {what}")

    @staticmethod
    def whole_rows(order=None):
        def cut(x):
            for row in order if order is not None else range(len(x)):
                yield row, 0, x[row]

        return cut

    @staticmethod
    def random_batches(seed, order=None):
        random = np.random.default_rng(seed)

        def cut(x):
            for row in order if order is not None else range(len(x)):
                start = 0
                while start < len(x[row]):
                    tokens = int(random.integers(1, 98))
                    yield row, start, x[row][start : start + tokens]
                    start += tokens

        return cut

    def test_same_bytes_for_any_batching_order_and_number_of_workers(self):
        shuffled = np.random.default_rng(3).permutation(12).tolist()
        expected = self.result(1, self.whole_rows())
        for workers in servers:
            for what, cut in (
                ("a batch a row", self.whole_rows()),
                ("batches of 1 to 97 tokens", self.random_batches(workers)),
                ("rows shuffled", self.whole_rows(shuffled)),
                ("rows shuffled, batches of 1 to 97", self.random_batches(9, shuffled)),
            ):
                with self.subTest(what, workers=workers):
                    self.check_same(
                        expected, self.result(workers, cut), f"{what}, {workers} workers"
                    )

    def test_same_bytes_for_either_element_type(self):
        self.check_same(self.result(2, self.whole_rows()),
                        self.result(2, self.whole_rows(), "<f2"), "float16")

    def from_parts(self, workers, order, beside=()):
        """Returns all bytes that come out from merged statistics files, with some rows beside them as batches."""
        return self.bytes_out(workers, [
            Group(name, linears, [(row, 0, x[row]) for row in beside],
                  statistics=[parts[i] for i in order])
            for (name, linears, x), parts in zip(self.groups, self.parts())
        ])

    def parts(self):
        """Seven statistics files of each group, made here: part i of rows i, i + 7."""
        if not hasattr(self, "_parts"):
            self._parts = [
                [statistics_np.encode({row: x[row] for row in range(i, len(x), 7)})
                 for i in range(7)]
                for _, _, x in self.groups
            ]
        return self._parts

    def test_same_bytes_for_seven_statistics_parts_in_any_order(self):
        expected = self.from_parts(1, range(7))
        random = np.random.default_rng(5)
        for workers in servers:
            order = random.permutation(7)
            with self.subTest(workers=workers, order=order.tolist()):
                self.check_same(expected, self.from_parts(workers, order), f"order {order}")
        whole = [statistics_np.encode(dict(enumerate(x))) for _, _, x in self.groups]
        merged = self.bytes_out(2, [
            Group(name, linears, [], statistics=[file])
            for (name, linears, _), file in zip(self.groups, whole)
        ])
        self.check_same(expected, merged, "one file")

    def test_statistics_made_here_are_the_statistics_of_the_activations(self):
        """Rounding apart: sums here are of float64 products, the server's of float32 ones."""
        one, other = self.result(2, self.whole_rows()), self.from_parts(2, range(7))
        mixed = self.from_parts(2, range(5), beside=(6, 5))
        for key, data in one.items():
            if key.endswith("report"):
                report = report_pb.GroupReport.FromString(data)
                for source in (other, mixed):
                    loss = report_pb.GroupReport.FromString(source[key]).loss
                    self.assertAlmostEqual(loss / report.loss, 1, delta=1e-3, msg=key)

    def test_overlapping_parts_are_refused(self):
        name, linears, _ = self.groups[0]
        parts = self.parts()[0]
        with self.assertRaises(grpc.RpcError) as raised:
            quantize([Group(name, linears, [], statistics=[*parts, parts[3]])])
        self.assertEqual(raised.exception.code(), grpc.StatusCode.FAILED_PRECONDITION)

    def test_another_row_gives_other_bytes(self):
        """Fails if results did not depend on calibration at all."""
        one = self.result(2, self.whole_rows())
        other = self.result(2, self.whole_rows(range(11)))
        self.assertNotEqual(one["exact report"], other["exact report"])
        self.assertNotEqual(one["exact.0.qweight"], other["exact.0.qweight"])


if __name__ == "__main__":
    run_tests.run()
