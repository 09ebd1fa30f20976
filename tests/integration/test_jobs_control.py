"""Tests a job as a resource: watched from any revision, asked for again, listed, deleted."""

import threading
import uuid

import grpc

from job_case import JobCase, content, failure
from job_client import (CANCELLED, QUEUED, RUNNING, SUCCEEDED, digest_of, manifest, quantize)
from live_server import run_tests, wait_until

Code = grpc.StatusCode


class WatchTest(JobCase):
    def test_any_revision_is_a_place_to_begin(self):
        outcome = self.client.run(self.spec, self.files.values())
        self.assertEqual(outcome.job.state, SUCCEEDED, outcome.failure)
        name = outcome.job.name
        revisions = [e.revision for e in outcome.events]
        self.assertEqual(revisions, sorted(set(revisions)))
        self.assertGreater(revisions[0], 0)
        # A running job's progress may be left out once there is newer; an ended one is fixed.
        every = list(self.client.watch(name))
        for after in (0, *[e.revision for e in every]):
            want = [content(e) for e in every if e.revision > after]
            self.assertEqual([content(e) for e in self.client.watch(name, after)], want, after)
        lasting = lambda events: [content(e) for e in events if e.WhichOneof("event") != "progress"]
        self.assertEqual(lasting(outcome.events), lasting(every))
        self.assertEqual(every[-1].state_changed, SUCCEEDED)
        self.assertEqual(outcome.job.revision, every[-1].revision)

    def test_states_in_order(self):
        outcome = self.client.run(quantize(manifest(self.files), self.digest, max_rows=2),
                                  self.files.values())
        states = outcome.of("state_changed")
        self.assertEqual([s for s in states if s != QUEUED], [RUNNING, SUCCEEDED])
        job = outcome.job
        self.assertLessEqual(job.create_time.ToNanoseconds(), job.start_time.ToNanoseconds())
        self.assertLessEqual(job.start_time.ToNanoseconds(), job.end_time.ToNanoseconds())
        stages = {p.stage for p in outcome.of("progress")}
        self.assertTrue(stages, "no progress was reported")
        for progress in outcome.of("progress"):
            self.assertEqual(progress.block_count, 2)
            self.assertLess(progress.block, 3)

    def test_many_watchers_see_the_same(self):
        job = self.client.create(quantize(manifest(self.files), self.digest, max_rows=3))
        seen = [[] for _ in range(8)]
        threads = [threading.Thread(target=lambda into=into: into.extend(
            self.client.watch(job.name))) for into in seen]
        for thread in threads:
            thread.start()
        for data in self.files.values():
            self.client.upload(data)
        for thread in threads:
            thread.join(120)
        lasting = [[content(e) for e in events if e.WhichOneof("event") != "progress"]
                   for events in seen]
        self.assertTrue(lasting[0])
        self.assertTrue(all(other == lasting[0] for other in lasting))

    def test_unknown_job(self):
        for call in (self.client.get, self.client.cancel, self.client.delete,
                     lambda name: list(self.client.watch(name))):
            for name in ("jobs/nobody", "nobody", "", "jobs/../etc", "jobs/" + "x" * 1000):
                with self.subTest(name=name[:20]):
                    failed = failure(call, name)
                    self.assertIn(failed.code, (Code.NOT_FOUND, Code.INVALID_ARGUMENT), failed)
                    self.assertIn(failed.reason, ("UNKNOWN_JOB", "BAD_JOB"), failed)
        self.assertEqual(failure(self.client.get, "jobs/nobody").code, Code.NOT_FOUND)


class IdentityTest(JobCase):
    """Tests job_id, request_id and validate_only."""

    def test_a_repeated_job_id_is_the_same_job(self):
        first = self.client.create(self.spec, job_id="nightly-1")
        self.assertEqual(first.name, "jobs/nightly-1")
        self.assertEqual(self.client.create(self.spec, job_id="nightly-1").name, first.name)
        failed = failure(self.client.create, self.absent_spec(1), job_id="nightly-1")
        self.assert_fails(failed, Code.ALREADY_EXISTS, "JOB_EXISTS", "nightly-1")

    def test_a_repeated_request_id_is_the_same_job(self):
        request = str(uuid.UUID(int=7))
        first = self.client.create(self.spec, request_id=request)
        self.assertEqual(self.client.create(self.spec, request_id=request).name, first.name)
        failed = failure(self.client.create, self.absent_spec(2), request_id=request)
        self.assert_fails(failed, Code.ALREADY_EXISTS, "JOB_EXISTS", request)

    def test_job_ids_that_are_none(self):
        for job_id in ("Upper", "1st", "end-", "a" * 64, "a/b", "../x", "a b", "jobs/a", "ä"):
            with self.subTest(job_id=job_id):
                failed = failure(self.client.create, self.spec, job_id=job_id)
                self.assert_fails(failed, Code.INVALID_ARGUMENT, "BAD_JOB", "job_id")

    def test_the_spec_comes_back_as_it_was_sent(self):
        job = self.client.create(self.spec, job_id="echo")
        self.assertEqual(self.client.get("jobs/echo").spec, self.spec)
        self.assertEqual(job.spec, self.spec)

    def test_validate_only_stores_nothing(self):
        before = [j.name for j in self.client.list(page_size=1000).jobs]
        spec = self.absent_spec(3)
        job = self.client.create(spec, job_id="only-asked", validate_only=True)
        estimate = job.estimate
        self.assertGreater(estimate.peak_memory_bytes, 0)
        self.assertGreater(estimate.flop, 1e6)
        self.assertGreater(estimate.seconds, 0)
        self.assertGreater(estimate.output_bytes, 0)
        self.assertTrue(job.missing)
        self.assertEqual([j.name for j in self.client.list(page_size=1000).jobs], before)
        self.assertEqual(failure(self.client.get, "jobs/only-asked").code, Code.NOT_FOUND)
        # The name is still free.
        other = self.client.create(self.absent_spec(4), job_id="only-asked")
        self.assertEqual(other.name, "jobs/only-asked")
        self.client.cancel(other.name)

    def test_the_estimated_size_is_the_size(self):
        outcome = self.client.run(self.spec, self.files.values())
        written = sum(size for _, size in outcome.files.values())
        carried = len(self.files["tokenizer_config.json"])
        self.assertAlmostEqual(outcome.job.estimate.output_bytes / (written - carried), 1, delta=.02)


class ListTest(JobCase):
    def test_pages(self):
        names = [self.client.create(self.absent_spec(100 + i), job_id=f"page-{i}").name
                 for i in range(5)]
        self.addCleanup(lambda: [self.client.cancel(n) for n in names])
        seen, token, sizes = [], "", []
        while True:
            page = self.client.list(page_size=2, page_token=token)
            seen += [j.name for j in page.jobs]
            sizes.append(len(page.jobs))
            token = page.next_page_token
            if not token:
                break
        newest_first = list(reversed(names))
        self.assertEqual([n for n in seen if n in names], newest_first)
        self.assertEqual(len(seen), len(set(seen)))
        self.assertLessEqual(max(sizes), 2)
        everything = self.client.list().jobs
        self.assertEqual([j.name for j in everything], seen)

        self.client.cancel(names[0])
        self.client.finish(names[0])
        cancelled = self.client.list(states=[CANCELLED]).jobs
        self.assertIn(names[0], [j.name for j in cancelled])
        self.assertEqual({j.state for j in cancelled}, {CANCELLED})
        waiting = {j.name for j in self.client.list(states=[QUEUED, RUNNING]).jobs}
        self.assertEqual(waiting & set(names), set(names[1:]))

    def test_a_page_that_ends_with_a_deleted_job_goes_on(self):
        names = [self.client.create(self.absent_spec(200 + i), job_id=f"gone-{i}").name
                 for i in range(3)]
        for name in names:
            self.client.cancel(name)
            self.client.finish(name)
        page = self.client.list(page_size=1)
        self.assertEqual([j.name for j in page.jobs], names[2:])
        self.client.delete(names[2])
        rest = self.client.list(page_size=1, page_token=page.next_page_token)
        self.assertEqual([j.name for j in rest.jobs], names[1:2])

    def test_bad_pages(self):
        for arguments in (dict(page_token="nonsense"), dict(page_size=-1), dict(page_size=1001)):
            with self.subTest(arguments):
                failed = failure(self.client.list, **arguments)
                self.assert_fails(failed, Code.INVALID_ARGUMENT, "BAD_JOB", *arguments)


class DeleteTest(JobCase):
    def test_only_what_ended(self):
        name = self.client.create(self.absent_spec(400)).name
        self.assert_fails(failure(self.client.delete, name), Code.FAILED_PRECONDITION,
                          "JOB_NOT_ENDED", name)
        self.client.cancel(name)
        self.client.finish(name)
        self.client.delete(name)
        self.assertEqual(failure(self.client.get, name).code, Code.NOT_FOUND)
        self.assertEqual(failure(self.client.delete, name).code, Code.NOT_FOUND)

    def test_results_go_unless_another_job_has_them(self):
        first = self.client.run(self.spec, self.files.values())
        again = quantize(manifest(self.files), self.digest, priority=1)
        second = self.client.run(again, self.files.values())
        self.assertEqual(first.files, second.files)
        self.assertNotEqual(first.job.name, second.job.name)
        self.client.delete(first.job.name)
        self.assertEqual(set(self.client.read_files(second.job)), set(second.files))
        self.client.delete(second.job.name)
        for ready in second.of("tensor_ready"):
            self.assertFalse(self.client.can_read(ready.digest), ready.header.name)
        # What was uploaded is the client's.
        self.assertTrue(self.client.can_read(digest_of(self.files["model.safetensors"])))
        third = self.client.run(self.spec)
        self.assertEqual(third.files, first.files)

    def test_time_to_live(self):
        spec = quantize(manifest(self.files), self.digest, ttl=0.2)
        outcome = self.client.run(spec, self.files.values())
        gone = wait_until(lambda: outcome.job.name not in
                          [j.name for j in self.client.list(page_size=1000).jobs], 90)
        self.assertIsNotNone(gone, "the job outlives its time")
        print(f"\n  gone {gone:.1f} s after it ended")


if __name__ == "__main__":
    run_tests()
