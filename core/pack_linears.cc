#include "core/pack_linears.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "core/linalg/tiles.h"
#include "core/pack/awq_gemm.h"
#include "core/pack/dequantized_fp16.h"

namespace salient {
namespace {

using PackedLinears = std::vector<std::vector<NamedTensor>>;

absl::StatusOr<PackedLinears> PackDequantizedFp16(absl::Span<const FinishedLinear> linears,
                                                  Executor& executor) {
  PackedLinears packed(linears.size());
  absl::Status status =
      executor.ForEach(static_cast<int64_t>(linears.size()), [&](int64_t i) -> absl::Status {
        auto tensors = DequantizeToFp16(linears[i].name, *linears[i].groups);
        if (!tensors.ok()) return tensors.status();
        packed[i] = *std::move(tensors);
        return absl::OkStatus();
      });
  if (!status.ok()) return status;
  return packed;
}

// All in one loop.
absl::StatusOr<PackedLinears> PackAwqGemm(absl::Span<const FinishedLinear> linears,
                                          Executor& executor) {
  PackedLinears packed(linears.size());
  std::vector<int64_t> words;
  for (size_t i = 0; i < linears.size(); ++i) {
    auto tensors = StartAwqGemm(linears[i].name, *linears[i].groups);
    if (!tensors.ok()) return tensors.status();
    packed[i] = *std::move(tensors);
    words.push_back(linears[i].groups->out_features / kAwqGemmOutputsPerWord);
  }
  const StackedTiles tiles(words, kRowTile / 4);
  absl::Status status = executor.ForEach(tiles.size(), [&](int64_t tile) {
    const auto [index, first, count] = tiles.At(tile);
    PackAwqGemmWords(*linears[index].groups, first, first + count, packed[index]);
    return absl::OkStatus();
  });
  if (!status.ok()) return status;
  return packed;
}

absl::Status NotYet(OutputFormat output) {
  return absl::UnimplementedError(
      absl::StrCat("output format ", static_cast<int>(output), " is not written yet"));
}

}  // namespace

absl::Status CheckLayout(const std::string& name, int64_t out_features, int64_t /*in_features*/,
                         const StoredFormat& stored) {
  const auto fail = [&](absl::string_view field, int64_t value, absl::string_view expected) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, ": ", field, " is ", value, "; expected ", expected));
  };
  switch (stored.output) {
    case OutputFormat::kAwqGemm:
      if (stored.format.bits != 4) {
        return fail("bits", stored.format.bits, "4, the only width of awq-gemm");
      }
      if (out_features % kAwqGemmOutputsPerWord != 0) {
        return fail("out_features", out_features, "a multiple of 8 for awq-gemm");
      }
      return absl::OkStatus();
    case OutputFormat::kDequantizedFp16:
      return absl::OkStatus();
    default:
      return NotYet(stored.output);
  }
}

std::vector<TensorShape> PackedTensors(const std::string& module, int64_t out_features,
                                       int64_t in_features, const StoredFormat& stored) {
  const int64_t groups = in_features / stored.format.GroupSize(in_features);
  switch (stored.output) {
    case OutputFormat::kAwqGemm: {
      const int64_t words = out_features / kAwqGemmOutputsPerWord;
      return {{absl::StrCat(module, ".qweight"), DType::kI32, {in_features, words}},
              {absl::StrCat(module, ".qzeros"), DType::kI32, {groups, words}},
              {absl::StrCat(module, ".scales"), DType::kF16, {groups, out_features}}};
    }
    case OutputFormat::kDequantizedFp16:
      return {{absl::StrCat(module, ".weight"), DType::kF16, {out_features, in_features}}};
    default:
      return {};
  }
}

absl::StatusOr<std::vector<std::vector<NamedTensor>>> PackLinears(
    absl::Span<const FinishedLinear> linears, const StoredFormat& stored, Executor& executor) {
  const StageScope stage(executor, Stage::kPack);
  switch (stored.output) {
    case OutputFormat::kAwqGemm:
      return PackAwqGemm(linears, executor);
    case OutputFormat::kDequantizedFp16:
      return PackDequantizedFp16(linears, executor);
    default:
      return NotYet(stored.output);
  }
}

}  // namespace salient
