#include "core/pack/gptq.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/pack/code_stream.h"
#include "core/pack/expected_tensor.h"
#include "core/tensor/dtype.h"
#include "core/tensor/half.h"

namespace salient {
namespace {

constexpr int64_t kOutputs = 16;    // A tile has so many: a cache line of words.
constexpr int64_t kTileWords = 96;  // A tile has so many: whole periods of every width.

bool IsGptqWidth(int bits) { return bits == 3 || bits == 4 || bits == 8; }

// The words of up to 16 outputs, first packed along the inputs, then turned.
void PackTile(const AffineGroups& groups, int bits, int64_t first, int64_t outputs,
              std::byte* qweight) {
  const int64_t inputs = groups.in_features;
  const int64_t step = kTileWords * 32 / bits;  // It counts inputs.
  std::array<std::array<uint32_t, kTileWords>, kOutputs> tile;
  for (int64_t k = 0; k < inputs; k += step) {
    const int64_t count = std::min(step, inputs - k);
    const int64_t words = WordsOf(count, bits);
    for (int64_t n = 0; n < outputs; ++n) {
      PackCodes(groups.codes.data() + (first + n) * inputs + k, count, bits,
                reinterpret_cast<std::byte*>(tile[n].data()));
    }
    for (int64_t w = 0; w < words; ++w) {
      std::array<uint32_t, kOutputs> line = {};
      for (int64_t n = 0; n < outputs; ++n) line[n] = tile[n][w];
      const int64_t row = k * bits / 32 + w;
      std::memcpy(qweight + (row * groups.out_features + first) * 4, line.data(),
                  static_cast<size_t>(outputs) * 4);
    }
  }
}

// A word of each of up to 16 outputs of qweight, row by row: words[n] are those of output n.
void GatherWords(const NamedTensor& qweight, int64_t first, int64_t outputs,
                 std::vector<uint32_t>& words) {
  const int64_t rows = qweight.shape[0];
  for (int64_t r = 0; r < rows; ++r) {
    std::array<uint32_t, kOutputs> line = {};
    std::memcpy(line.data(), qweight.data.data() + (r * qweight.shape[1] + first) * 4,
                static_cast<size_t>(outputs) * 4);
    for (int64_t n = 0; n < outputs; ++n) words[n * rows + r] = line[n];
  }
}

}  // namespace

absl::StatusOr<std::vector<NamedTensor>> StartGptq(const std::string& prefix,
                                                   const AffineGroups& groups,
                                                   const GptqLayout& layout) {
  const auto fail = [&](const auto&... what) {
    return absl::InvalidArgumentError(absl::StrCat(prefix, ": ", what...));
  };
  const int bits = layout.bits;
  const int64_t outputs = groups.out_features;
  const int64_t inputs = groups.in_features;
  if (!IsGptqWidth(bits)) return fail("gptq holds codes of 3, 4 or 8 bits; bits is ", bits);
  if (bits != groups.format.bits) {
    return fail("gptq is to hold codes of ", bits, " bits; they have ", groups.format.bits);
  }
  if (outputs * bits % 32 != 0) {
    return fail("gptq needs out_features to be a multiple of ", CodesPerPeriod(bits), " for ", bits,
                " bits; it is ", outputs);
  }
  if (inputs * bits % 32 != 0) {
    return fail("gptq needs in_features to be a multiple of ", CodesPerPeriod(bits), " for ", bits,
                " bits; it is ", inputs);
  }
  if (groups.format.scale_dtype != DType::kF16) {
    return fail("gptq stores scales as F16; they are ", Name(groups.format.scale_dtype));
  }
  const std::vector<uint8_t>& zeros = groups.zero_points;
  if (!layout.v2 && std::find(zeros.begin(), zeros.end(), 0) != zeros.end()) {
    return fail("a zero point is 0, which readers of gptq's zero points minus one do not agree on");
  }
  const int64_t per_row = groups.Groups();
  std::vector<NamedTensor> tensors = {
      {absl::StrCat(prefix, ".qweight"), DType::kI32, {inputs * bits / 32, outputs}, {}},
      {absl::StrCat(prefix, ".qzeros"), DType::kI32, {per_row, outputs * bits / 32}, {}},
      {absl::StrCat(prefix, ".scales"), DType::kF16, {per_row, outputs}, {}},
      {absl::StrCat(prefix, ".g_idx"), DType::kI32, {inputs}, {}}};
  for (NamedTensor& tensor : tensors) {
    int64_t bytes = SizeOf(tensor.dtype);
    for (const int64_t dimension : tensor.shape) bytes *= dimension;
    tensor.data.resize(static_cast<size_t>(bytes));
  }
  const int64_t size = groups.format.GroupSize(inputs);
  for (int64_t k = 0; k < inputs; ++k) {
    const auto group = static_cast<int32_t>(k / size);
    std::memcpy(tensors[3].data.data() + 4 * k, &group, sizeof(group));
  }
  return tensors;
}

void PackGptqOutputs(const AffineGroups& groups, const GptqLayout& layout, int64_t first,
                     int64_t last, std::vector<NamedTensor>& tensors) {
  const int bits = layout.bits;
  const int64_t outputs = groups.out_features;
  for (int64_t n = first; n < last; n += kOutputs) {
    PackTile(groups, bits, n, std::min(kOutputs, last - n), tensors[0].data.data());
  }
  const int64_t per_row = groups.Groups();
  const int minus = layout.v2 ? 0 : 1;
  std::vector<uint8_t> zeros(static_cast<size_t>(last - first));
  for (int64_t g = 0; g < per_row; ++g) {
    for (int64_t n = first; n < last; ++n) {
      const int64_t at = n * per_row + g;
      zeros[n - first] = static_cast<uint8_t>(groups.zero_points[at] - minus);
      const uint16_t scale = F32ToF16(groups.scales[at]);
      std::memcpy(tensors[2].data.data() + (g * outputs + n) * 2, &scale, sizeof(scale));
    }
    PackCodes(zeros.data(), last - first, bits,
              tensors[1].data.data() + (g * outputs + first) * bits / 32 * 4);
  }
}

absl::StatusOr<std::vector<NamedTensor>> PackGptq(const std::string& prefix,
                                                  const AffineGroups& groups,
                                                  const GptqLayout& layout) {
  absl::StatusOr<std::vector<NamedTensor>> tensors = StartGptq(prefix, groups, layout);
  if (tensors.ok()) PackGptqOutputs(groups, layout, 0, groups.out_features, *tensors);
  return tensors;
}

absl::Status CheckGptq(absl::string_view source, const GptqTensors& tensors,
                       const GptqLayout& layout, int64_t out_features, int64_t in_features,
                       int64_t group_size) {
  const int bits = layout.bits;
  if (!IsGptqWidth(bits)) {
    return TensorFault(source, tensors.qweight, "bits is ", bits, "; expected 3, 4 or 8 for gptq");
  }
  for (const auto& [name, value] :
       {std::pair{"out_features", out_features}, std::pair{"in_features", in_features}}) {
    if (value * bits % 32 == 0) continue;
    return TensorFault(source, tensors.qweight, name, " is ", value, "; expected a multiple of ",
                       CodesPerPeriod(bits), " for gptq of ", bits, " bits");
  }
  const bool any_group = !tensors.g_idx.name.empty();
  const absl::StatusOr<int64_t> groups =
      GroupsOfRow(source, tensors.scales, 0, in_features, group_size, any_group);
  if (!groups.ok()) return groups.status();
  const std::string what = absl::StrCat("[", out_features, ", ", in_features, "] in ", *groups,
                                        " groups of ", bits, " bits");
  absl::Status status =
      CheckTensors(source,
                   {{&tensors.qweight, DType::kI32, {in_features * bits / 32, out_features}},
                    {&tensors.qzeros, DType::kI32, {*groups, out_features * bits / 32}},
                    {&tensors.scales, std::nullopt, {*groups, out_features}}},
                   what);
  if (!status.ok() || !any_group) return status;
  return CheckTensors(source, {{&tensors.g_idx, DType::kI32, {in_features}}}, what);
}

absl::StatusOr<Matrix> DecodeGptq(absl::string_view source, const GptqTensors& tensors,
                                  const GptqLayout& layout, int64_t first, int64_t count) {
  const int bits = layout.bits;
  const int64_t rows = tensors.qweight.shape[0];  // They are rows of words.
  const int64_t inputs = rows * 32 / bits;
  const int64_t groups = tensors.scales.shape[0];
  const int64_t outputs = tensors.scales.shape[1];
  const absl::StatusOr<std::vector<int32_t>> group_of =
      GroupOfInputs(source, tensors.g_idx, inputs, groups);
  if (!group_of.ok()) return group_of.status();

  Matrix decoded = Matrix::Unset(count, inputs);
  std::vector<uint32_t> words(static_cast<size_t>(kOutputs * rows));
  std::vector<uint8_t> codes(static_cast<size_t>(inputs));
  std::vector<float> scales(static_cast<size_t>(groups));
  std::vector<float> zeros(static_cast<size_t>(groups));
  const int64_t width = SizeOf(tensors.scales.dtype);
  for (int64_t begin = 0; begin < count; begin += kOutputs) {
    const int64_t some = std::min(kOutputs, count - begin);
    GatherWords(tensors.qweight, first + begin, some, words);
    for (int64_t i = 0; i < some; ++i) {
      const int64_t n = first + begin + i;
      for (int64_t g = 0; g < groups; ++g) {
        WidenToF32(tensors.scales.dtype, tensors.scales.data.data() + (g * outputs + n) * width, 1,
                   &scales[g]);
        const std::byte* row = tensors.qzeros.data.data() + g * tensors.qzeros.shape[1] * 4;
        zeros[g] = static_cast<float>(CodeAt(row, 1, n, bits) + (layout.v2 ? 0 : 1));
      }
      UnpackCodes(reinterpret_cast<const std::byte*>(words.data() + i * rows), inputs, bits,
                  codes.data());
      float* out = decoded.Row(begin + i);
      for (int64_t k = 0; k < inputs; ++k) {
        const int32_t g = (*group_of)[k];
        out[k] = scales[g] * (static_cast<float>(codes[k]) - zeros[g]);
      }
    }
  }
  return decoded;
}

}  // namespace salient
