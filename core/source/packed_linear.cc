#include "core/source/packed_linear.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/config/model/model_config.h"
#include "core/config/quantization_config.h"
#include "core/parallel/tiles.h"
#include "core/tensor/affine_groups.h"
#include "core/tensor/dtype.h"
#include "core/tensor/half.h"
#include "core/tensor/matrix.h"
#include "core/tensor/named_tensor.h"
#include "core/text/quote.h"

namespace salient {
namespace {

// Describes a tensor of a layout: how it is called, where it goes and whether there must be one.
struct Part {
  absl::string_view suffix;
  NamedTensor* tensor;
  bool required = true;
};

GptqLayout LayoutOf(const StoredFormat& stored) {
  return {stored.format.bits, stored.output == OutputFormat::kGptqV2};
}

std::vector<Part> PartsOf(AwqGemmTensors& tensors) {
  return {
      {".qweight", &tensors.qweight}, {".qzeros", &tensors.qzeros}, {".scales", &tensors.scales}};
}

std::vector<Part> PartsOf(GptqTensors& tensors) {
  return {{".qweight", &tensors.qweight},
          {".qzeros", &tensors.qzeros},
          {".scales", &tensors.scales},
          {".g_idx", &tensors.g_idx, false}};
}

std::vector<Part> PartsOf(CompressedTensors& tensors) {
  return {{".weight_packed", &tensors.weight_packed},
          {".weight_scale", &tensors.weight_scale},
          {".weight_zero_point", &tensors.weight_zero_point, false},
          {".weight_g_idx", &tensors.weight_g_idx, false}};
}

std::vector<Part> PartsOf(IntQuantizedTensors& tensors) {
  return {{".weight_scale", &tensors.weight_scale}, {".weight", &tensors.weight}};
}

absl::Status CheckParts(absl::string_view file, const AwqGemmTensors& tensors,
                        const StoredFormat& stored, const LinearShape& shape) {
  return CheckAwqGemm(file, tensors, shape.out_features, shape.in_features,
                      stored.format.group_size);
}

absl::Status CheckParts(absl::string_view file, const GptqTensors& tensors,
                        const StoredFormat& stored, const LinearShape& shape) {
  return CheckGptq(file, tensors, LayoutOf(stored), shape.out_features, shape.in_features,
                   stored.format.group_size);
}

absl::Status CheckParts(absl::string_view file, const CompressedTensors& tensors,
                        const StoredFormat& stored, const LinearShape& shape) {
  return CheckCompressedTensors(file, tensors, stored.format.bits, shape.out_features,
                                shape.in_features, stored.format.group_size);
}

absl::Status CheckParts(absl::string_view file, const IntQuantizedTensors& tensors,
                        const StoredFormat& /*stored*/, const LinearShape& shape) {
  return CheckIntQuantized(file, tensors, shape.out_features, shape.in_features);
}

// Decodes rows [first, first + count) by decode(first, count), few at a time.
template <class Decode>
absl::Status InTiles(int64_t first, int64_t count, const Decode& decode, RowSink out) {
  const RowTiles tiles(count, kRowTile);
  for (int64_t tile = 0; tile < tiles.size(); ++tile) {
    const absl::StatusOr<Matrix> rows = decode(first + tiles.First(tile), tiles.Count(tile));
    if (!rows.ok()) return rows.status();
    for (int64_t i = 0; i < rows->rows(); ++i) out(rows->Row(i));
  }
  return absl::OkStatus();
}

absl::Status DecodeParts(absl::string_view /*file*/, const AwqGemmTensors& tensors,
                         const StoredFormat& /*stored*/, const LinearShape& shape, int64_t first,
                         int64_t count, RowSink out) {
  const AffineGroups groups = UnpackAwqGemm(tensors);
  std::vector<float> row(static_cast<size_t>(shape.in_features));
  for (int64_t i = first; i < first + count; ++i) {
    groups.DecodeRow(i, row.data());
    out(row.data());
  }
  return absl::OkStatus();
}

absl::Status DecodeParts(absl::string_view file, const GptqTensors& tensors,
                         const StoredFormat& stored, const LinearShape& /*shape*/, int64_t first,
                         int64_t count, RowSink out) {
  const auto decode = [&](int64_t from, int64_t rows) {
    return DecodeGptq(file, tensors, LayoutOf(stored), from, rows);
  };
  return InTiles(first, count, decode, out);
}

absl::Status DecodeParts(absl::string_view file, const CompressedTensors& tensors,
                         const StoredFormat& stored, const LinearShape& shape, int64_t first,
                         int64_t count, RowSink out) {
  const auto decode = [&](int64_t from, int64_t rows) {
    return DecodeCompressedTensors(file, tensors, stored.format.bits, shape.in_features, from,
                                   rows);
  };
  return InTiles(first, count, decode, out);
}

absl::Status DecodeParts(absl::string_view /*file*/, const IntQuantizedTensors& tensors,
                         const StoredFormat& /*stored*/, const LinearShape& /*shape*/,
                         int64_t first, int64_t count, RowSink out) {
  const auto decode = [&](int64_t from, int64_t rows) -> absl::StatusOr<Matrix> {
    return DecodeIntQuantized(tensors, from, rows);
  };
  return InTiles(first, count, decode, out);
}

absl::Status Load(const TensorSource& source, NamedTensor& tensor) {
  int64_t bytes = SizeOf(tensor.dtype);
  for (const int64_t dimension : tensor.shape) bytes *= dimension;
  tensor.data.resize(static_cast<size_t>(bytes));
  return source.ReadRange(tensor.name, 0, absl::MakeSpan(tensor.data));
}

// Fills name, dtype and shape of `tensor`, and `file`. Whether it is there.
absl::StatusOr<bool> FindHeader(const TensorSource& source, const std::string& name,
                                NamedTensor& tensor, absl::string_view& file) {
  const auto found = source.Find(name);
  if (absl::IsNotFound(found.status())) return false;
  if (!found.ok()) return found.status();
  tensor = {name, found->entry->dtype, found->entry->shape, {}};
  file = found->file;
  return true;
}

absl::Status Missing(const TensorSource& source, absl::string_view name, absl::string_view beside) {
  return absl::InvalidArgumentError(absl::StrCat(source.name(), ": tensor ", QuoteForMessage(name),
                                                 " is missing; expected it beside ",
                                                 QuoteForMessage(beside)));
}

// Returns a tensor of `module` that says it is packed, in any layout that `method` has; empty if
// there is none. A weight of codes is one, too.
absl::StatusOr<std::string> FindSign(const TensorSource& source, const std::string& method,
                                     const std::string& module) {
  const std::vector<absl::string_view> signs =
      method == "compressed-tensors"
          ? std::vector<absl::string_view>{".weight_packed", ".weight_scale"}
          : std::vector<absl::string_view>{".qweight", ".qzeros", ".scales"};
  NamedTensor tensor;
  absl::string_view file;
  for (const absl::string_view suffix : signs) {
    const std::string name = absl::StrCat(module, suffix);
    const absl::StatusOr<bool> found = FindHeader(source, name, tensor, file);
    if (!found.ok()) return found.status();
    if (*found) return name;
  }
  const std::string name = absl::StrCat(module, ".weight");
  const absl::StatusOr<bool> found = FindHeader(source, name, tensor, file);
  if (!found.ok()) return found.status();
  return *found && tensor.dtype == DType::kI8 ? name : "";
}

}  // namespace

PackedLinear::Tensors PackedLinear::TensorsOf(OutputFormat output) {
  switch (output) {
    case OutputFormat::kGptq:
    case OutputFormat::kGptqV2:
      return GptqTensors();
    case OutputFormat::kCompressedTensors:
      return CompressedTensors();
    case OutputFormat::kIntQuantized:
      return IntQuantizedTensors();
    default:
      return AwqGemmTensors();
  }
}

absl::StatusOr<std::optional<PackedLinear>> PackedLinear::Find(const TensorSource& source,
                                                               const ModelConfig& config,
                                                               const std::string& module,
                                                               const LinearShape& shape) {
  const QuantizationConfig& quantization = *config.quantization;
  const absl::StatusOr<std::string> sign = FindSign(source, quantization.quant_method, module);
  if (!sign.ok()) return sign.status();
  if (sign->empty()) return std::nullopt;
  const std::optional<StoredFormat> format = quantization.FormatOf(module);
  if (!format.has_value()) {
    return absl::InvalidArgumentError(
        absl::StrCat(source.name(), ": tensor ", QuoteForMessage(*sign),
                     " is there; expected a plain weight of ", QuoteForMessage(module),
                     ", which quantization_config in ", config.source, " keeps"));
  }
  PackedLinear linear;
  linear.format_ = *format;
  linear.shape_ = shape;
  linear.tensors_ = TensorsOf(format->output);
  std::vector<Part> parts =
      std::visit([](auto& tensors) { return PartsOf(tensors); }, linear.tensors_);
  for (Part& part : parts) {
    if (part.suffix == ".weight_zero_point" && !format->format.symmetric) part.required = true;
    if (part.suffix == ".g_idx" && quantization.desc_act) part.required = true;
  }
  if (format->activations == ActivationFormat::kStaticTensor) {
    parts.push_back({".input_scale", &linear.input_scale_});
  }
  for (const Part& part : parts) {
    const std::string name = absl::StrCat(module, part.suffix);
    absl::string_view file;
    const absl::StatusOr<bool> found = FindHeader(source, name, *part.tensor, file);
    if (!found.ok()) return found.status();
    if (!*found && part.required) return Missing(source, name, *sign);
    if (!*found) continue;
    const bool beside_others = linear.file_.empty() || linear.file_ == file;
    linear.file_ = beside_others ? file : absl::string_view(source.name());
  }
  const std::string plain = absl::StrCat(module, ".weight");
  if (format->output != OutputFormat::kIntQuantized && source.Find(plain).ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat(source.name(), ": tensor ", QuoteForMessage(plain), " is there beside ",
                     QuoteForMessage(*sign), "; expected one of them"));
  }
  const auto check = [&](const auto& tensors) {
    return CheckParts(linear.file_, tensors, linear.format_, shape);
  };
  absl::Status status = std::visit(check, linear.tensors_);
  if (status.ok()) status = linear.CheckInputScale();
  if (!status.ok()) return status;
  return linear;
}

absl::Status PackedLinear::CheckInputScale() const {
  const bool one = input_scale_.shape.empty() || input_scale_.shape == std::vector<int64_t>{1};
  if (input_scale_.name.empty() || (one && IsFloat(input_scale_.dtype))) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      file_, ": tensor ", QuoteForMessage(input_scale_.name), ": is ", Name(input_scale_.dtype),
      " [", absl::StrJoin(input_scale_.shape, ", "), "]; expected F16, BF16 or F32 [1]"));
}

absl::Status PackedLinear::Decode(const TensorSource& source, int64_t first, int64_t count,
                                  RowSink out) const {
  // Read whole, whatever the rows: in most layouts a row lies across all of a tensor.
  Tensors tensors = tensors_;
  for (const Part& part : std::visit([](auto& held) { return PartsOf(held); }, tensors)) {
    if (part.tensor->name.empty()) continue;
    if (absl::Status status = Load(source, *part.tensor); !status.ok()) return status;
  }
  const auto decode = [&](const auto& held) {
    return DecodeParts(file_, held, format_, shape_, first, count, out);
  };
  return std::visit(decode, tensors);
}

absl::StatusOr<InputRounding> PackedLinear::ReadInputRounding(const TensorSource& source) const {
  InputRounding rounding{format_.activations, 0};
  if (rounding.format != ActivationFormat::kStaticTensor) return rounding;
  NamedTensor scale = input_scale_;
  if (absl::Status status = Load(source, scale); !status.ok()) return status;
  WidenToF32(scale.dtype, scale.data.data(), 1, &rounding.step);
  if (rounding.step > 0 && std::isfinite(rounding.step)) return rounding;
  return absl::InvalidArgumentError(absl::StrCat(file_, ": tensor ", QuoteForMessage(scale.name),
                                                 ": is ", rounding.step,
                                                 "; expected a number above 0"));
}

}  // namespace salient
