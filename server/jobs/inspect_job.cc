#include "server/jobs/inspect_job.h"

#include "server/error/call_error.h"
#include "server/jobs/prepared_model.h"

namespace salient {

absl::StatusOr<Inspection> InspectModel(const InspectTask& task, PreparedModel& model,
                                        BlobStore& store) {
  const absl::StatusOr<OpenModel> open = OpenModelFiles(model, store, /*arrival=*/nullptr);
  if (!open.ok()) return WithField(WithModelReason(open.status()), "model");
  if (!open->headers_known) {
    return WithField(CallError(absl::StatusCode::kFailedPrecondition, Reason::kMissingBlob,
                               "headers of the model's weights are not here; expected the first "
                               "bytes of each file inline, or the file uploaded"),
                     "model");
  }
  if (absl::Status status = SampleHead(*open->source, model); !status.ok()) {
    return WithField(WithModelReason(status), "model");
  }
  absl::StatusOr<Inspection> inspection =
      Inspect(*open->source, model.model(), model.manifest.config_json, task.tensor_parallel);
  if (!inspection.ok()) return WithField(WithModelReason(inspection.status()), "model");
  inspection->bytes = open->tensor_bytes;
  return inspection;
}

absl::StatusOr<JobOutcome> RunInspectJob(const RunningJob& job) {
  JobOutcome outcome;
  outcome.inspection = job.prepared.inspection;
  outcome.parameters = outcome.inspection->parameters;
  return outcome;
}

}  // namespace salient
