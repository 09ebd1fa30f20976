// Tells which Linears of a model a format can hold, and in what format each is held: known from
// shapes and overrides alone.
#ifndef SALIENT_CORE_RESULT_QUANTIZABLE_GROUPS_H_
#define SALIENT_CORE_RESULT_QUANTIZABLE_GROUPS_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/group/quantize_group.h"
#include "core/model/model.h"
#include "core/result/module_override.h"
#include "core/tensor/affine_groups.h"
#include "core/tensor/stored_format.h"

namespace salient {

struct GroupFit {
  bool fits = true;
  // It says in a sentence why its first Linear at fault does not fit; else it is empty.
  std::string why;
  bool asked = false;   // It does not fit because an override skips it.
  WeightFormat format;  // Its Linears have it.
  // In 8 bits instead: where they have fewer and the layout holds such beside others.
  std::optional<WeightFormat> wider;
};

// These are as BlockPlan::groups.
using BlockFits = std::vector<GroupFit>;

// Returns the fits by layer. Engines fuse the Linears of a group, so one that does not fit keeps
// its siblings from being quantized, too.
//
// Errors: those of ApplyOverrides; INVALID_ARGUMENT naming config.source, Linear, field, value and
// what was expected if a group does not fit and `strict` or an override asks for it, or if none
// does.
absl::StatusOr<std::vector<BlockFits>> QuantizableGroups(
    const Model& model, const StoredFormat& stored, bool strict,
    absl::Span<const ModuleOverride> overrides = {});

// Returns the same format with the codes of this group.
inline StoredFormat StoredAs(const StoredFormat& stored, const WeightFormat& format) {
  return {format, stored.output, stored.activations};
}

}  // namespace salient

#endif  // SALIENT_CORE_RESULT_QUANTIZABLE_GROUPS_H_
