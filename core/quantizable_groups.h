// Which Linears of a model a format can hold, known from shapes alone.
#ifndef SALIENT_CORE_QUANTIZABLE_GROUPS_H_
#define SALIENT_CORE_QUANTIZABLE_GROUPS_H_

#include <array>
#include <string>

#include "absl/status/statusor.h"
#include "core/checkpoint/model_config.h"
#include "core/model/family.h"
#include "core/quantize_group.h"

namespace salient {

struct GroupFit {
  bool fits = true;
  std::string why;  // it does not: of its first Linear at fault, in a sentence; else empty
};

// By GroupRole, the same in every block. Engines fuse the Linears of a group, so one that does
// not fit keeps its siblings from being quantized, too.
//
// Errors: INVALID_ARGUMENT naming config.source, Linear, field, value and what was expected if a
// group does not fit and `strict`, or if none does.
absl::StatusOr<std::array<GroupFit, kGroupRoles>> QuantizableGroups(const Family& family,
                                                                    const ModelConfig& config,
                                                                    const StoredFormat& stored,
                                                                    bool strict);

}  // namespace salient

#endif  // SALIENT_CORE_QUANTIZABLE_GROUPS_H_
