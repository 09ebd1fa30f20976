#include "server/rpc/convert/tensors.h"

#include <google/protobuf/stubs/common.h>

#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/group/quantize_group.h"
#include "core/linalg/gemm.h"
#include "core/method/scale_candidates.h"
#include "core/model/families/family.h"
#include "core/model/numerics.h"
#include "core/tensor/dtype.h"
#include "core/tensor/named_tensor.h"
#include "core/text/utf8.h"
#include "proto/wire/chunk.h"
#include "proto/wire/crc32c.h"
#include "server/calls/call_limits.h"
#include "server/calls/result_queue.h"
#include "server/error/call_error.h"
#include "server/rpc/convert/enums.h"
#include "server/rpc/convert/method.h"
#include "server/rpc/convert/report.h"

namespace salient {
namespace {

absl::StatusOr<CallMessage> ToOptions(const v1::QuantizeTensorsOptions& message) {
  const auto method = ToMethod("options.method", message.method());
  if (!method.ok()) return method.status();
  const auto stored = ToStoredFormat("options.format", message.format());
  if (!stored.ok()) return stored.status();
  CallOptions options;
  options.method = *method;
  options.stored = *stored;
  options.seed = message.seed();
  return options;
}

absl::StatusOr<DType> ToDType(int value, absl::string_view owner, absl::string_view field) {
  const std::optional<DType> dtype = FromWire(kDataTypes, value);
  if (dtype.has_value() && IsFloat(*dtype)) return *dtype;
  const std::string name = v1::DataType_IsValid(value)
                               ? v1::DataType_Name(static_cast<v1::DataType>(value))
                               : absl::StrCat(value);
  return WithField(InvalidCall(Reason::kBadHeader, absl::StrCat(owner, ": ", field, " is ", name,
                                                                "; expected F32, F16 or BF16")),
                   field);
}

absl::StatusOr<CallMessage> ToGroup(v1::GroupHeader&& message) {
  GroupSpec spec;
  spec.name = std::move(*message.mutable_name());
  spec.in_features = message.in_features();
  const std::string owner = absl::StrCat("group ", spec.name.substr(0, kMaxNameBytes));
  for (int i = 0; i < message.linears_size(); ++i) {
    v1::LinearHeader& header = *message.mutable_linears(i);
    LinearSpec linear;
    linear.name = std::move(*header.mutable_name());
    linear.out_features = header.out_features();
    const auto dtype = ToDType(header.dtype(), linear.name.substr(0, kMaxNameBytes),
                               absl::StrCat("group.linears[", i, "].dtype"));
    if (!dtype.ok())
      return WithMetadata(dtype.status(), "tensor",
                          absl::StrCat(linear.name.substr(0, kMaxNameBytes), ".weight"));
    linear.dtype = *dtype;
    spec.linears.push_back(std::move(linear));
  }
  // Unset is fine as long as no activations come.
  if (message.activation_dtype() != v1::DATA_TYPE_UNSPECIFIED) {
    const auto dtype = ToDType(message.activation_dtype(), owner, "group.activation_dtype");
    if (!dtype.ok()) return dtype.status();
    spec.activation_dtype = *dtype;
  }
  if (message.has_tied_heads()) {
    spec.tied_heads =
        TiedHeads{message.tied_heads().head_dim(), message.tied_heads().query_heads_per_kv_head()};
  }
  return spec;
}

ChunkData ToChunk(v1::Chunk&& message) {
  ChunkData chunk;
  chunk.offset_bytes = message.offset_bytes();
  chunk.data = std::move(*message.mutable_data());
  if (message.has_crc32c()) chunk.crc32c = message.crc32c();
  return chunk;
}

}  // namespace

absl::StatusOr<CallMessage> ToCallMessage(v1::QuantizeTensorsRequest&& request) {
  switch (request.message_case()) {
    case v1::QuantizeTensorsRequest::kOptions:
      return ToOptions(request.options());
    case v1::QuantizeTensorsRequest::kGroup:
      return ToGroup(std::move(*request.mutable_group()));
    case v1::QuantizeTensorsRequest::kWeight:
      return WeightData{request.weight().linear_index(),
                        ToChunk(std::move(*request.mutable_weight()->mutable_chunk()))};
    case v1::QuantizeTensorsRequest::kActivations: {
      v1::ActivationBatch& batch = *request.mutable_activations();
      ActivationData data{batch.calibration_row(), batch.first_position(),
                          std::move(*batch.mutable_data()), std::nullopt};
      if (batch.has_crc32c()) data.crc32c = batch.crc32c();
      return data;
    }
    case v1::QuantizeTensorsRequest::kStatistics:
      return StatisticsData{ToChunk(std::move(*request.mutable_statistics()->mutable_chunk())),
                            request.statistics().total_bytes()};
    case v1::QuantizeTensorsRequest::kEndGroup:
      return EndGroupMark{};
    case v1::QuantizeTensorsRequest::MESSAGE_NOT_SET:
      break;
  }
  return InvalidCall(Reason::kMessageOrder,
                     "a request has no message set, or one this server does not know; expected "
                     "options, group, weight, activations, statistics or end_group");
}

v1::QuantizeTensorsResponse ToResponse(const OutgoingResult& outgoing) {
  v1::QuantizeTensorsResponse response;
  const GroupResult& result = outgoing.group->result;
  if (outgoing.tensor_index.has_value()) {
    const NamedTensor& tensor = result.tensors[*outgoing.tensor_index];
    response.mutable_chunk()->set_tensor_index(*outgoing.tensor_index);
    v1::Chunk& chunk = *response.mutable_chunk()->mutable_chunk();
    const char* data = reinterpret_cast<const char*>(tensor.data.data()) + outgoing.range.offset;
    const size_t size = static_cast<size_t>(outgoing.range.size);
    chunk.set_offset_bytes(outgoing.range.offset);
    chunk.set_data(data, size);
    chunk.set_crc32c(Crc32c({data, size}));
    return response;
  }
  v1::GroupResult& group = *response.mutable_group();
  *group.mutable_report() = ToProto(result.report, outgoing.group->elapsed, NumericsId());
  // Warnings go here, because a call has no event for them, as a job has.
  for (const std::string& warning : result.report.warnings) {
    group.mutable_report()->add_notes(EscapeNonUtf8(warning));
  }
  group.mutable_scales()->Add(result.scales.begin(), result.scales.end());
  for (const NamedTensor& tensor : result.tensors) {
    v1::TensorHeader& header = *group.add_tensors();
    header.set_name(tensor.name);
    header.set_dtype(ToWire(kDataTypes, tensor.dtype));
    header.mutable_shape()->Add(tensor.shape.begin(), tensor.shape.end());
  }
  return response;
}

v1::GetServerInfoResponse ToServerInfo(const CallRegistry::Settings& settings,
                                       absl::string_view version, absl::string_view grpc_version) {
  v1::GetServerInfoResponse info;
  info.set_version(std::string(version));
  v1::ServerLimits& limits = *info.mutable_limits();
  limits.set_max_message_bytes(kMaxMessageBytes);
  limits.set_max_chunk_bytes(kMaxChunkBytes);
  limits.set_call_memory_bytes(settings.call.call_memory_bytes);
  limits.set_max_active_calls(settings.max_active_calls);
  limits.set_max_linears_per_group(static_cast<int32_t>(settings.call.max_linears_per_group));
  limits.set_max_features(settings.call.max_features);
  limits.set_idle_timeout_seconds(absl::ToDoubleSeconds(settings.call.idle_timeout));
  for (const auto& row : kScales) info.add_scales(row.wire);
  for (const auto& row : kRanges) info.add_ranges(row.wire);
  for (const auto& row : kRoundings) info.add_roundings(row.wire);
  for (const auto& row : kOutputFormats) info.add_output_formats(row.wire);
  for (const auto& row : kEngines) info.add_engines(row.wire);
  for (const auto& row : kActivationFormats) info.add_activation_formats(row.wire);
  for (const v1::TaskKind kind : {v1::TASK_KIND_QUANTIZE, v1::TASK_KIND_EVALUATE,
                                  v1::TASK_KIND_STUDY, v1::TASK_KIND_INSPECT}) {
    info.add_task_kinds(kind);
  }
  for (const Family& family : Families()) {
    v1::ModelFamily& known = *info.add_families();
    known.set_architecture(std::string(family.architecture()));
    known.set_model_type(std::string(family.config_class.model_type));
  }
  info.set_instruction_path(InstructionPath());
  info.set_numerics_id(NumericsId());
  info.set_worker_count(settings.workers);
  auto& versions = *info.mutable_library_versions();
  versions["onednn"] = OneDnnVersion();
  versions["grpc"] = std::string(grpc_version);
  versions["protobuf"] = google::protobuf::internal::VersionString(GOOGLE_PROTOBUF_VERSION);
  return info;
}

}  // namespace salient
