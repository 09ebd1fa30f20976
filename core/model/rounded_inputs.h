// Holds what the Linears of a group multiply: the input they share, rounded as engines round it for
// each.
#ifndef SALIENT_CORE_MODEL_ROUNDED_INPUTS_H_
#define SALIENT_CORE_MODEL_ROUNDED_INPUTS_H_

#include <array>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/model/activations.h"
#include "core/model/block_weights.h"
#include "core/model/family.h"
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
  // Rounds `exact`, which is what `roles`, Linears of one group, read. Its errors are those of the
  // executor.
  static absl::StatusOr<RoundedInputs> Create(const PreparedBlock& block,
                                              absl::Span<const LinearRole> roles, Activations exact,
                                              Executor& executor);

  // Returns those of one of the roles.
  const Activations& Of(LinearRole role) const {
    return inputs_[place_[static_cast<size_t>(role)]];
  }
  int64_t tokens() const { return inputs_.front().tokens(); }
  int64_t padded_tokens() const { return inputs_.front().padded_tokens(); }

 private:
  std::vector<Activations> inputs_;
  std::array<size_t, kLinearRoles> place_ = {};  // They stand by role and point into inputs_.
};

}  // namespace salient

#endif  // SALIENT_CORE_MODEL_ROUNDED_INPUTS_H_
