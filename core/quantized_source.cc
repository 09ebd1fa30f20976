#include "core/quantized_source.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/method/round_nearest.h"
#include "core/model/family.h"
#include "core/pack/awq_gemm.h"
#include "core/quantizable_groups.h"
#include "core/tensor/half.h"

namespace salient {
namespace {

// A source in which the weights of some Linears are replaced by decoded ones. What is replaced, and
// by what, a subclass says.
class DecodedSource : public TensorSource {
 public:
  DecodedSource(const TensorSource& source, const Family& family, const ModelConfig& config)
      : source_(source) {
    for (int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
      for (size_t i = 0; i < kLinearRoles; ++i) {
        const auto role = static_cast<LinearRole>(i);
        const LinearShape shape = ShapeOf(family, config, role);
        const std::string module = LinearName(family, layer, role);
        TensorEntry entry{absl::StrCat(module, ".weight"),
                          DType::kF32,
                          {shape.out_features, shape.in_features},
                          0,
                          shape.out_features * shape.in_features * SizeOf(DType::kF32)};
        const std::string name = entry.name;
        weights_.emplace(name, Weight{module, role, std::move(entry)});
      }
    }
  }

  const std::string& name() const override { return source_.name(); }

  absl::StatusOr<TensorLocation> Find(absl::string_view tensor) const override {
    const auto found = weights_.find(tensor);
    if (found == weights_.end()) return source_.Find(tensor);
    const Weight& weight = found->second;
    absl::StatusOr<absl::string_view> file = Replaces(weight);
    if (!file.ok()) return file.status();
    if (file->empty()) return source_.Find(tensor);
    return TensorLocation{*file, &weight.entry};
  }

  absl::Status ReadRange(absl::string_view tensor, int64_t offset,
                         absl::Span<std::byte> bytes) const override {
    const auto found = weights_.find(tensor);
    if (found == weights_.end()) return source_.ReadRange(tensor, offset, bytes);
    const Weight& weight = found->second;
    absl::StatusOr<absl::string_view> file = Replaces(weight);
    if (!file.ok()) return file.status();
    if (file->empty()) return source_.ReadRange(tensor, offset, bytes);
    const int64_t size = static_cast<int64_t>(bytes.size());
    if (offset < 0 || offset > weight.entry.SizeBytes() - size) {
      return absl::OutOfRangeError(absl::StrCat(*file, ": tensor ", tensor, " has ",
                                                weight.entry.SizeBytes(), " bytes; ", size,
                                                " were asked for from byte ", offset));
    }
    return Decode(weight, offset, bytes);
  }

 protected:
  struct Weight {
    std::string module;
    LinearRole role;
    TensorEntry entry;  // as it is shown
  };

  const TensorSource& source() const { return source_; }

 private:
  // The file that the weight is decoded from; empty if it is shown as it is.
  virtual absl::StatusOr<absl::string_view> Replaces(const Weight& weight) const = 0;

  // Rows [first, first + count) in whatever grid they are kept, decoded by DecodeRow.
  virtual absl::StatusOr<AffineGroups> Groups(const Weight& weight, int64_t first,
                                              int64_t count) const = 0;

  absl::Status Decode(const Weight& weight, int64_t offset, absl::Span<std::byte> bytes) const {
    if (bytes.empty()) return absl::OkStatus();
    const int64_t row_bytes = weight.entry.shape[1] * SizeOf(DType::kF32);
    const int64_t end = offset + static_cast<int64_t>(bytes.size());
    const int64_t first = offset / row_bytes;
    const int64_t last = (end + row_bytes - 1) / row_bytes;
    const absl::StatusOr<AffineGroups> groups = Groups(weight, first, last - first);
    if (!groups.ok()) return groups.status();
    std::vector<float> row(static_cast<size_t>(groups->in_features));
    for (int64_t i = first; i < last; ++i) {
      groups->DecodeRow(i - first, row.data());
      const int64_t begin = std::max(offset, i * row_bytes);
      const int64_t stop = std::min(end, (i + 1) * row_bytes);
      std::memcpy(bytes.data() + (begin - offset),
                  reinterpret_cast<const std::byte*>(row.data()) + (begin - i * row_bytes),
                  static_cast<size_t>(stop - begin));
    }
    return absl::OkStatus();
  }

  const TensorSource& source_;
  std::map<std::string, Weight, std::less<>> weights_;
};

class AwqGemmSource final : public DecodedSource {
 public:
  AwqGemmSource(const TensorSource& source, const Family& family, const ModelConfig& config)
      : DecodedSource(source, family, config), group_size_(config.quantization->group_size) {}

 private:
  absl::StatusOr<absl::string_view> Replaces(const Weight& weight) const override {
    const auto packed = source().Find(absl::StrCat(weight.module, ".qweight"));
    if (absl::IsNotFound(packed.status())) return "";  // it was kept
    if (!packed.ok()) return packed.status();
    const absl::StatusOr<AwqGemmTensors> tensors = Headers(weight);
    if (!tensors.ok()) return tensors.status();
    const absl::Status status = CheckAwqGemm(packed->file, *tensors, weight.entry.shape[0],
                                             weight.entry.shape[1], group_size_);
    if (!status.ok()) return status;
    return packed->file;
  }

  absl::StatusOr<AwqGemmTensors> Headers(const Weight& weight) const {
    AwqGemmTensors tensors;
    for (const auto& [suffix, tensor] :
         {std::pair{".qweight", &tensors.qweight}, std::pair{".qzeros", &tensors.qzeros},
          std::pair{".scales", &tensors.scales}}) {
      const std::string name = absl::StrCat(weight.module, suffix);
      const auto found = source().Find(name);
      if (absl::IsNotFound(found.status())) {
        return absl::InvalidArgumentError(absl::StrCat(source().name(), ": tensor \"", name,
                                                       "\" is missing; expected it beside \"",
                                                       weight.module, ".qweight\""));
      }
      if (!found.ok()) return found.status();
      *tensor = {name, found->entry->dtype, found->entry->shape, {}};
    }
    return tensors;
  }

  // A row lies across all words of its column, so the tensors are read whole.
  absl::StatusOr<AffineGroups> Groups(const Weight& weight, int64_t first,
                                      int64_t count) const override {
    absl::StatusOr<AwqGemmTensors> tensors = Headers(weight);
    if (!tensors.ok()) return tensors.status();
    for (NamedTensor* tensor : {&tensors->qweight, &tensors->qzeros, &tensors->scales}) {
      int64_t bytes = SizeOf(tensor->dtype);
      for (int64_t dimension : tensor->shape) bytes *= dimension;
      tensor->data.resize(static_cast<size_t>(bytes));
      absl::Status status = source().ReadRange(tensor->name, 0, absl::MakeSpan(tensor->data));
      if (!status.ok()) return status;
    }
    AffineGroups groups = UnpackAwqGemm(*tensors);
    if (count < groups.out_features) KeepRows(first, count, groups);
    return groups;
  }

  static void KeepRows(int64_t first, int64_t count, AffineGroups& groups) {
    const auto keep = [&](auto& values, int64_t columns) {
      values.erase(values.begin() + (first + count) * columns, values.end());
      values.erase(values.begin(), values.begin() + first * columns);
    };
    keep(groups.codes, groups.in_features);
    keep(groups.scales, groups.Groups());
    keep(groups.zero_points, groups.Groups());
    groups.out_features = count;
  }

  int64_t group_size_;
};

class NearestSource final : public DecodedSource {
 public:
  NearestSource(const TensorSource& source, const Family& family, const ModelConfig& config,
                const WeightFormat& format, const std::array<GroupFit, kGroupRoles>& fits)
      : DecodedSource(source, family, config), format_(format) {
    for (const GroupRow& row : family.groups) {
      for (LinearRole role : row.linears) {
        rounded_[static_cast<size_t>(role)] = fits[static_cast<size_t>(row.role)].fits;
      }
    }
  }

 private:
  // A tensor that is not what the config makes expected is shown as it is, for FindTensor to say.
  absl::StatusOr<absl::string_view> Replaces(const Weight& weight) const override {
    if (!rounded_[static_cast<size_t>(weight.role)]) return "";
    const auto found = source().Find(weight.entry.name);
    if (!found.ok()) return found.status();
    const bool expected = found->entry->shape == weight.entry.shape && IsFloat(found->entry->dtype);
    return expected ? found->file : "";
  }

  absl::StatusOr<AffineGroups> Groups(const Weight& weight, int64_t first,
                                      int64_t count) const override {
    const auto found = source().Find(weight.entry.name);
    if (!found.ok()) return found.status();
    const int64_t columns = weight.entry.shape[1];
    const DType dtype = found->entry->dtype;
    std::vector<std::byte> stored(static_cast<size_t>(count * columns * SizeOf(dtype)));
    absl::Status status = source().ReadRange(weight.entry.name, first * columns * SizeOf(dtype),
                                             absl::MakeSpan(stored));
    if (!status.ok()) return status;
    const WeightView view = {dtype, stored.data(), count, columns};
    std::vector<float> row(static_cast<size_t>(columns));
    for (int64_t i = 0; i < count; ++i) {
      view.ReadRows(i, 1, row.data());
      status = CheckFinite(weight.entry.name, row.data(), 1, columns, first + i);
      if (!status.ok()) return status;
    }
    const std::vector<float> ones(static_cast<size_t>(columns), 1.0f);
    SerialExecutor executor;
    const absl::StatusOr<Ranges> ranges =
        RangeMinMax(view, ones, format_, /*autoawq=*/false, executor);
    if (!ranges.ok()) {
      return absl::Status(ranges.status().code(),
                          absl::StrCat(weight.entry.name, ", from row ", first,
                                       " on: ", ranges.status().message()));
    }
    return RoundNearest(view, ones, *ranges, format_, executor);
  }

  WeightFormat format_;
  std::array<bool, kLinearRoles> rounded_ = {};
};

// Nothing is replaced.
class PlainSource final : public TensorSource {
 public:
  explicit PlainSource(const TensorSource& source) : source_(source) {}
  const std::string& name() const override { return source_.name(); }
  absl::StatusOr<TensorLocation> Find(absl::string_view tensor) const override {
    return source_.Find(tensor);
  }
  absl::Status ReadRange(absl::string_view tensor, int64_t offset,
                         absl::Span<std::byte> bytes) const override {
    return source_.ReadRange(tensor, offset, bytes);
  }

 private:
  const TensorSource& source_;
};

absl::Status CheckReadable(const ModelConfig& config) {
  const QuantizationConfig& quantization = *config.quantization;
  const auto fail = [&](absl::string_view field, const auto& value, absl::string_view expected) {
    return absl::UnimplementedError(absl::StrCat(config.source, ": quantization_config.", field,
                                                 " is ", value, "; expected ", expected));
  };
  if (quantization.quant_method != "awq") {
    return fail("quant_method", absl::StrCat("\"", quantization.quant_method, "\""),
                "\"awq\", the only method that is read");
  }
  if (quantization.version != "gemm" && !quantization.version.empty()) {
    return fail("version", absl::StrCat("\"", quantization.version, "\""),
                "\"gemm\", the only layout that is read");
  }
  if (quantization.bits != 4 && quantization.bits != 0) {
    return fail("bits", quantization.bits, "4, the only width of awq's gemm layout");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<TensorSource>> OpenQuantizedSource(const TensorSource& source,
                                                                  const ModelConfig& config) {
  if (!config.quantization.has_value()) return std::make_unique<PlainSource>(source);
  if (absl::Status status = CheckReadable(config); !status.ok()) return status;
  const absl::StatusOr<const Family*> family = FindFamily(config);
  if (!family.ok()) return family.status();
  return std::make_unique<AwqGemmSource>(source, **family, config);
}

absl::StatusOr<std::unique_ptr<TensorSource>> RoundToNearestSource(const TensorSource& source,
                                                                   const ModelConfig& config,
                                                                   const WeightFormat& format) {
  const absl::StatusOr<const Family*> family = FindFamily(config);
  if (!family.ok()) return family.status();
  // What the format alone can hold: the layout of a file says more only of odd shapes.
  const auto fits = QuantizableGroups(**family, config, {format, OutputFormat::kDequantizedFp16},
                                      /*strict=*/false);
  if (!fits.ok()) return fits.status();
  return std::make_unique<NearestSource>(source, **family, config, format, *fits);
}

}  // namespace salient
