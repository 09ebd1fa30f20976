#include "core/kernels/instruction_set.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace salient {

absl::string_view NameOf(InstructionSet set) {
  switch (set) {
    case InstructionSet::kNative:
      return "native";
    case InstructionSet::kAvx2:
      return "avx2";
    case InstructionSet::kAvx512Core:
      return "avx512_core";
    case InstructionSet::kAvx512CoreBf16:
      return "avx512_core_bf16";
    case InstructionSet::kAvx512CoreAmx:
      return "avx512_core_amx";
  }
  return "";
}

std::vector<InstructionSet> InstructionSets() {
  return {InstructionSet::kNative, InstructionSet::kAvx2, InstructionSet::kAvx512Core,
          InstructionSet::kAvx512CoreBf16, InstructionSet::kAvx512CoreAmx};
}

absl::StatusOr<InstructionSet> ParseInstructionSet(absl::string_view name) {
  std::vector<absl::string_view> names;
  for (const InstructionSet set : InstructionSets()) {
    if (NameOf(set) == name) return set;
    names.push_back(NameOf(set));
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "instruction set \"", name, "\" is unknown; expected one of ", absl::StrJoin(names, ", ")));
}

}  // namespace salient
