"""Tests what whoever watches at night sees: the metrics endpoint, the rules and the dashboard, each tried
with the real Prometheus on a live server.

promtool and prometheus are those of Debian's package `prometheus`; without them the tests that
need them say SKIPPED.
"""

import json
import pathlib
import re
import shutil
import socket
import subprocess
import tempfile
import time
import unittest
import urllib.error
import urllib.parse
import urllib.request

import job_models as models
import messages as m
from job_client import SUCCEEDED, manifest, quantize
from job_server import JobServer
from live_server import HeldCall, LiveServer, Metrics, run_tests, wait_until

DEPLOY = pathlib.Path(__file__).resolve().parents[2] / "deploy"
DASHBOARD = DEPLOY / "grafana" / "dashboard.json"
RULES = DEPLOY / "prometheus" / "rules.yml"
PANELS = ("Parameters per second", "Calibration tokens per second", "Errors by reason",
          "Relative output error", "Loss over loss of round-to-nearest", "Workers and active calls",
          "Jobs", "Progress of jobs", "Store", "Time by stage", "Fold error")
MATCHERS = 'job=~"$job", instance=~"$instance"'
WORKERS = 2
SCRAPES = 12  # There is one a second.

needs_prometheus = unittest.skipUnless(
    shutil.which("prometheus") and shutil.which("promtool"),
    "SKIPPED: no promtool and prometheus: apt-get install prometheus")


def dashboard():
    return json.loads(DASHBOARD.read_text())


def targets():
    """Returns (panel title, expression) of every target."""
    return [(panel["title"], target["expr"]) for panel in dashboard()["panels"]
            for target in panel["targets"]]


def metric_names(expression):
    """Returns the metrics of a PromQL expression, as families: without _bucket."""
    bare = re.sub(r'\{[^}]*\}|\[[^\]]*\]|"[^"]*"', "", expression)
    bare = re.sub(r"\b(by|without|on|ignoring)\s*\([^)]*\)", "", bare)
    return {name for name in re.findall(r"[a-zA-Z_:][\w:]*(?!\w*\s*\()", bare) if "_" in name
            and name != "histogram_quantile"}


def work(server, seed=0):
    """Makes one call of three groups."""
    groups = [m.random_group(f"g{i}", 10 * seed + i, [256, 128], 256, tokens=256) for i in range(3)]
    results, failure = server.quantize(m.call_messages(groups))
    assert failure is None, failure
    return results


class DashboardFileTest(unittest.TestCase):
    """Holds the dashboard to the rules of Grafana's dashboard-linter, and to what a reader needs."""

    def test_the_panels(self):
        self.assertEqual(tuple(p["title"] for p in dashboard()["panels"]), PANELS)

    def test_is_not_editable_and_has_a_fixed_uid(self):
        board = dashboard()
        self.assertIs(board["editable"], False)
        self.assertEqual(board["uid"], "salient-overview")
        self.assertNotIn("id", board)  # The id belongs to one Grafana's database.

    def test_variables(self):
        variables = {v["name"]: v for v in dashboard()["templating"]["list"]}
        self.assertEqual(list(variables), ["datasource", "job", "instance"])
        source = variables["datasource"]
        self.assertEqual((source["type"], source["query"], source["label"]),
                         ("datasource", "prometheus", "Data source"))
        for name in ("job", "instance"):
            variable = variables[name]
            self.assertEqual(variable["type"], "query")
            self.assertEqual(variable["datasource"]["uid"], "${datasource}")
            self.assertEqual(variable["label"], name.title())
            self.assertIs(variable["multi"], True)
            self.assertEqual(variable["allValue"], ".+")
            self.assertEqual(variable["refresh"], 2, "must reload when the time range changes")
            self.assertRegex(variable["query"]["query"], rf"^label_values\(.+, {name}\)$")

    def test_panels(self):
        ids, places = set(), set()
        for panel in dashboard()["panels"]:
            with self.subTest(panel=panel["title"]):
                ids.add(panel["id"])
                grid = panel["gridPos"]
                for x in range(grid["x"], grid["x"] + grid["w"]):
                    for y in range(grid["y"], grid["y"] + grid["h"]):
                        self.assertNotIn((x, y), places, "panels overlap")
                        places.add((x, y))
                self.assertLessEqual(grid["x"] + grid["w"], 24)
                self.assertEqual(panel["type"], "timeseries")
                self.assertEqual(panel["datasource"], {"type": "prometheus", "uid": "${datasource}"})
                self.assertTrue(panel["title"] and panel["description"].endswith("."))
                self.assertTrue(panel["fieldConfig"]["defaults"]["unit"])
                self.assertTrue(panel["targets"])
                letters = [t["refId"] for t in panel["targets"]]
                self.assertEqual(len(set(letters)), len(letters))
        self.assertEqual(len(ids), len(PANELS))

    def test_targets(self):
        for title, expression in targets():
            with self.subTest(panel=title, expression=expression):
                selectors = re.findall(r"\{([^}]*)\}", expression)
                self.assertEqual(len(selectors), len(metric_names(expression)))
                for selector in selectors:
                    self.assertTrue(selector.startswith(MATCHERS), selector)
                for window in re.findall(r"\[([^\]]*)\]", expression):
                    self.assertEqual(window, "$__rate_interval")
                for name in metric_names(expression):
                    if re.search(r"_(total|bucket|count|sum)$", name):
                        self.assertRegex(expression, rf"(rate|increase)\({name}\{{",
                                         "a counter is read through rate")


class EndpointTest(unittest.TestCase):
    """Tests the scrape."""

    @classmethod
    def setUpClass(cls):
        cls.server = LiveServer("--workers", str(WORKERS))
        cls.addClassCleanup(cls.server.stop)

    @needs_prometheus
    def test_promtool_accepts_it_before_and_after_work(self):
        for when in ("before", "after"):
            with self.subTest(when=when):
                done = subprocess.run(["promtool", "check", "metrics"], input=self.server.scrape(),
                                      capture_output=True, text=True, timeout=60)
                self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            work(self.server)

    def test_every_name_in_dashboard_and_rules_is_scraped(self):
        text = self.server.scrape()
        families = set(re.findall(r"^# TYPE (\S+)", text, re.M))
        used = {name for _, expression in targets() for name in metric_names(expression)}
        used |= set(re.findall(r"\bsalient_\w+", RULES.read_text()))
        used |= set(re.findall(r"\bsalient_\w+", json.dumps(dashboard()["templating"])))
        self.assertGreater(len(used), 5)
        for name in sorted(used):
            with self.subTest(name=name):
                self.assertIn(re.sub(r"_(bucket|count|sum)$", "", name), families)

    def test_labels_in_rules_exist(self):
        metrics = Metrics(self.server.scrape())
        reasons = {labels["reason"] for name, labels, _ in metrics.samples
                   if name == "salient_errors_total"}
        self.assertLessEqual({"INTERNAL", "BUSY", "MEMORY"}, reasons)
        bounds = {float(labels["le"]) for name, labels, _ in metrics.samples
                  if name == "salient_loss_ratio_bucket"}
        self.assertIn(1.0, bounds)
        folds = {labels["le"] for name, labels, _ in metrics.samples
                 if name == "salient_fold_error_ratio_bucket"}
        self.assertLessEqual({"0.0001", "0.001"}, folds)

    def test_counters_stand_at_zero_before_the_first_event(self):
        """rate() sees the first error only if the series was there before it."""
        with LiveServer() as fresh:
            metrics = fresh.metrics()
        errors = [value for name, _, value in metrics.samples if name == "salient_errors_total"]
        self.assertGreater(len(errors), 10)
        self.assertEqual(set(errors), {0.0})
        handled = [labels for name, labels, _ in metrics.samples
                   if name == "grpc_server_handled_total"
                   and labels["grpc_method"] == "QuantizeTensors"]
        self.assertGreaterEqual(len(handled), 17)

    def test_no_client_text_becomes_a_label(self):
        """A name in a label is a series for ever: clients would grow the server's memory."""
        before = {(name, *sorted(labels.items())) for name, labels, _ in self.server.metrics().samples}
        secret = m.random_group("a-name-nobody-else-has", 3, 64, 128)
        self.assertIsNone(self.server.quantize(m.call_messages([secret]))[1])
        self.assertIsNotNone(self.server.quantize([m.end_group()])[1])
        text = self.server.scrape()
        self.assertNotIn("nobody-else-has", text)
        after = {(name, *sorted(labels.items())) for name, labels, _ in Metrics(text).samples}
        self.assertEqual(after - before, set())

    def test_build_info_and_process(self):
        metrics = self.server.metrics()
        info = [labels for name, labels, _ in metrics.samples if name == "salient_build_info"]
        self.assertEqual(len(info), 1)
        self.assertRegex(info[0]["version"], r"^\d+\.\d+\.\d+")
        self.assertAlmostEqual(metrics.total("process_resident_memory_bytes"),
                               self.server.rss_bytes(), delta=32 << 20)
        self.assertGreater(metrics.total("process_cpu_seconds_total"), 0)


@needs_prometheus
class RulesTest(unittest.TestCase):
    """Tests alerts, without a server."""

    def promtool(self, *arguments):
        done = subprocess.run(["promtool", *arguments], cwd=RULES.parent, capture_output=True,
                              text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_config(self):
        self.promtool("check", "config", "prometheus.yml")

    def test_rules(self):
        self.promtool("check", "rules", "--lint=all", "rules.yml")

    def test_rules_fire_and_stay_silent(self):
        self.promtool("test", "rules", "rules_test.yml")


class LivePrometheus:
    """Runs a Prometheus with our configuration, scraping one server every second."""

    def __init__(self, server):
        self._directory = tempfile.TemporaryDirectory(prefix="prometheus_")
        path = pathlib.Path(self._directory.name)
        shutil.copy(RULES, path)
        config = (RULES.parent / "prometheus.yml").read_text()
        config = re.sub(r"(scrape|evaluation)_interval: \S+", r"\1_interval: 1s", config)
        target = server.metrics_url.split("/")[2]
        config, count = re.subn(r'targets: \[.*\]', f'targets: ["{target}"]', config)
        assert count == 1, config
        (path / "prometheus.yml").write_text(config)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        self._log = open(path / "log", "wb")
        self.process = subprocess.Popen(
            ["prometheus", f"--config.file={path}/prometheus.yml", f"--storage.tsdb.path={path}/data",
             f"--web.listen-address={self.address}"], stdout=self._log, stderr=self._log)
        if wait_until(self._is_ready, 60, every=0.2) is None:
            raise RuntimeError((path / "log").read_text())

    def _is_ready(self):
        try:
            with urllib.request.urlopen(f"http://{self.address}/-/ready", timeout=5) as answer:
                return answer.status == 200
        except (urllib.error.URLError, ConnectionError):
            return False

    def get(self, path, **parameters):
        url = f"http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from error

    def query(self, expression):
        """Returns {labels: value}, labels as a sorted tuple of pairs."""
        found = self.get("query", query=expression)["result"]
        return {tuple(sorted(r["metric"].items())): float(r["value"][1]) for r in found}

    def stop(self):
        self.process.terminate()
        self.process.wait(30)
        self._log.close()
        self._directory.cleanup()


@needs_prometheus
class LiveDashboardTest(unittest.TestCase):
    """Every query of the dashboard, while a server works."""

    @classmethod
    def setUpClass(cls):
        cls.server = JobServer(workers=WORKERS)
        cls.addClassCleanup(cls.server.stop)
        cls.prometheus = LivePrometheus(cls.server)
        cls.addClassCleanup(cls.prometheus.stop)
        assert wait_until(lambda: cls.prometheus.query("up == 1"), 30, every=0.2) is not None
        cls.worked()
        cls.values = {}
        with HeldCall(cls.server) as held:
            time.sleep(2.5)  # Two scrapes see the open call.
            for title, expression in targets():
                cls.values.setdefault(title, []).append(
                    cls.prometheus.query(cls.replaced(expression)))
            held.finish()

    @classmethod
    def worked(cls):
        """Calls, good and bad, and jobs, over some scrapes."""
        client, files = cls.server.client, models.random_llama(seed=1).files()
        spec = quantize(manifest(files), client.upload(models.token_file(
            models.random_tokens(4, 64, 256))))
        start = time.monotonic()
        seed = 0
        while time.monotonic() - start < SCRAPES:
            work(cls.server, seed)
            assert client.run(spec, files.values()).job.state == SUCCEEDED
            cls.server.quantize([m.end_group()])
            seed += 1
            time.sleep(0.3)

    @staticmethod
    def replaced(expression):
        expression = expression.replace("$__rate_interval", "30s")
        return expression.replace("$job", "salient").replace("$instance", ".+")

    def test_every_query_answers(self):
        self.assertEqual(set(self.values), set(PANELS))
        for title, answers in self.values.items():
            for answer in answers:
                with self.subTest(panel=title):
                    self.assertGreaterEqual(len(answer), 1)
                    for value in answer.values():
                        self.assertTrue(0 <= value < 1e15, answer)
        print()
        for title, answers in self.values.items():
            shown = ", ".join(f"{max(a.values(), default=float('nan')):.4g}" for a in answers)
            print(f"  {title}: {shown}")

    def single(self, title, index=0):
        answer = self.values[title][index]
        self.assertEqual(len(answer), 1, answer)
        return next(iter(answer.values()))

    def test_rates(self):
        self.assertGreater(self.single(PANELS[0]), 0)
        self.assertGreater(self.single(PANELS[1]), 0)

    def test_errors_have_their_reason(self):
        by_reason = {dict(labels)["reason"]: value for labels, value in self.values[PANELS[2]][0].items()}
        self.assertGreater(by_reason["MESSAGE_ORDER"], 0)
        self.assertEqual(by_reason["INTERNAL"], 0)

    def test_quality(self):
        for title, most in ((PANELS[3], 1.0), (PANELS[4], 1.0)):
            median, tail = self.single(title, 0), self.single(title, 1)
            self.assertTrue(0 < median <= tail <= most, (title, median, tail))

    def test_folds_change_next_to_nothing(self):
        median, tail = self.single(PANELS[10], 0), self.single(PANELS[10], 1)
        self.assertTrue(0 < median <= tail <= 1e-4, (median, tail))

    def test_workers_and_calls(self):
        busy, workers, calls = (self.single(PANELS[5], i) for i in range(3))
        self.assertEqual(workers, WORKERS)
        self.assertTrue(0 < busy <= WORKERS, busy)
        self.assertEqual(calls, 1)

    def test_variables_have_values(self):
        for variable in dashboard()["templating"]["list"][1:]:
            metric, label = re.match(r"label_values\((.+), (\w+)\)", variable["query"]["query"]).groups()
            found = self.prometheus.get(f"label/{label}/values",
                                        **{"match[]": metric.replace("$job", ".+")})
            self.assertGreaterEqual(len(found), 1, variable["name"])

    def test_rules_are_evaluated(self):
        rules = [r for g in self.prometheus.get("rules")["groups"] for r in g["rules"]]
        self.assertEqual(len(rules), len(re.findall(r"- alert:", RULES.read_text())))
        for rule in rules:
            self.assertEqual((rule["health"], rule["state"]), ("ok", "inactive"), rule["name"])


if __name__ == "__main__":
    run_tests()
