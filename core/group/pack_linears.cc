#include "core/group/pack_linears.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "core/pack/awq_gemm.h"
#include "core/pack/code_stream.h"
#include "core/pack/compressed_tensors.h"
#include "core/pack/dequantized_fp16.h"
#include "core/pack/gptq.h"
#include "core/pack/int_quantized.h"
#include "core/pack/scaled_fp16.h"
#include "core/parallel/tiles.h"
#include "core/tensor/dtype.h"
#include "core/tensor/stored_format.h"

namespace salient {
namespace {

using PackedLinear = std::vector<NamedTensor>;

// Outputs of a task: whole words of every layout, and lines of words of those that turn.
constexpr int64_t kOutputTile = 2 * kRowTile;

GptqLayout GptqOf(const StoredFormat& stored) {
  return {stored.format.bits, stored.output == OutputFormat::kGptqV2};
}

absl::StatusOr<PackedLinear> Start(const FinishedLinear& linear, const StoredFormat& stored) {
  switch (stored.output) {
    case OutputFormat::kAwqGemm:
      return StartAwqGemm(linear.name, *linear.groups);
    case OutputFormat::kGptq:
    case OutputFormat::kGptqV2:
      return StartGptq(linear.name, *linear.groups, GptqOf(stored));
    case OutputFormat::kCompressedTensors:
      return StartCompressedTensors(linear.name, *linear.groups);
    case OutputFormat::kIntQuantized:
      if (stored.activations == ActivationFormat::kStaticTensor && !(linear.input_scale > 0)) {
        return absl::InternalError(absl::StrCat(linear.name, ": input_scale is ",
                                                linear.input_scale, "; expected more than 0"));
      }
      return StartIntQuantized(linear.name, *linear.groups, linear.input_scale);
    case OutputFormat::kScaledFp16:
    case OutputFormat::kDequantizedFp16:
      break;
  }
  PackedLinear plain;
  plain.push_back(
      StartFp16Weight(linear.name, linear.weight.out_features, linear.weight.in_features));
  return plain;
}

// Outputs [first, last) of what Start began; `first` is a multiple of kOutputTile.
absl::Status PackOutputs(const FinishedLinear& linear, const StoredFormat& stored, int64_t first,
                         int64_t last, PackedLinear& tensors) {
  switch (stored.output) {
    case OutputFormat::kAwqGemm:
      PackAwqGemmWords(*linear.groups, first / kAwqGemmOutputsPerWord,
                       last / kAwqGemmOutputsPerWord, tensors);
      break;
    case OutputFormat::kGptq:
    case OutputFormat::kGptqV2:
      PackGptqOutputs(*linear.groups, GptqOf(stored), first, last, tensors);
      break;
    case OutputFormat::kCompressedTensors:
      PackCompressedOutputs(*linear.groups, first, last, tensors);
      break;
    case OutputFormat::kIntQuantized:
      PackIntQuantizedRows(*linear.groups, first, last, tensors);
      break;
    case OutputFormat::kScaledFp16:
      return ScaleToFp16Rows(linear.weight, linear.scales, first, last, tensors[0]);
    case OutputFormat::kDequantizedFp16:
      return DequantizeRows(*linear.groups, first, last, tensors[0]);
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckLayout(const std::string& name, int64_t out_features, int64_t in_features,
                         const StoredFormat& stored) {
  const auto fail = [&](absl::string_view field, const auto& value, absl::string_view expected) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, ": ", field, " is ", value, "; expected ", expected));
  };
  if (const auto fault = FindFormatFault(stored); fault.has_value()) {
    return fail(fault->field, fault->value, fault->expected);
  }
  const bool gptq = stored.output == OutputFormat::kGptq || stored.output == OutputFormat::kGptqV2;
  if (!gptq && stored.output != OutputFormat::kAwqGemm) return absl::OkStatus();
  const int bits = stored.format.bits;
  const int64_t multiple = CodesPerPeriod(bits);
  const std::string expected =
      absl::StrCat("a multiple of ", multiple, " for ", Name(stored.output), " of ", bits,
                   " bits; ", bits == 3 ? "dequantized-fp16" : "compressed-tensors", " holds any");
  if (out_features % multiple != 0) return fail("out_features", out_features, expected);
  if (gptq && in_features % multiple != 0) return fail("in_features", in_features, expected);
  return absl::OkStatus();
}

std::vector<TensorShape> PackedTensors(const std::string& module, int64_t out_features,
                                       int64_t in_features, const StoredFormat& stored) {
  const WeightFormat& format = stored.format;
  const int64_t groups = in_features / format.GroupSize(in_features);
  const int64_t output_words = WordsOf(out_features, format.bits);
  const int64_t input_words = WordsOf(in_features, format.bits);
  const auto named = [&module](absl::string_view suffix) { return absl::StrCat(module, suffix); };
  switch (stored.output) {
    case OutputFormat::kAwqGemm:
      return {{named(".qweight"), DType::kI32, {in_features, output_words}},
              {named(".qzeros"), DType::kI32, {groups, output_words}},
              {named(".scales"), DType::kF16, {groups, out_features}}};
    case OutputFormat::kGptq:
    case OutputFormat::kGptqV2:
      return {{named(".qweight"), DType::kI32, {input_words, out_features}},
              {named(".qzeros"), DType::kI32, {groups, output_words}},
              {named(".scales"), DType::kF16, {groups, out_features}},
              {named(".g_idx"), DType::kI32, {in_features}}};
    case OutputFormat::kCompressedTensors: {
      std::vector<TensorShape> tensors = {
          {named(".weight_packed"), DType::kI32, {out_features, input_words}},
          {named(".weight_scale"), DType::kF16, {out_features, groups}},
          {named(".weight_shape"), DType::kI64, {2}}};
      if (!format.symmetric) {
        tensors.push_back({named(".weight_zero_point"), DType::kI32, {output_words, groups}});
      }
      return tensors;
    }
    case OutputFormat::kIntQuantized: {
      const bool whole_tensor = format.group_size == kWholeTensor;
      std::vector<TensorShape> tensors = {
          {named(".weight"), DType::kI8, {out_features, in_features}},
          {named(".weight_scale"), DType::kF32, {out_features, 1}}};
      if (whole_tensor) tensors.back().shape = {1};
      if (stored.activations == ActivationFormat::kStaticTensor) {
        tensors.push_back({named(".input_scale"), DType::kF32, {1}});
      }
      return tensors;
    }
    case OutputFormat::kScaledFp16:
    case OutputFormat::kDequantizedFp16:
      break;
  }
  return {{named(".weight"), DType::kF16, {out_features, in_features}}};
}

// Packs all Linears in one loop.
absl::StatusOr<std::vector<std::vector<NamedTensor>>> PackLinears(
    absl::Span<const FinishedLinear> linears, const StoredFormat& stored, Executor& executor) {
  const StageScope stage(executor, Stage::kPack);
  std::vector<PackedLinear> packed;
  std::vector<int64_t> outputs;
  for (const FinishedLinear& linear : linears) {
    auto tensors = Start(linear, stored);
    if (!tensors.ok()) return tensors.status();
    packed.push_back(*std::move(tensors));
    outputs.push_back(linear.weight.out_features);
  }
  const StackedTiles tiles(outputs, kOutputTile);
  absl::Status status = executor.ForEach(tiles.size(), [&](int64_t tile) {
    const auto [index, first, count] = tiles.At(tile);
    return PackOutputs(linears[index], stored, first, first + count, packed[index]);
  });
  if (!status.ok()) return status;
  return packed;
}

}  // namespace salient
