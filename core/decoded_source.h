// A model in which the weights of some Linears are replaced by decoded ones.
#ifndef SALIENT_CORE_DECODED_SOURCE_H_
#define SALIENT_CORE_DECODED_SOURCE_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/checkpoint/model_config.h"
#include "core/checkpoint/tensor_source.h"
#include "core/model/family.h"

namespace salient {

// Takes decoded rows in their order, `row` [in_features] valid during the call.
using RowSink = absl::FunctionRef<void(const float* row)>;

// Shows <module>.weight, F32 [out_features, in_features], of the Linears that Replaces names, and
// everything else as it is. Borrows the source. Thread-safe if the subclass is.
class DecodedSource : public TensorSource {
 public:
  DecodedSource(const TensorSource& source, const Family& family, const ModelConfig& config);

  const std::string& name() const override { return source_.name(); }
  absl::StatusOr<TensorLocation> Find(absl::string_view tensor) const override;
  absl::Status ReadRange(absl::string_view tensor, int64_t offset,
                         absl::Span<std::byte> bytes) const override;

 protected:
  struct Weight {
    std::string module;
    LinearRole role;
    TensorEntry entry;  // as it is shown

    int64_t out_features() const { return entry.shape[0]; }
    int64_t in_features() const { return entry.shape[1]; }
  };

  const TensorSource& source() const { return source_; }

 private:
  // The file that the weight is decoded from; empty if it is shown as it is. Looks at headers
  // alone.
  virtual absl::StatusOr<absl::string_view> Replaces(const Weight& weight) const = 0;

  // Rows [first, first + count) of a weight that is replaced, count > 0.
  virtual absl::Status Decode(const Weight& weight, int64_t first, int64_t count,
                              RowSink out) const = 0;

  const TensorSource& source_;
  std::map<std::string, Weight, std::less<>> weights_;  // by the name of the tensor
};

}  // namespace salient

#endif  // SALIENT_CORE_DECODED_SOURCE_H_
