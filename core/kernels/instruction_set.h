// The instruction sets that results may come from, of oneDNN and of our own kernels alike.
#ifndef SALIENT_CORE_KERNELS_INSTRUCTION_SET_H_
#define SALIENT_CORE_KERNELS_INSTRUCTION_SET_H_

#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace salient {

// Each contains those before it. Kernels have AVX2 and AVX-512 variants, so the last three differ
// in products alone.
enum class InstructionSet {
  kNative,  // It is all that the CPU has.
  kAvx2,
  kAvx512Core,      // It has F, CD, BW, DQ and VL.
  kAvx512CoreBf16,  // It multiplies bfloat16.
  kAvx512CoreAmx,   // It multiplies in tiles.
};

// Names them as oneDNN names them: "avx512_core_bf16"; "native".
absl::string_view NameOf(InstructionSet set);

// All of them, in order.
std::vector<InstructionSet> InstructionSets();

// INVALID_ARGUMENT with the known names.
absl::StatusOr<InstructionSet> ParseInstructionSet(absl::string_view name);

}  // namespace salient

#endif  // SALIENT_CORE_KERNELS_INSTRUCTION_SET_H_
