// Says what a job is: what was asked, what it will cost, what happened to it. It is plain data.
#ifndef SALIENT_SERVER_JOBS_JOB_H_
#define SALIENT_SERVER_JOBS_JOB_H_

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "core/checkpoint/shard_index.h"
#include "core/engines/inspection.h"
#include "core/engines/preflight.h"
#include "core/evaluate/evaluate_model.h"
#include "core/group/quantize_group.h"
#include "core/method/method.h"
#include "core/model/activations.h"
#include "core/model/projection.h"
#include "core/result/module_override.h"
#include "core/study/study_block.h"
#include "core/study/study_model.h"
#include "core/tensor/dtype.h"
#include "core/tensor/stored_format.h"
#include "server/store/digest.h"

namespace salient {

struct ModelFile {
  std::string name;  // It stands inside the model directory, without separators.
  Digest digest;
  // The content is all of a small file, or the first bytes of a safetensors file: length and JSON.
  std::optional<std::string> inline_content;
};

// Names files that were or will be uploaded, or a directory below --model-root (then `files` is
// empty).
struct ModelSource {
  std::vector<ModelFile> files;
  std::string path;
};

// This is a safetensors blob as ReadTokenRows reads it.
struct TokenBlob {
  Digest tokens;
  int64_t max_rows = 0;          // 0 stands for all.
  std::string name = "tokens";   // Errors call it so.
  bool allow_long_rows = false;  // Rows beyond the model's max_position_embeddings are taken.
};

struct QuantizeTask {
  TokenBlob calibration;
  Method method;
  std::vector<StoredFormat> formats = std::vector<StoredFormat>(1);  // A job has 1 to 8 results.
  ComputeDType compute = ComputeDType::kBF16;
  bool strict = false;
  uint64_t seed = 0;
  int64_t max_shard_bytes = kDefaultMaxShardBytes;
  std::string output_path;  // It lies below --output-root; if it is empty the result becomes blobs.
  EngineRequest engines;
  std::vector<ModuleOverride> overrides;
  double max_relative_error = 0;  // It is that of QuantizeModelParams.
};

struct EvaluateTask {
  TokenBlob tokens;
  std::optional<ModelSource> reference;
  // The reference rounded to nearest stands beside it; its layout counts for nothing, its
  // activations are rounded by the token or not at all. nullopt: each Linear in what that of the
  // model is stored in.
  std::optional<StoredFormat> round_to_nearest;
  bool without_round_to_nearest = false;
};

// Reads config and headers alone.
struct InspectTask {
  int64_t tensor_parallel = 1;
};

struct StudyTask {
  TokenBlob calibration;
  TokenBlob evaluation;
  StudyBlockParams params;
  ComputeDType compute = ComputeDType::kBF16;
};

struct JobSpec {
  ModelSource model;
  std::variant<QuantizeTask, EvaluateTask, InspectTask, StudyTask> task;
  absl::Duration timeout = absl::InfiniteDuration();  // It limits running.
  std::optional<absl::Duration> ttl_after_finished;
  int priority = 0;  // It is 0 to 9, higher ones run first.
  // The request's own bytes, deterministically serialized: two specs are equal if these are, and
  // GetJob gives the spec back as it came.
  std::string serialized;
};

enum class JobState { kQueued, kRunning, kSucceeded, kFailed, kCancelled };

inline bool HasEnded(JobState state) {
  return state != JobState::kQueued && state != JobState::kRunning;
}

struct JobEstimate {
  int64_t peak_memory_bytes = 0;  // It is that of the process.
  double flop = 0;
  double seconds = 0;
  int64_t output_bytes = 0;       // It holds if a limit of error raises nothing.
  int64_t most_output_bytes = 0;  // It holds whatever a limit of error raises.
};

struct JobUsage {
  double seconds = 0;             // It leaves out waiting for bytes.
  int64_t peak_memory_bytes = 0;  // It is that of the process while the job ran.
  int64_t parameters = 0;
  int64_t bytes_in = 0;
  int64_t bytes_out = 0;
  int64_t linear_count = 0;            // They are those of the decoder blocks of all results.
  int64_t quantized_linear_count = 0;  // They are among these.
};

struct JobProgress {
  enum class Stage { kIngest, kCalibrate, kQuantize, kWrite, kEvaluate };
  Stage stage = Stage::kIngest;
  int64_t block = 0;
  int64_t block_count = 0;
  int64_t token_count = 0;
  double parameters_per_second = 0;
  absl::Duration eta;
};

struct TensorReady {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
  Digest digest;
  bool provisional = false;
  std::string directory;  // It is that of the result; it is empty if the job has one.
};

// Describes a finished file. If it has parts, a header and tensors, it is their concatenation.
// Files in an output directory have none.
struct ResultFile {
  std::string name;  // A job with several results says "DIRECTORY/NAME".
  Digest digest;
  std::vector<Digest> parts;
};

// A group's report, with what the core does not know.
struct TimedGroupReport {
  GroupReport report;
  absl::Duration elapsed;
  std::string numerics_id;
  std::string directory;  // It is that of TensorReady.
};

struct JobWarning {
  std::string text;
};

struct JobEvent {
  int64_t revision = 0;  // It grows strictly within a job, from 1.
  absl::Time time;
  std::variant<JobState, JobProgress, TimedGroupReport, TensorReady, ResultFile, JobWarning> what;
};

struct JobEvaluation {
  ModelEvaluation model;
  std::optional<ModelEvaluation> reference;
  std::optional<ModelEvaluation> round_to_nearest;
};

// Is a job as it is now.
struct JobSnapshot {
  std::string name;  // It is "jobs/{job_id}".
  std::string serialized_spec;
  JobState state = JobState::kQueued;
  absl::Status error;  // It is set in kFailed only.
  JobEstimate estimate;
  std::vector<Digest> missing;
  std::vector<ResultFile> files;
  bool provisional = false;
  int64_t revision = 0;
  absl::Time create_time;
  absl::Time start_time = absl::InfiniteFuture();  // It is so before the job begins.
  absl::Time end_time = absl::InfiniteFuture();    // It is so before the job ends.
  std::string numerics_id;
  std::optional<JobEvaluation> evaluation;
  std::optional<Inspection> inspection;
  std::optional<ModelStudy> study;
  JobUsage usage;
  std::vector<std::string>
      warnings;  // A job that is validated only has them; others are told by events.
};

}  // namespace salient

#endif  // SALIENT_SERVER_JOBS_JOB_H_
