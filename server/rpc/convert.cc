#include "server/rpc/convert.h"

#include <google/protobuf/stubs/common.h>

#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/linalg/gemm.h"
#include "core/numerics.h"
#include "proto/wire/chunk.h"
#include "proto/wire/crc32c.h"
#include "server/jobs/call_error.h"
#include "server/jobs/call_limits.h"

namespace salient {
namespace {

absl::Status BadField(Reason reason, absl::string_view field, absl::string_view value,
                      absl::string_view expected) {
  return WithField(InvalidCall(reason, absl::StrCat(field, " is ", value, "; expected ", expected)),
                   field);
}

absl::Status Unsupported(absl::string_view field, absl::string_view value,
                         absl::string_view instead) {
  return WithField(CallError(absl::StatusCode::kUnimplemented, Reason::kUnsupported,
                             absl::StrCat(field, ": this server does not have ", value,
                                          "; the nearest that it has is ", instead)),
                   field);
}

absl::Status CheckIn(absl::string_view field, double value, double low, double high) {
  if (value >= low && value <= high) return absl::OkStatus();  // false for NaN
  return BadField(Reason::kBadMethod, field, absl::StrCat(value), absl::StrCat(low, " to ", high));
}

absl::StatusOr<ScaleChoice> ToScale(int value) {
  constexpr absl::string_view kField = "options.method.scale";
  switch (value) {
    case v1::SCALE_NONE:
      return ScaleChoice::kNone;
    case v1::SCALE_UNSPECIFIED:
    case v1::SCALE_AWQ:
      return ScaleChoice::kAwq;
    case v1::SCALE_SMOOTHQUANT:
      return Unsupported(kField, "SCALE_SMOOTHQUANT", "SCALE_AWQ");
    default:
      return BadField(Reason::kBadMethod, kField, absl::StrCat(value), "a value of Scale");
  }
}

absl::StatusOr<RangeChoice> ToRange(int value) {
  switch (value) {
    case v1::RANGE_MIN_MAX:
      return RangeChoice::kMinMax;
    case v1::RANGE_UNSPECIFIED:
    case v1::RANGE_CLIP:
      return RangeChoice::kClip;
    default:
      return BadField(Reason::kBadMethod, "options.method.range", absl::StrCat(value),
                      "a value of Range");
  }
}

absl::StatusOr<RoundingChoice> ToRounding(int value) {
  constexpr absl::string_view kField = "options.method.rounding";
  switch (value) {
    case v1::ROUNDING_NEAREST:
      return RoundingChoice::kNearest;
    case v1::ROUNDING_UNSPECIFIED:
    case v1::ROUNDING_BLOCK:
      return RoundingChoice::kBlock;
    case v1::ROUNDING_GPTQ:
      return Unsupported(kField, "ROUNDING_GPTQ", "ROUNDING_BLOCK");
    default:
      return BadField(Reason::kBadMethod, kField, absl::StrCat(value), "a value of Rounding");
  }
}

absl::StatusOr<RoundBlockParams> ToBlock(const v1::BlockRounding& block) {
  RoundBlockParams params;
  if (block.has_width()) params.width = block.width();
  if (block.has_shrinkage()) params.shrinkage = block.shrinkage();
  if (block.has_descent_sweeps()) params.descent_sweeps = block.descent_sweeps();
  if (block.has_refits()) params.refits = block.refits();
  if (block.has_damping()) params.damping = block.damping();
  if (params.width != 128 && params.width != 256) {
    return BadField(Reason::kBadMethod, "options.method.block.width", absl::StrCat(params.width),
                    "128 or 256");
  }
  struct Bound {
    absl::string_view field;
    double value;
    double high;
  };
  for (const Bound& bound :
       {Bound{"options.method.block.shrinkage", params.shrinkage, 1},
        Bound{"options.method.block.descent_sweeps", static_cast<double>(params.descent_sweeps),
              64},
        Bound{"options.method.block.refits", static_cast<double>(params.refits), 16},
        Bound{"options.method.block.damping", params.damping, 10}}) {
    if (absl::Status status = CheckIn(bound.field, bound.value, 0, bound.high); !status.ok()) {
      return status;
    }
  }
  return params;
}

absl::StatusOr<Method> ToMethod(const v1::Method& message) {
  Method method;
  const auto scale = ToScale(message.scale());
  if (!scale.ok()) return scale.status();
  const auto range = ToRange(message.range());
  if (!range.ok()) return range.status();
  const auto rounding = ToRounding(message.rounding());
  if (!rounding.ok()) return rounding.status();
  const auto block = ToBlock(message.block());
  if (!block.ok()) return block.status();
  method.scale = *scale;
  method.range = *range;
  method.rounding = *rounding;
  method.block = *block;
  method.autoawq = message.autoawq();
  if (method.autoawq && method.rounding != RoundingChoice::kNearest) {
    return WithField(InvalidCall(Reason::kBadMethod,
                                 "autoawq with a rounding of ROUNDING_BLOCK; expected "
                                 "ROUNDING_NEAREST, which is what AutoAWQ does"),
                     "options.method.autoawq");
  }
  return method;
}

absl::StatusOr<OutputFormat> ToOutputFormat(int value) {
  constexpr absl::string_view kField = "options.format.output_format";
  if (value == v1::OUTPUT_FORMAT_UNSPECIFIED || value == v1::OUTPUT_FORMAT_AWQ_GEMM) {
    return OutputFormat::kAwqGemm;
  }
  if (!v1::OutputFormat_IsValid(value)) {
    return BadField(Reason::kBadFormat, kField, absl::StrCat(value), "a value of OutputFormat");
  }
  return Unsupported(kField, v1::OutputFormat_Name(static_cast<v1::OutputFormat>(value)),
                     "OUTPUT_FORMAT_AWQ_GEMM");
}

absl::StatusOr<CallMessage> ToOptions(const v1::QuantizeTensorsOptions& message) {
  CallOptions options;
  const auto method = ToMethod(message.method());
  if (!method.ok()) return method.status();
  options.method = *method;
  const v1::WeightFormat& format = message.format();
  const auto output = ToOutputFormat(format.output_format());
  if (!output.ok()) return output.status();
  options.output = *output;
  if (format.bits() != 0) options.format.bits = format.bits();
  if (options.format.bits < 2 || options.format.bits > 8) {
    return BadField(Reason::kBadFormat, "options.format.bits", absl::StrCat(format.bits()),
                    "2 to 8");
  }
  if (options.output == OutputFormat::kAwqGemm && options.format.bits != 4) {
    return BadField(Reason::kBadFormat, "options.format.bits", absl::StrCat(format.bits()),
                    "4, the only width that OUTPUT_FORMAT_AWQ_GEMM has");
  }
  if (format.group_size() != 0) options.format.group_size = format.group_size();
  if (options.format.group_size < -1) {
    return BadField(Reason::kBadFormat, "options.format.group_size",
                    absl::StrCat(format.group_size()), "a divisor of in_features, or -1 for all");
  }
  options.format.symmetric = format.symmetric();
  options.seed = message.seed();
  return options;
}

absl::StatusOr<DType> ToDType(int value, absl::string_view owner, absl::string_view field) {
  switch (value) {
    case v1::DATA_TYPE_F32:
      return DType::kF32;
    case v1::DATA_TYPE_F16:
      return DType::kF16;
    case v1::DATA_TYPE_BF16:
      return DType::kBF16;
    default:
      break;
  }
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

v1::DataType ToProto(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return v1::DATA_TYPE_F32;
    case DType::kF16:
      return v1::DATA_TYPE_F16;
    case DType::kBF16:
      return v1::DATA_TYPE_BF16;
    case DType::kI32:
      return v1::DATA_TYPE_I32;
    case DType::kI64:
      return v1::DATA_TYPE_I64;
    case DType::kI8:
      return v1::DATA_TYPE_I8;
    case DType::kU8:
      return v1::DATA_TYPE_U8;
    default:
      return v1::DATA_TYPE_UNSPECIFIED;
  }
}

v1::LinearReport ToProto(const LinearReport& report) {
  v1::LinearReport message;
  message.set_name(report.name);
  message.set_out_features(report.out_features);
  message.set_in_features(report.in_features);
  message.set_loss_rtn(report.loss_rtn);
  message.set_loss(report.loss);
  message.set_relative_output_error_rtn(report.relative_output_error_rtn);
  message.set_relative_output_error(report.relative_output_error);
  message.set_clipped_share(report.clipped_share);
  message.set_saturated_zero_point_share(report.saturated_zero_point_share);
  message.set_kept_rtn(report.kept_rtn);
  message.set_bytes_in(report.bytes_in);
  message.set_bytes_out(report.bytes_out);
  return message;
}

v1::GroupReport ToProto(const GroupReport& report) {
  v1::GroupReport message;
  message.set_name(report.name);
  message.mutable_candidate()->set_identity(report.candidate.identity);
  if (!report.candidate.identity) {
    message.mutable_candidate()->set_weight_aware(report.candidate.weight_aware);
    message.mutable_candidate()->set_ratio(report.candidate.ratio);
  }
  message.set_loss_rtn(report.loss_rtn);
  message.set_loss(report.loss);
  message.set_relative_output_error_rtn(report.relative_output_error_rtn);
  message.set_relative_output_error(report.relative_output_error);
  message.set_exact_loss(report.exact_loss);
  message.set_loss_standard_error(report.loss_standard_error);
  message.set_token_count(report.token_count);
  message.set_row_count(report.row_count);
  message.set_parameters(report.parameters);
  for (const LinearReport& linear : report.linears) *message.add_linears() = ToProto(linear);
  for (const std::string& note : report.notes) message.add_notes(note);
  return message;
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
  *group.mutable_report() = ToProto(result.report);
  group.mutable_report()->set_seconds(absl::ToDoubleSeconds(outgoing.group->elapsed));
  group.mutable_report()->set_numerics_id(NumericsId());
  group.mutable_scales()->Add(result.scales.begin(), result.scales.end());
  for (const NamedTensor& tensor : result.tensors) {
    v1::TensorHeader& header = *group.add_tensors();
    header.set_name(tensor.name);
    header.set_dtype(ToProto(tensor.dtype));
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
  for (const v1::Scale scale : {v1::SCALE_NONE, v1::SCALE_AWQ}) info.add_scales(scale);
  for (const v1::Range range : {v1::RANGE_MIN_MAX, v1::RANGE_CLIP}) info.add_ranges(range);
  for (const v1::Rounding rounding : {v1::ROUNDING_NEAREST, v1::ROUNDING_BLOCK}) {
    info.add_roundings(rounding);
  }
  info.add_output_formats(v1::OUTPUT_FORMAT_AWQ_GEMM);
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
