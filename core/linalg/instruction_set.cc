#include "core/linalg/instruction_set.h"

#include <mutex>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/linalg/gemm.h"
#include "core/linalg/sum_kernels.h"

namespace salient {
namespace {

absl::Status Limit(InstructionSet set) {
  if (set == InstructionSet::kNative) return absl::OkStatus();
  if (absl::Status status = LimitProducts(set); !status.ok()) return status;
  // oneDNN takes any limit, and then has what the CPU has of it.
  if (InstructionPath() != NameOf(set)) {
    return absl::FailedPreconditionError(absl::StrCat(
        "instruction set ", NameOf(set), " is not on this CPU, which has ", InstructionPath()));
  }
  LimitKernels(set);
  return absl::OkStatus();
}

}  // namespace

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

absl::Status LimitInstructionSet(InstructionSet set) {
  // oneDNN takes one limit, before it first computes, and none after that. So the first one is
  // kept, it may be named again, and another is refused. Threads may ask at once, as tests of
  // several servers in one process do.
  static std::mutex mutex;
  static InstructionSet limit = InstructionSet::kNative;
  const std::lock_guard<std::mutex> lock(mutex);
  if (set == limit) return absl::OkStatus();
  if (limit != InstructionSet::kNative) {
    return absl::FailedPreconditionError(absl::StrCat("this process is limited to instruction set ",
                                                      NameOf(limit), " and cannot change to ",
                                                      NameOf(set)));
  }
  absl::Status status = Limit(set);
  if (status.ok()) limit = set;
  return status;
}

}  // namespace salient
