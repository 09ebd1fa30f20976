#include "server/rpc/convert/job.h"

#include <variant>

#include "absl/time/time.h"
#include "core/text/utf8.h"
#include "server/rpc/convert/blob.h"
#include "server/rpc/convert/engine.h"
#include "server/rpc/convert/enums.h"
#include "server/rpc/convert/report.h"
#include "server/rpc/convert/scores.h"
#include "server/rpc/convert/status.h"
#include "server/rpc/convert/study.h"
#include "server/store/digest.h"

namespace salient {
namespace {

template <typename... Cases>
struct Overloaded : Cases... {
  using Cases::operator()...;
};
template <typename... Cases>
Overloaded(Cases...) -> Overloaded<Cases...>;

void Set(absl::Time time, google::protobuf::Timestamp& message) {
  const int64_t seconds = absl::ToUnixSeconds(time);
  message.set_seconds(seconds);
  message.set_nanos(
      static_cast<int32_t>(absl::ToInt64Nanoseconds(time - absl::FromUnixSeconds(seconds))));
}

void Set(absl::Duration duration, google::protobuf::Duration& message) {
  absl::Duration rest;
  message.set_seconds(absl::IDivDuration(duration, absl::Seconds(1), &rest));
  message.set_nanos(static_cast<int32_t>(absl::ToInt64Nanoseconds(rest)));
}

v1::Progress::Stage ToProto(JobProgress::Stage stage) {
  switch (stage) {
    case JobProgress::Stage::kIngest:
      return v1::Progress::STAGE_INGEST;
    case JobProgress::Stage::kCalibrate:
      return v1::Progress::STAGE_CALIBRATE;
    case JobProgress::Stage::kQuantize:
      return v1::Progress::STAGE_QUANTIZE;
    case JobProgress::Stage::kWrite:
      return v1::Progress::STAGE_WRITE;
    case JobProgress::Stage::kEvaluate:
      return v1::Progress::STAGE_EVALUATE;
  }
  return v1::Progress::STAGE_UNSPECIFIED;
}

v1::Progress ToProto(const JobProgress& progress) {
  v1::Progress message;
  message.set_stage(ToProto(progress.stage));
  message.set_block(progress.block);
  message.set_block_count(progress.block_count);
  message.set_token_count(progress.token_count);
  message.set_parameters_per_second(progress.parameters_per_second);
  Set(progress.eta, *message.mutable_eta());
  return message;
}

v1::TensorReady ToProto(const TensorReady& tensor) {
  v1::TensorReady message;
  message.mutable_header()->set_name(tensor.name);
  message.mutable_header()->set_dtype(ToWire(kDataTypes, tensor.dtype));
  message.mutable_header()->mutable_shape()->Add(tensor.shape.begin(), tensor.shape.end());
  *message.mutable_digest() = ToProto(tensor.digest);
  message.set_provisional(tensor.provisional);
  message.set_directory(tensor.directory);
  return message;
}

v1::ResultFile ToProto(const ResultFile& file) {
  v1::ResultFile message;
  message.set_name(file.name);
  *message.mutable_digest() = ToProto(file.digest);
  for (const Digest& part : file.parts) *message.add_parts() = ToProto(part);
  return message;
}

// Converts all but what grows with the model.
v1::Job Common(const JobSnapshot& job) {
  v1::Job message;
  message.set_name(job.name);
  message.mutable_spec()->ParseFromString(
      job.serialized_spec);  // It was serialized from a message, so it parses.
  message.set_state(ToWire(kJobStates, job.state));
  if (job.state == JobState::kFailed) {
    message.mutable_error()->ParseFromString(ToGrpcStatus(job.error).error_details());
  }
  v1::Estimate& estimate = *message.mutable_estimate();
  estimate.set_peak_memory_bytes(job.estimate.peak_memory_bytes);
  estimate.set_flop(job.estimate.flop);
  estimate.set_seconds(job.estimate.seconds);
  estimate.set_output_bytes(job.estimate.output_bytes);
  message.set_provisional(job.provisional);
  message.set_revision(job.revision);
  Set(job.create_time, *message.mutable_create_time());
  if (job.start_time != absl::InfiniteFuture()) Set(job.start_time, *message.mutable_start_time());
  if (job.end_time != absl::InfiniteFuture()) Set(job.end_time, *message.mutable_end_time());
  message.set_numerics_id(job.numerics_id);
  if (job.evaluation.has_value()) *message.mutable_evaluation() = ToProto(*job.evaluation);
  if (job.inspection.has_value()) *message.mutable_inspection() = ToProto(*job.inspection);
  if (job.study.has_value()) *message.mutable_study() = ToProto(*job.study);
  v1::Usage& usage = *message.mutable_usage();
  usage.set_seconds(job.usage.seconds);
  usage.set_peak_memory_bytes(job.usage.peak_memory_bytes);
  usage.set_parameters(job.usage.parameters);
  usage.set_bytes_in(job.usage.bytes_in);
  usage.set_bytes_out(job.usage.bytes_out);
  usage.set_linear_count(job.usage.linear_count);
  usage.set_quantized_linear_count(job.usage.quantized_linear_count);
  return message;
}

void DropFiles(v1::ModelSource& source) {
  if (source.has_manifest()) source.mutable_manifest()->clear_files();
}

}  // namespace

v1::Job ToProto(const JobSnapshot& job) {
  v1::Job message = Common(job);
  for (const Digest& digest : job.missing) *message.add_missing() = ToProto(digest);
  for (const ResultFile& file : job.files) *message.add_files() = ToProto(file);
  return message;
}

v1::CreateJobResponse ToCreated(const JobSnapshot& job) {
  v1::CreateJobResponse message;
  *message.mutable_job() = ToProto(job);
  for (const std::string& warning : job.warnings) message.add_warnings(EscapeNonUtf8(warning));
  return message;
}

v1::Job ToSummary(const JobSnapshot& job) {
  v1::Job message = Common(job);
  v1::JobSpec& spec = *message.mutable_spec();
  if (spec.has_model()) DropFiles(*spec.mutable_model());
  if (spec.has_quantize()) spec.mutable_quantize()->clear_overrides();
  message.clear_inspection();
  message.clear_study();
  if (spec.has_evaluate() && spec.evaluate().has_reference()) {
    DropFiles(*spec.mutable_evaluate()->mutable_reference());
  }
  for (const ResultFile& file : job.files) {
    v1::ResultFile& summary = *message.add_files();
    summary.set_name(file.name);
    *summary.mutable_digest() = ToProto(file.digest);
  }
  return message;
}

v1::JobEvent ToProto(const JobEvent& event) {
  v1::JobEvent message;
  message.set_revision(event.revision);
  Set(event.time, *message.mutable_time());
  std::visit(
      Overloaded{
          [&](JobState state) { message.set_state_changed(ToWire(kJobStates, state)); },
          [&](const JobProgress& progress) { *message.mutable_progress() = ToProto(progress); },
          [&](const TimedGroupReport& group) {
            *message.mutable_group_report() =
                ToProto(group.report, group.elapsed, group.numerics_id);
            message.mutable_group_report()->set_directory(group.directory);
          },
          [&](const TensorReady& tensor) { *message.mutable_tensor_ready() = ToProto(tensor); },
          [&](const ResultFile& file) { *message.mutable_file_ready() = ToProto(file); },
          [&](const JobWarning& warning) { message.set_warning(EscapeNonUtf8(warning.text)); }},
      event.what);
  return message;
}

v1::JobEvent HeartbeatAt(int64_t revision) {
  v1::JobEvent message;
  message.set_revision(revision);
  Set(absl::Now(), *message.mutable_time());
  message.mutable_heartbeat();
  return message;
}

}  // namespace salient
