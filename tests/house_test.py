#!/usr/bin/env python3
"""Proves that the checks of the house can fail: each planted fault must be found and named, and a
house without one must pass."""

import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

TESTS = pathlib.Path(__file__).resolve().parent


class House(unittest.TestCase):
    def setUp(self):
        self.place = tempfile.TemporaryDirectory()
        self.root = pathlib.Path(self.place.name)
        self.addCleanup(self.place.cleanup)

    def plant(self, name, text):
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        (self.root / name).write_text(text, encoding="utf-8")

    def check(self, script):
        ended = subprocess.run([sys.executable, TESTS / script, self.root], capture_output=True, text=True,
                               check=False)
        return ended.returncode, ended.stdout + ended.stderr

    def finds(self, script, *words):
        code, said = self.check(script)
        self.assertEqual(code, 1, said)
        for word in words:
            self.assertIn(word, said)

    def passes(self, script):
        code, said = self.check(script)
        self.assertEqual(code, 0, said)


class CommentsTest(House):
    def setUp(self):
        super().setUp()
        self.plant("core/sum.cc", "".join(f"// Returns the sum of {n}.\nint Sum{n}();\n\n" for n in range(100)))

    def test_sentences_pass(self):
        self.plant("core/one.cc", "// What is added here is added there, too.\nint x;\n")
        self.passes("comments.py")

    def test_titles_are_counted(self):
        self.plant("core/titles.cc",
                   "// What it sums.\nint x;\n\n  // By role.\nint y;\n\n// The same, sorted.\nint z;\n")
        self.finds("comments.py", "3 of 103 comments")

    def test_a_loop_without_a_comment_is_named(self):
        self.plant("core/kernels/bare.cc", "int x;\n" * 60)
        self.finds("comments.py", "core/kernels/bare.cc: 0.0% of its 60 lines")

    def test_a_phrase_behind_code_is_named(self):
        self.plant("core/method/sum.h", "int x;  // It is 1.\nint y;  // [n]: each is 1.\n}  // namespace\n"
                                        "int z;  // parts_ are of these.\n")
        self.passes("comments.py")
        for line in ("int x;  // of the sum", "int x;  // Of the sum", "int x;  // it is 1.", "int x;  // > 0"):
            with self.subTest(line):
                self.plant("core/method/sum.h", line + "\n")
                self.finds("comments.py", "core/method/sum.h:1: the comment behind code is no sentence")

    def test_an_empty_house_is_no_house(self):
        (self.root / "core/sum.cc").unlink()
        self.finds("comments.py", "no comment was found")


class ReadmesTest(House):
    def setUp(self):
        super().setUp()
        self.plant("core/sum.h", "")
        self.plant("server/observe/metrics.cc", 'AddCounter("salient_calls_total", "Calls.");')
        self.plant("README.md", "`build/venv`, `core/sum.h`, [the room](core/README.md), `salient_calls_total`\n")
        self.plant("core/README.md", "| file | holds |\n| --- | --- |\n| `sum` | sums |\n")

    def test_what_is_there_passes(self):
        self.passes("readmes.py")

    def test_dead_paths_are_named(self):
        for page, text, path in (("README.md", "`core/product.h`", "core/product.h"),
                                 ("README.md", "[it](core/product.md)", "core/product.md"),
                                 ("README.md", "    tests/product.sh --all\n", "tests/product.sh"),
                                 ("README.md", "`core/{sum,product}.h`", "core/product.h"),
                                 ("README.md", "`product.py`", "product.py"),
                                 ("core/README.md", "| file | x |\n|-|-|\n| `product` | y |\n", "product")):
            with self.subTest(text):
                before = (self.root / page).read_text(encoding="utf-8")
                self.plant(page, text)
                self.finds("readmes.py", f"{page}: {path} does not exist")
                self.plant(page, before)

    def test_dead_metrics_are_named(self):
        self.plant("deploy/rules.yaml", "expr: rate(salient_cals_total[5m])\n")
        self.finds("readmes.py", "deploy/rules.yaml: server/observe declares no metric salient_cals_total")


class SourcesTest(House):
    def setUp(self):
        super().setUp()
        self.plant("core/sum.h", "struct Total {};\nTotal Sum(int);\ninline constexpr int kMost = 3;\n")
        self.plant("core/sum.cc", '#include "core/sum.h"\nTotal Sum(int) { return {}; }\n')
        self.plant("core/use.h", '#include "core/sum.h"\nstruct User { Total total; int Times(); };\n')
        self.plant("core/use.cc", '#include "core/use.h"\nTotal Use() { return Sum(kMost); }\n')
        self.plant("core/CMakeLists.txt", "salient_library(core SRCS sum.cc use.cc)\n")
        self.plant("tests/core/sum_test.cc", '#include "core/sum.h"\n')
        self.plant("tests/CMakeLists.txt", "foreach(name sum)\n  f(core/${name}_test.cc)\nendforeach()\n")

    def test_sources_with_what_they_use_pass(self):
        self.passes("sources.py")

    def test_what_is_not_compiled_is_named(self):
        self.plant("core/alone.cc", "")
        self.plant("core/CMakeLists.txt", "salient_library(core SRCS sum.cc use.cc)  # alone.cc\n")
        self.finds("sources.py", "core/alone.cc: stands in no CMakeLists.txt")

    def test_includes_that_are_not_there_are_named(self):
        for include, what in (("core/product.h", "which does not exist"),
                              ("salient/v1/product.pb.h", "and proto/salient/v1/product.proto does not exist"),
                              ("use.h", "expected its path from the top")):
            with self.subTest(include):
                self.plant("core/sum.cc", f'#include "core/sum.h"\n#include "{include}"\n')
                self.finds("sources.py", f"core/sum.cc: includes {include}", what)

    def test_names_without_their_header_are_named(self):
        self.plant("core/other.h", "")
        for line, name in (("Total total;", "Total"), ("int x = Sum(3);", "Sum"), ("int x = kMost;", "kMost"),
                           ("salient::Total total;", "Total")):
            with self.subTest(line):
                self.plant("core/use.cc", f'#include "core/other.h"\n{line}\n')
                self.plant("core/use.h", "")
                self.finds("sources.py", f"core/use.cc: uses {name} and does not include core/sum.h")

    def test_names_of_another_kind_pass(self):
        self.plant("core/use.h", "")
        for line in ("// Total", 'auto x = "Sum(kMost)";', "class Total;", "int x = object.Sum(v1::kMost);",
                     "enum class E {\n  kMost,\n};", "enum E { kLeast, kMost };", "#include <total>  // for Total"):
            with self.subTest(line):
                self.plant("core/use.cc", line + "\n")
                self.passes("sources.py")

    def test_missing_includes_are_mended(self):
        self.plant("core/use.cc", "#include <vector>\n\nTotal total;\n")
        self.plant("core/use.h", "")
        subprocess.run([sys.executable, TESTS / "sources.py", "--mend", self.root], capture_output=True, check=False)
        self.passes("sources.py")
        self.assertEqual((self.root / "core/use.cc").read_text(encoding="utf-8"),
                         '#include <vector>\n#include "core/sum.h"\n\nTotal total;\n')


@unittest.skipUnless(shutil.which("clang++-19"), "clang++-19 is not installed")
class LocksTest(unittest.TestCase):
    SOURCE = """#include "core/parallel/mutex.h"
class Counter {
 public:
  void Add() {
    %s
    ++count_;
  }
  void AddLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { ++count_; }
  salient::Mutex mutex_;
  int count_ ABSL_GUARDED_BY(mutex_) = 0;
};
"""

    CALLER = """#include "core/counter.h"
void Use(Counter& counter) {
  %s
}
"""

    def check(self, line, caller=None):
        with tempfile.TemporaryDirectory() as place:
            root = pathlib.Path(place)
            (root / "core/parallel").mkdir(parents=True)
            (root / "build/release").mkdir(parents=True)
            shutil.copy(TESTS.parent / "core/parallel/mutex.h", root / "core/parallel")
            source = root / "core/counter.cc"
            source.write_text(self.SOURCE % line, encoding="utf-8")
            if caller is not None:
                source = source.rename(root / "core/counter.h").with_name("caller.cc")
                source.write_text(self.CALLER % caller, encoding="utf-8")
            (root / "build/release/compile_commands.json").write_text(json.dumps(
                [{"file": str(source), "directory": place, "command": f"c++ -I{place} -std=c++20 -c {source}"}]))
            ended = subprocess.run([sys.executable, TESTS / "locks.py", place], capture_output=True,
                                   text=True, check=False)
            return ended.returncode, ended.stdout + ended.stderr

    def test_a_member_under_its_lock_passes(self):
        self.assertEqual(self.check("const salient::MutexLock lock(mutex_);"), (0, "locks: 1 compiled\n"))

    def test_a_member_without_its_lock_is_found(self):
        code, said = self.check("")
        self.assertEqual(code, 1)
        self.assertIn("writing variable 'count_' requires holding mutex 'mutex_'", said)

    def test_a_caller_that_names_no_lock_is_checked(self):
        locked = "const salient::MutexLock lock(mutex_);"
        self.assertEqual(self.check(locked, "counter.Add();"), (0, "locks: 1 compiled\n"))
        code, said = self.check(locked, "counter.AddLocked();")
        self.assertEqual(code, 1)
        self.assertIn("calling function 'AddLocked' requires holding mutex 'counter.mutex_'", said)


@unittest.skipUnless(shutil.which("clang-tidy-19"), "clang-tidy-19 is not installed")
class TidyTest(House):
    FAULT = "#include <string>\n#include <utility>\n" \
            "std::string Twice(std::string a) { std::string b = std::move(a); return a + b; }\n"

    def setUp(self):
        super().setUp()
        self.sources = {name: self.root / "core" / name for name in ("sum.cc", "use.cc")}
        for name in self.sources:
            self.plant(f"core/{name}", "int x;\n")
        self.plant("core/sum.h", "#include <string>\nstd::string Sum();\n")
        together = self.root / "build/release/Unity/unity_0.cxx"
        self.plant("build/release/Unity/unity_0.cxx",
                   "".join(f'#include "{source}"\n' for source in self.sources.values()))
        self.plant("build/release/compile_commands.json", json.dumps(
            [{"file": str(together), "directory": str(self.root),
              "command": f"c++ -I{self.root} -std=c++20 -Winvalid-pch -include x.hxx -c {together}"}]))
        self.plant(".gitignore", "build\n")
        for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "all"],
                      ["commit", "-q", "--allow-empty", "-m", "none"]):
            subprocess.run(["git", "-c", "user.name=x", "-c", "user.email=x@x", *words], cwd=self.root, check=True)

    def tidy(self, *words):
        ended = subprocess.run([sys.executable, TESTS / "tidy.py", *words, self.root], capture_output=True,
                               text=True, check=False)
        return ended.returncode, ended.stdout + ended.stderr

    def test_what_has_not_changed_is_not_read(self):
        self.assertEqual(self.tidy(), (0, "tidy: 0 read, 0 headers compiled\n"))

    def test_faults_of_changed_sources_are_named(self):
        self.plant("core/use.cc", self.FAULT)
        for words in ((), ("--all",)):
            with self.subTest(words):
                code, said = self.tidy(*words)
                self.assertEqual(code, 1, said)
                self.assertIn("core/use.cc:3:73: error: 'a' used after it was moved", said)
                self.assertNotIn("suspicious", said)

    def test_headers_that_need_another_are_named(self):
        self.plant("core/use.h", "std::string Use();\n")
        for words in ((), ("--all",)):
            with self.subTest(words):
                code, said = self.tidy(*words)
                self.assertEqual(code, 1, said)
                self.assertIn("core/use.h:1:1: error: use of undeclared identifier 'std'", said)

    def test_what_is_left_out_is_said(self):
        for number in range(50):
            self.plant(f"core/empty_{number}.h", "")
        code, said = self.tidy()
        self.assertEqual(code, 0, said)
        self.assertIn("NOT READ: 18 of 50 headers", said)


if __name__ == "__main__":
    unittest.main()
