// One table an enum that both the contract and the core have: requests are read, answers written
// and a server's capabilities told by it. Names are those of the contract's descriptor.
#ifndef SALIENT_SERVER_RPC_CONVERT_ENUMS_H_
#define SALIENT_SERVER_RPC_CONVERT_ENUMS_H_

#include <google/protobuf/generated_enum_reflection.h>

#include <cstddef>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "core/engines/engine.h"
#include "core/method/method.h"
#include "core/model/activations.h"
#include "core/tensor/dtype.h"
#include "core/tensor/stored_format.h"
#include "salient/v1/engine.pb.h"
#include "salient/v1/job.pb.h"
#include "salient/v1/method.pb.h"
#include "salient/v1/tensor.pb.h"
#include "server/error/call_error.h"
#include "server/error/field_error.h"
#include "server/jobs/job.h"

namespace salient {

template <typename Ours, typename Wire>
struct EnumRow {
  Ours ours;
  Wire wire;
};

inline constexpr EnumRow<ScaleChoice, v1::Scale> kScales[] = {
    {ScaleChoice::kNone, v1::SCALE_NONE},
    {ScaleChoice::kAwq, v1::SCALE_AWQ},
    {ScaleChoice::kSmoothQuant, v1::SCALE_SMOOTHQUANT}};

inline constexpr EnumRow<RangeChoice, v1::Range> kRanges[] = {
    {RangeChoice::kMinMax, v1::RANGE_MIN_MAX}, {RangeChoice::kClip, v1::RANGE_CLIP}};

inline constexpr EnumRow<RoundingChoice, v1::Rounding> kRoundings[] = {
    {RoundingChoice::kNearest, v1::ROUNDING_NEAREST},
    {RoundingChoice::kBlock, v1::ROUNDING_BLOCK},
    {RoundingChoice::kGptq, v1::ROUNDING_GPTQ}};

inline constexpr EnumRow<OutputFormat, v1::OutputFormat> kOutputFormats[] = {
    {OutputFormat::kAwqGemm, v1::OUTPUT_FORMAT_AWQ_GEMM},
    {OutputFormat::kGptq, v1::OUTPUT_FORMAT_GPTQ},
    {OutputFormat::kGptqV2, v1::OUTPUT_FORMAT_GPTQ_V2},
    {OutputFormat::kCompressedTensors, v1::OUTPUT_FORMAT_COMPRESSED_TENSORS},
    {OutputFormat::kIntQuantized, v1::OUTPUT_FORMAT_INT_QUANTIZED},
    {OutputFormat::kScaledFp16, v1::OUTPUT_FORMAT_SCALED_FP16},
    {OutputFormat::kDequantizedFp16, v1::OUTPUT_FORMAT_DEQUANTIZED_FP16}};

// The contract says ActivationFormat::kNone by leaving the field unset.
inline constexpr EnumRow<ActivationFormat, v1::ActivationFormat> kActivationFormats[] = {
    {ActivationFormat::kDynamicToken, v1::ACTIVATION_FORMAT_DYNAMIC_TOKEN},
    {ActivationFormat::kStaticTensor, v1::ACTIVATION_FORMAT_STATIC_TENSOR}};

inline constexpr EnumRow<Engine, v1::Engine> kEngines[] = {
    {Engine::kVllm, v1::ENGINE_VLLM},         {Engine::kVllmCpu, v1::ENGINE_VLLM_CPU},
    {Engine::kSglang, v1::ENGINE_SGLANG},     {Engine::kTgi, v1::ENGINE_TGI},
    {Engine::kLmdeploy, v1::ENGINE_LMDEPLOY}, {Engine::kTransformers, v1::ENGINE_TRANSFORMERS},
    {Engine::kLlamaCpp, v1::ENGINE_LLAMA_CPP}};

// The core has element types that no tensor on the wire has.
inline constexpr EnumRow<DType, v1::DataType> kDataTypes[] = {
    {DType::kF32, v1::DATA_TYPE_F32},   {DType::kF16, v1::DATA_TYPE_F16},
    {DType::kBF16, v1::DATA_TYPE_BF16}, {DType::kI32, v1::DATA_TYPE_I32},
    {DType::kI64, v1::DATA_TYPE_I64},   {DType::kI8, v1::DATA_TYPE_I8},
    {DType::kU8, v1::DATA_TYPE_U8}};

inline constexpr EnumRow<ComputeDType, v1::ComputeDtype> kComputeDtypes[] = {
    {ComputeDType::kBF16, v1::COMPUTE_DTYPE_BF16}, {ComputeDType::kF32, v1::COMPUTE_DTYPE_F32}};

inline constexpr EnumRow<JobState, v1::JobState> kJobStates[] = {
    {JobState::kQueued, v1::JOB_STATE_QUEUED},
    {JobState::kRunning, v1::JOB_STATE_RUNNING},
    {JobState::kSucceeded, v1::JOB_STATE_SUCCEEDED},
    {JobState::kFailed, v1::JOB_STATE_FAILED},
    {JobState::kCancelled, v1::JOB_STATE_CANCELLED}};

// Returns the contract's value; what it does not have is UNSPECIFIED.
template <typename Ours, typename Wire, size_t n>
constexpr Wire ToWire(const EnumRow<Ours, Wire> (&table)[n], Ours ours) {
  for (const auto& row : table) {
    if (row.ours == ours) return row.wire;
  }
  return Wire{};
}

// Returns the core's value; nullopt for UNSPECIFIED and what a newer client may send.
template <typename Ours, typename Wire, size_t n>
constexpr std::optional<Ours> FromWire(const EnumRow<Ours, Wire> (&table)[n], int wire) {
  for (const auto& row : table) {
    if (static_cast<int>(row.wire) == wire) return row.ours;
  }
  return std::nullopt;
}

// Does the same for a `field` of a request that may be unset, which stands for `otherwise`; what
// there is not is an error of `reason`.
template <typename Ours, typename Wire, size_t n>
absl::StatusOr<Ours> FromWireOr(const EnumRow<Ours, Wire> (&table)[n], Ours otherwise,
                                Reason reason, absl::string_view field, int wire) {
  if (wire == 0) return otherwise;
  const std::optional<Ours> ours = FromWire(table, wire);
  if (ours.has_value()) return *ours;
  return BadField(reason, field, absl::StrCat(wire),
                  absl::StrCat("a value of ", google::protobuf::GetEnumDescriptor<Wire>()->name()));
}

}  // namespace salient

#endif  // SALIENT_SERVER_RPC_CONVERT_ENUMS_H_
