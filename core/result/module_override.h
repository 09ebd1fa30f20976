// Says what is different for single Linears, by their module paths.
#ifndef SALIENT_CORE_RESULT_MODULE_OVERRIDE_H_
#define SALIENT_CORE_RESULT_MODULE_OVERRIDE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/model/model.h"
#include "core/pack/stored_format.h"
#include "core/tensor/affine_groups.h"
#include "core/tensor/stored_format.h"

namespace salient {

struct ModuleOverride {
  std::string module;      // It is the full path, such as "model.layers.0.mlp.down_proj".
  int bits = 0;            // 0 stands for that of the format.
  int64_t group_size = 0;  // It is as in WeightFormat; 0 stands for that of the format.
  bool skip = false;       // It stays F16; bits and group_size are 0.
};

// Says what the Linears of a group are to become.
struct GroupFormat {
  WeightFormat format;
  bool skip = false;
  bool overridden = false;  // An override made it unlike the format, or skips it.
};

// These are as BlockPlan::groups.
using BlockFormats = std::vector<GroupFormat>;

// Returns whether Linears of different widths or group sizes can stand side by side in this layout,
// as its config.json tells engines.
bool HoldsMixedFormats(OutputFormat output);

// Returns, by layer, the format with the overrides applied.
//
// Errors: INVALID_ARGUMENT naming the module, the value and what works, for one that is no Linear
// of a decoder block, that is there twice, that asks for nothing or for more than to be skipped;
// for Linears that engines fuse and that would become unlike each other (lists them); for a layout
// that has one format for the whole model (names the nearest that mix).
absl::StatusOr<std::vector<BlockFormats>> ApplyOverrides(
    const Model& model, const StoredFormat& stored, absl::Span<const ModuleOverride> overrides);

}  // namespace salient

#endif  // SALIENT_CORE_RESULT_MODULE_OVERRIDE_H_
