// Shows a model in which the weights of some Linears are replaced by decoded or rounded ones.
#ifndef SALIENT_CORE_SOURCE_DECODED_SOURCE_H_
#define SALIENT_CORE_SOURCE_DECODED_SOURCE_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/checkpoint/tensor_source.h"
#include "core/model/block_plan.h"
#include "core/model/model.h"
#include "core/safetensors/safetensors.h"
#include "core/tensor/dtype.h"
#include "core/tensor/weight_view.h"

namespace salient {

// Takes decoded rows in their order, `row` [in_features] valid during the call.
using RowSink = absl::FunctionRef<void(const float* row)>;

// Shows <module>.weight, F32 [out_features, in_features], of the Linears that Replaces names, and
// everything else as it is. Borrows the source. It is thread-safe if the subclass is.
class DecodedSource : public TensorSource {
 public:
  const std::string& name() const override { return source_.name(); }
  absl::StatusOr<TensorLocation> Find(absl::string_view tensor) const override;
  absl::Status ReadRange(absl::string_view tensor, int64_t offset,
                         absl::Span<std::byte> bytes) const override;

 protected:
  struct Weight {
    Weight(std::string path, const LinearShape& linear);

    std::string module;
    LinearShape shape;
    TensorEntry entry;  // It is as it is shown.
  };

  // `weights` are those that may be replaced.
  DecodedSource(const TensorSource& source, std::vector<Weight> weights);

  // Lists those of all decoder blocks.
  static std::vector<Weight> AllLinears(const Model& model);

  const TensorSource& source() const { return source_; }

 private:
  // Returns the file that the weight is decoded from; empty if it is shown as it is. It looks at
  // headers alone.
  virtual absl::StatusOr<absl::string_view> Replaces(const Weight& weight) const = 0;

  // Decodes rows [first, first + count) of a weight that is replaced, count > 0.
  virtual absl::Status Decode(const Weight& weight, int64_t first, int64_t count,
                              RowSink out) const = 0;

  const TensorSource& source_;
  std::map<std::string, Weight, std::less<>> weights_;  // They stand by the name of the tensor.
};

// Is one of a plain model, whose weights are rounded. A tensor that is no matrix of that shape in
// F32, F16 or BF16 is shown as it is, for FindTensor to say.
class RoundedSource : public DecodedSource {
 public:
  bool IsHere(absl::string_view tensor) const override { return source().IsHere(tensor); }

 protected:
  // Holds rows of a weight as they are stored.
  struct StoredRows {
    DType dtype = DType::kF32;
    int64_t count = 0;
    int64_t in_features = 0;
    std::vector<std::byte> bytes;

    WeightView View() const { return {dtype, bytes.data(), count, in_features}; }
  };

  RoundedSource(const TensorSource& source, std::vector<Weight> weights)
      : DecodedSource(source, std::move(weights)) {}

  // Reads rows [first, first + count) of one that is replaced. Errors: those of the source;
  // INVALID_ARGUMENT for a NaN or infinity (names tensor, row, column): rounding would make a
  // number of what is none.
  absl::StatusOr<StoredRows> ReadRows(const Weight& weight, int64_t first, int64_t count) const;

  // An error of rounding rows from `first` on, with the tensor's name before it.
  static absl::Status InRows(const Weight& weight, int64_t first, const absl::Status& status);

 private:
  absl::StatusOr<absl::string_view> Replaces(const Weight& weight) const final;
};

}  // namespace salient

#endif  // SALIENT_CORE_SOURCE_DECODED_SOURCE_H_
