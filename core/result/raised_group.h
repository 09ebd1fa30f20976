// Records groups of Linears whose error was above a limit, and what they got instead.
#ifndef SALIENT_CORE_RESULT_RAISED_GROUP_H_
#define SALIENT_CORE_RESULT_RAISED_GROUP_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/model/model.h"
#include "core/result/quantizable_groups.h"

namespace salient {

inline constexpr int kRaisedToF16 = 16;

// Returns INVALID_ARGUMENT for a limit of error that is negative or no number. 0: no limit.
absl::Status CheckErrorLimit(double max_relative_error);

struct RaisedGroup {
  size_t output = 0;  // It is an index into QuantizeModelParams::outputs.
  int64_t layer = 0;
  std::string group;        // its path in the block: "mlp.down_proj"
  int bits = kRaisedToF16;  // of its codes; kRaisedToF16: its Linears stay F16
  std::string why;          // a sentence
};

// Changes `fits`, of output `output`, to what the groups got. INVALID_ARGUMENT for a group that the
// model has not, or if nothing is left that is quantized.
absl::Status ApplyRaised(const Model& model, absl::Span<const RaisedGroup> raised, size_t output,
                         std::vector<BlockFits>& fits);

}  // namespace salient

#endif  // SALIENT_CORE_RESULT_RAISED_GROUP_H_
