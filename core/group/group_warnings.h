// Warnings about one group that its user should read.
#ifndef SALIENT_CORE_GROUP_GROUP_WARNINGS_H_
#define SALIENT_CORE_GROUP_GROUP_WARNINGS_H_

#include <cstdint>
#include <optional>
#include <string>

#include "core/group/linear.h"
#include "core/group/quantize_group.h"
#include "core/tensor/affine_groups.h"

namespace salient {

// Returns a warning if `groups` decode to 0 where the weights of `linear` are not, or if the report
// shows more error than output.
std::optional<std::string> LostWeightsWarning(const Linear& linear, const AffineGroups& groups,
                                              const LinearReport& report);

// Returns a warning if calibration has few tokens for Linears of `in_features`.
std::optional<std::string> FewTokensWarning(int64_t tokens, int64_t in_features);

}  // namespace salient

#endif  // SALIENT_CORE_GROUP_GROUP_WARNINGS_H_
