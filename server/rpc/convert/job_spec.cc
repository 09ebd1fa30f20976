#include "server/rpc/convert/job_spec.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include <optional>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/checkpoint/checkpoint_files.h"
#include "core/tensor/stored_format.h"
#include "core/text/quote.h"
#include "server/error/call_error.h"
#include "server/error/field_error.h"
#include "server/rpc/convert/blob.h"
#include "server/rpc/convert/engine.h"
#include "server/rpc/convert/enums.h"
#include "server/rpc/convert/job_fields.h"
#include "server/rpc/convert/method.h"
#include "server/rpc/convert/quantize_task.h"
#include "server/rpc/convert/study.h"
#include "server/store/digest.h"

namespace salient {
namespace {

// 100 years: what clocks can add.
constexpr int64_t kMaxSeconds = int64_t{100} * 365 * 86400;

absl::Status CheckFileName(absl::string_view field, absl::string_view name) {
  if (IsModelFileName(name)) return absl::OkStatus();
  return BadJob(
      field, QuoteForMessage(name),
      absl::StrCat("the name of a file inside the model directory: 1 to ", kMaxFileNameBytes,
                   " bytes, no leading dot, no separators or control characters, or one in "
                   "additional_chat_templates/ or a directory such as 1_Pooling/"));
}

// An inspection reads nothing of a file of weights but its header. If that is inline, nobody has to
// read the whole file for its digest: the size is enough.
bool IsJudgedBySize(const v1::ModelFile& file) {
  return absl::EndsWith(file.name(), ".safetensors") && !file.inline_content().empty() &&
         file.digest().sha256().empty() && file.digest().size_bytes() >= 0;
}

absl::StatusOr<Digest> ToFileDigest(absl::string_view field, const v1::ModelFile& file,
                                    bool headers_alone) {
  if (headers_alone && IsJudgedBySize(file)) return Digest{{}, file.digest().size_bytes()};
  const auto digest = ToDigest(field, file.digest());
  if (!digest.ok()) return WithMetadata(digest.status(), "file", file.name());
  return digest;
}

// `inline_bytes` counts all files of the job so far.
absl::StatusOr<std::vector<ModelFile>> ToFiles(absl::string_view path,
                                               const v1::ModelManifest& manifest,
                                               bool headers_alone, int64_t& inline_bytes) {
  if (manifest.files_size() > kMaxModelFiles) {
    return BadJob(absl::StrCat(path, ".files"), absl::StrCat("a list of ", manifest.files_size()),
                  absl::StrCat("at most ", kMaxModelFiles));
  }
  std::vector<ModelFile> files;
  absl::flat_hash_set<absl::string_view> names;
  for (int i = 0; i < manifest.files_size(); ++i) {
    const v1::ModelFile& message = manifest.files(i);
    const std::string field = absl::StrCat(path, ".files[", i, "]");
    const absl::string_view name(message.name().data(), message.name().size());
    if (absl::Status named = CheckFileName(absl::StrCat(field, ".name"), name); !named.ok()) {
      return named;
    }
    if (!names.insert(name).second) {
      return BadJob(absl::StrCat(field, ".name"), QuoteForMessage(name), "each file once");
    }
    const auto digest = ToFileDigest(absl::StrCat(field, ".digest"), message, headers_alone);
    if (!digest.ok()) return digest.status();
    ModelFile& file = files.emplace_back();
    file.name = message.name();
    file.digest = *digest;
    if (!message.inline_content().empty()) file.inline_content = message.inline_content();
    inline_bytes += static_cast<int64_t>(message.inline_content().size());
    if (inline_bytes > kMaxInlineBytes) {
      return BadJob(
          absl::StrCat(field, ".inline_content"),
          absl::StrCat("too much: ", inline_bytes, " bytes with those before it"),
          absl::StrCat("at most ", kMaxInlineBytes, " in all; upload larger files as blobs"));
    }
  }
  return files;
}

absl::StatusOr<ModelSource> ToModel(absl::string_view path, const v1::ModelSource& message,
                                    bool headers_alone, int64_t& inline_bytes) {
  ModelSource source;
  switch (message.source_case()) {
    case v1::ModelSource::kManifest: {
      auto files =
          ToFiles(absl::StrCat(path, ".manifest"), message.manifest(), headers_alone, inline_bytes);
      if (!files.ok()) return files.status();
      source.files = *std::move(files);
      return source;
    }
    case v1::ModelSource::kPath: {
      const std::string field = absl::StrCat(path, ".path");
      if (message.path().empty()) {
        return BadField(Reason::kBadPath, field, "empty", "a directory below --model-root");
      }
      if (absl::Status good = CheckPath(field, message.path()); !good.ok()) return good;
      source.path = message.path();
      return source;
    }
    case v1::ModelSource::SOURCE_NOT_SET:
      break;
  }
  return BadJob(path, "not set", "a manifest or a path");
}

absl::StatusOr<EvaluateTask> ToEvaluate(const v1::EvaluateTask& message, int64_t& inline_bytes) {
  EvaluateTask task;
  if (!message.has_tokens()) {
    return BadJob("spec.evaluate.tokens", "not set", "the tokens to score");
  }
  const auto tokens = ToTokens("spec.evaluate.tokens", message.tokens());
  if (!tokens.ok()) return tokens.status();
  task.tokens = *tokens;
  if (message.has_reference()) {
    auto reference = ToModel("spec.evaluate.reference", message.reference(),
                             /*headers_alone=*/false, inline_bytes);
    if (!reference.ok()) return reference.status();
    task.reference = *std::move(reference);
  }
  if (!message.has_round_to_nearest()) return task;
  if (message.round_to_nearest().bits() == -1) {
    task.without_round_to_nearest = true;
    return task;
  }
  const auto format = ToWeightFormat("spec.evaluate.round_to_nearest", message.round_to_nearest());
  if (!format.ok()) return format.status();
  if (!task.reference.has_value()) {
    return BadJob("spec.evaluate.round_to_nearest", "set", "a reference to round, too");
  }
  task.round_to_nearest = StoredFormat();
  task.round_to_nearest->format = *format;
  switch (message.round_to_nearest().activations()) {
    case v1::ACTIVATION_FORMAT_UNSPECIFIED:
      break;
    case v1::ACTIVATION_FORMAT_DYNAMIC_TOKEN:
      task.round_to_nearest->activations = ActivationFormat::kDynamicToken;
      break;
    default:
      return BadJob("spec.evaluate.round_to_nearest.activations",
                    absl::StrCat(message.round_to_nearest().activations()),
                    "unset or ACTIVATION_FORMAT_DYNAMIC_TOKEN: nothing is calibrated here");
  }
  return task;
}

absl::StatusOr<absl::Duration> ToDuration(absl::string_view field,
                                          const google::protobuf::Duration& message) {
  const bool in_range = message.seconds() >= 0 && message.seconds() <= kMaxSeconds &&
                        message.nanos() >= 0 && message.nanos() <= 999'999'999;
  if (!in_range) {
    return BadJob(field,
                  absl::StrCat(message.seconds(), " seconds and ", message.nanos(), " nanos"),
                  absl::StrCat("0 to ", kMaxSeconds, " seconds and 0 to 999999999 nanos"));
  }
  return absl::Seconds(message.seconds()) + absl::Nanoseconds(message.nanos());
}

absl::Status TakeTask(const v1::JobSpec& message, JobSpec& spec, int64_t& inline_bytes) {
  switch (message.task_case()) {
    case v1::JobSpec::kQuantize: {
      auto task = ToQuantizeTask("spec.quantize", message.quantize());
      if (!task.ok()) return task.status();
      spec.task = *std::move(task);
      return absl::OkStatus();
    }
    case v1::JobSpec::kEvaluate: {
      auto task = ToEvaluate(message.evaluate(), inline_bytes);
      if (!task.ok()) return task.status();
      spec.task = *std::move(task);
      return absl::OkStatus();
    }
    case v1::JobSpec::kCalibrate:
      return UnsupportedField("spec.calibrate", "calibrate jobs",
                              "quantize, which calibrates with the tokens it is given");
    case v1::JobSpec::kStudy: {
      auto task = ToStudy("spec.study", message.study());
      if (!task.ok()) return task.status();
      spec.task = *std::move(task);
      return absl::OkStatus();
    }
    case v1::JobSpec::kInspect: {
      const auto devices = ToTensorParallel("spec.inspect", message.inspect().tensor_parallel());
      if (!devices.ok()) return devices.status();
      spec.task = InspectTask{*devices};
      return absl::OkStatus();
    }
    case v1::JobSpec::TASK_NOT_SET:
      break;
  }
  return BadJob("spec.task", "not set", "quantize, evaluate, study or inspect");
}

std::string Serialized(const v1::JobSpec& message) {
  std::string bytes;
  google::protobuf::io::StringOutputStream stream(&bytes);
  google::protobuf::io::CodedOutputStream coded(&stream);
  coded.SetSerializationDeterministic(true);
  message.SerializeToCodedStream(&coded);
  coded.Trim();
  return bytes;
}

}  // namespace

absl::StatusOr<JobSpec> ToJobSpec(const v1::JobSpec& message) {
  JobSpec spec;
  int64_t inline_bytes = 0;
  auto model =
      ToModel("spec.model", message.model(), /*headers_alone=*/message.has_inspect(), inline_bytes);
  if (!model.ok()) return model.status();
  spec.model = *std::move(model);
  if (absl::Status status = TakeTask(message, spec, inline_bytes); !status.ok()) return status;
  if (message.has_timeout()) {
    const auto timeout = ToDuration("spec.timeout", message.timeout());
    if (!timeout.ok()) return timeout.status();
    if (*timeout == absl::ZeroDuration()) {
      return BadJob("spec.timeout", "0", "more than 0, or unset for none");
    }
    spec.timeout = *timeout;
  }
  if (message.has_ttl_after_finished()) {
    const auto ttl = ToDuration("spec.ttl_after_finished", message.ttl_after_finished());
    if (!ttl.ok()) return ttl.status();
    spec.ttl_after_finished = *ttl;
  }
  if (message.priority() < 0 || message.priority() > 9) {
    return BadJob("spec.priority", absl::StrCat(message.priority()), "0 to 9");
  }
  spec.priority = message.priority();
  spec.serialized = Serialized(message);
  return spec;
}

absl::StatusOr<ListRequest> ToListRequest(const v1::ListJobsRequest& request) {
  ListRequest list;
  if (request.page_size() < 0 || request.page_size() > kMaxPageSize) {
    return BadJob("page_size", absl::StrCat(request.page_size()),
                  absl::StrCat("1 to ", kMaxPageSize, ", or 0 for ", kDefaultPageSize));
  }
  if (request.page_size() > 0) list.page_size = request.page_size();
  list.page_token = request.page_token();
  for (int i = 0; i < request.states_size(); ++i) {
    const int value = request.states(i);
    const std::optional<JobState> state = FromWire(kJobStates, value);
    if (!state.has_value()) {
      return BadJob(absl::StrCat("states[", i, "]"), absl::StrCat(value), "a state of jobs");
    }
    list.states.push_back(*state);
  }
  return list;
}

}  // namespace salient
