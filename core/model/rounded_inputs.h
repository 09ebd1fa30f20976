// Holds what the Linears of a group multiply: the input they share, rounded as engines round it for
// each.
#ifndef SALIENT_CORE_MODEL_ROUNDED_INPUTS_H_
#define SALIENT_CORE_MODEL_ROUNDED_INPUTS_H_

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/model/activations.h"
#include "core/model/block_weights.h"
#include "core/model/prepared_block.h"
#include "core/parallel/executor.h"

namespace salient {

// Replaces each row of `input`, F32 [tokens, features], by what codes of 8 bits hold of it: with
// kDynamicToken multiples of the row's largest |x| / 127, with kStaticTensor of `rounding.step`,
// -128 to 127 of them, ties to even. Its errors are those of the executor.
absl::Status RoundActivations(const InputRounding& rounding, Activations& input,
                              Executor& executor);

// Is movable. It has one copy a kind of rounding: without any, or where all Linears have the same,
// no copy.
class RoundedInputs {
 public:
  // Rounds `exact`, which is what `linears` of one group, places in BlockPlan::linears, read. Its
  // errors are those of the executor.
  static absl::StatusOr<RoundedInputs> Create(const PreparedBlock& block,
                                              absl::Span<const size_t> linears, Activations exact,
                                              Executor& executor);

  // Returns what one of the Linears multiplies.
  const Activations& Of(size_t linear) const {
    size_t i = 0;
    while (places_[i].first != linear) ++i;
    return inputs_[places_[i].second];
  }
  int64_t tokens() const { return inputs_.front().tokens(); }
  int64_t padded_tokens() const { return inputs_.front().padded_tokens(); }

 private:
  std::vector<Activations> inputs_;
  std::vector<std::pair<size_t, size_t>> places_;  // Each is a Linear, and its place in inputs_.
};

}  // namespace salient

#endif  // SALIENT_CORE_MODEL_ROUNDED_INPUTS_H_
