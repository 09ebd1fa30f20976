// The instruction sets that results may come from, of oneDNN and of our own kernels alike.
#ifndef SALIENT_CORE_LINALG_INSTRUCTION_SET_H_
#define SALIENT_CORE_LINALG_INSTRUCTION_SET_H_

#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace salient {

// Each contains those before it. Kernels have AVX2 and AVX-512 variants, so the last three differ
// in products alone.
enum class InstructionSet {
  kNative,  // all that the CPU has
  kAvx2,
  kAvx512Core,      // F, CD, BW, DQ, VL
  kAvx512CoreBf16,  // multiplies bfloat16
  kAvx512CoreAmx,   // in tiles
};

// Names them as oneDNN names them: "avx512_core_bf16"; "native".
absl::string_view NameOf(InstructionSet set);

// All of them, in order.
std::vector<InstructionSet> InstructionSets();

// INVALID_ARGUMENT with the known names.
absl::StatusOr<InstructionSet> ParseInstructionSet(absl::string_view name);

// From now on this process uses no more than `set`: unlike machines that are limited alike compute
// alike. To be called before anything is computed; a second call may only ask for the same.
//
// Errors: FAILED_PRECONDITION, naming what this CPU has, if that is less; if something was
// computed already; if the process is limited otherwise. Nothing should be computed after an error,
// because the limit may be in force in part. Thread-safe.
absl::Status LimitInstructionSet(InstructionSet set);

}  // namespace salient

#endif  // SALIENT_CORE_LINALG_INSTRUCTION_SET_H_
