"""Is a salientd with a store, a model root and an output root of its own."""

import pathlib
import tempfile

from job_client import JobClient
from live_server import LiveServer

import job_models

STORE_FLAG = "--store-directory"
MODEL_ROOT_FLAG = "--model-root"
OUTPUT_ROOT_FLAG = "--output-root"


class JobServer(LiveServer):
    """Its directories lie below `root` and go away with it."""

    def __init__(self, *flags, workers=2):
        self._root = tempfile.TemporaryDirectory(prefix="salient_jobs_")
        self.root = pathlib.Path(self._root.name)
        self.store, self.models, self.outputs = (
            self.root / name for name in ("store", "models", "outputs"))
        for directory in (self.store, self.models, self.outputs):
            directory.mkdir()
        super().__init__(STORE_FLAG, str(self.store), MODEL_ROOT_FLAG, str(self.models),
                         OUTPUT_ROOT_FLAG, str(self.outputs), "--workers", str(workers), *flags)
        self._channel = self.channel()
        self.client = JobClient(self._channel)

    def stop(self, seconds=60):
        self._channel.close()
        try:
            return super().stop(seconds)
        finally:
            self._root.cleanup()

    def add_model(self, name, files):
        """Writes {file name: bytes} below the model root. Returns the path a job may name."""
        job_models.write(files, self.models / name)
        return name

    def output(self, name):
        """Returns the files of a result directory; None if it is absent."""
        directory = self.outputs / name
        return job_models.read(directory) if directory.exists() else None

    def leftovers(self):
        """Returns what no ended job may leave: working files, and halves of output directories.

        Blobs are the store's; what it keeps to itself beside them is empty (a lock).
        """
        kept = [self.store / "blobs", self.store / "uploads"]
        working = [p for p in self.store.rglob("*")
                   if p.is_file() and p.stat().st_size and not set(kept) & set(p.parents)]
        halves = [p for p in self.outputs.iterdir() if "incomplete" in p.name]
        return sorted(str(p.relative_to(self.root)) for p in working + halves)
