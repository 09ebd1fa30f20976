#include "core/result/module_override.h"

#include <map>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/model/block_plan.h"
#include "core/tensor/affine_groups.h"
#include "core/tensor/format_bounds.h"
#include "core/tensor/stored_format.h"
#include "core/text/quote.h"

namespace salient {
namespace {

// Says what each module is to become, by its full path.
using OverrideMap = std::map<std::string, const ModuleOverride*, std::less<>>;

absl::Status Fault(const std::string& module, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("override of ", QuoteForMessage(module), what));
}

absl::StatusOr<OverrideMap> ByModule(absl::Span<const ModuleOverride> overrides) {
  OverrideMap map;
  for (const ModuleOverride& override : overrides) {
    const std::string& module = override.module;
    if (!map.emplace(module, &override).second) {
      return Fault(module, ": is there twice; expected one a module");
    }
    const bool changes = override.bits != 0 || override.group_size != 0;
    if (override.skip && changes) {
      return Fault(module, ": skips it and gives it bits or a group_size; expected one of the two");
    }
    if (!override.skip && !changes) {
      return Fault(module, ": says nothing; expected bits, group_size or skip");
    }
    if (override.bits != 0 && !IsCodeWidth(override.bits)) {
      return Fault(module, absl::StrCat(": bits is ", override.bits, "; expected ", kBitsExpected));
    }
    if (override.group_size != 0 && !IsGroupSize(override.group_size)) {
      return Fault(module, absl::StrCat(": group_size is ", override.group_size, "; expected ",
                                        kGroupSizeExpected));
    }
  }
  return map;
}

GroupFormat Apply(const WeightFormat& format, const ModuleOverride* override) {
  GroupFormat result{format, false, false};
  if (override == nullptr) return result;
  result.skip = override->skip;
  if (override->bits != 0) result.format.bits = override->bits;
  if (override->group_size != 0) result.format.group_size = override->group_size;
  result.overridden = result.skip || result.format.bits != format.bits ||
                      result.format.group_size != format.group_size;
  return result;
}

bool Alike(const GroupFormat& a, const GroupFormat& b) {
  if (a.skip || b.skip) return a.skip == b.skip;
  return a.format.bits == b.format.bits && a.format.group_size == b.format.group_size;
}

std::string Describe(const GroupFormat& format) {
  if (format.skip) return "stay F16";
  return absl::StrCat("have ", format.format.bits, " bits in groups of ", format.format.group_size);
}

// Merges those of the Linears of one group, which are all to become the same. Takes what it used
// out of `map`.
absl::StatusOr<GroupFormat> Merge(const BlockPlan& block, const GroupPlan& group,
                                  const StoredFormat& stored, OverrideMap& map) {
  std::vector<std::string> modules;
  for (const size_t linear : group.linears) modules.push_back(block.linears[linear].name);
  std::vector<GroupFormat> formats;
  for (const std::string& module : modules) {
    const auto found = map.find(module);
    formats.push_back(Apply(stored.format, found == map.end() ? nullptr : found->second));
    if (found != map.end()) map.erase(found);
  }
  for (size_t i = 1; i < formats.size(); ++i) {
    if (Alike(formats[0], formats[i])) continue;
    return Fault(modules[formats[i].overridden ? i : 0],
                 absl::StrCat(": ", modules[0], " would ", Describe(formats[0]), " and ",
                              modules[i], " ", Describe(formats[i]),
                              ", but engines fuse them; expected the same override of each of ",
                              absl::StrJoin(modules, ", ")));
  }
  const GroupFormat& format = formats[0];
  if (format.overridden && !format.skip && !HoldsMixedFormats(stored.output)) {
    return Fault(modules[0],
                 absl::StrCat(": it would ", Describe(format), " and others ",
                              Describe({stored.format, false, false}), "; ", Name(stored.output),
                              " has one format for the whole model; expected skip, or "
                              "compressed-tensors, gptq or dequantized-fp16, which mix them"));
  }
  return format;
}

}  // namespace

bool HoldsMixedFormats(OutputFormat output) {
  switch (output) {
    case OutputFormat::kGptq:
    case OutputFormat::kGptqV2:
    case OutputFormat::kCompressedTensors:
    case OutputFormat::kDequantizedFp16:
      return true;
    case OutputFormat::kAwqGemm:
    case OutputFormat::kIntQuantized:
    case OutputFormat::kScaledFp16:
      return false;
  }
  return false;
}

absl::StatusOr<std::vector<BlockFormats>> ApplyOverrides(
    const Model& model, const StoredFormat& stored, absl::Span<const ModuleOverride> overrides) {
  absl::StatusOr<OverrideMap> map = ByModule(overrides);
  if (!map.ok()) return map.status();
  std::vector<BlockFormats> blocks;
  for (const BlockPlan& block : model.blocks) {
    BlockFormats& formats = blocks.emplace_back();
    for (const GroupPlan& group : block.groups) {
      absl::StatusOr<GroupFormat> format = Merge(block, group, stored, *map);
      if (!format.ok()) return format.status();
      formats.push_back(*std::move(format));
    }
  }
  if (map->empty()) return blocks;
  return Fault(map->begin()->first,
               absl::StrCat(": is no Linear of a decoder block; expected one such as ",
                            model.blocks.front().linears.back().name, ", of block 0 to ",
                            model.blocks.size() - 1));
}

}  // namespace salient
