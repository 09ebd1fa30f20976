#include "core/source/salient_source.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "core/method/salient_fp16.h"
#include "core/model/block_plan.h"
#include "core/parallel/tiles.h"
#include "core/safetensors/safetensors.h"
#include "core/source/decoded_source.h"
#include "core/tensor/dtype.h"
#include "core/tensor/matrix.h"

namespace salient {
namespace {

class SalientSource final : public RoundedSource {
 public:
  // `kept` are of matrices of `source`.
  static absl::StatusOr<std::unique_ptr<TensorSource>> Open(const TensorSource& source,
                                                            const WeightFormat& format,
                                                            KeptChannels kept) {
    std::vector<Weight> weights;
    for (const auto& [name, channels] : kept) {
      const absl::StatusOr<TensorLocation> found = source.Find(name);
      if (!found.ok()) return found.status();
      const TensorEntry& entry = *found->entry;
      absl::string_view module = name;
      if (entry.shape.size() != 2 || !IsFloat(entry.dtype) ||
          !absl::ConsumeSuffix(&module, ".weight")) {
        return absl::InvalidArgumentError(absl::StrCat(
            found->file, ": tensor \"", name, "\" is ", Name(entry.dtype), " of ",
            entry.shape.size(), " dimensions; expected a weight, a matrix of F32, F16 or BF16"));
      }
      weights.emplace_back(std::string(module), LinearShape{entry.shape[0], entry.shape[1], false});
    }
    return std::unique_ptr<TensorSource>(
        new SalientSource(source, std::move(weights), format, std::move(kept)));
  }

 private:
  SalientSource(const TensorSource& source, std::vector<Weight> weights, const WeightFormat& format,
                KeptChannels kept)
      : RoundedSource(source, std::move(weights)), format_(format), kept_(std::move(kept)) {}

  absl::Status Decode(const Weight& weight, int64_t first, int64_t count,
                      RowSink out) const override {
    const std::vector<int64_t>& kept = kept_.find(weight.entry.name)->second;
    const int64_t end = first + count;
    for (int64_t row = first; row < end; row += kRowTile) {
      const absl::StatusOr<StoredRows> rows = ReadRows(weight, row, std::min(kRowTile, end - row));
      if (!rows.ok()) return rows.status();
      const absl::StatusOr<Matrix> rounded = RoundSalientFp16(rows->View(), kept, format_);
      if (!rounded.ok()) return InRows(weight, row, rounded.status());
      for (int64_t i = 0; i < rounded->rows(); ++i) out(rounded->Row(i));
    }
    return absl::OkStatus();
  }

  const WeightFormat format_;
  const KeptChannels kept_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<TensorSource>> SalientFp16Source(const TensorSource& source,
                                                                const WeightFormat& format,
                                                                KeptChannels kept) {
  return SalientSource::Open(source, format, std::move(kept));
}

}  // namespace salient
