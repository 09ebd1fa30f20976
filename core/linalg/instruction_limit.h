// Limits what a process computes with: oneDNN and our own kernels alike.
#ifndef SALIENT_CORE_LINALG_INSTRUCTION_LIMIT_H_
#define SALIENT_CORE_LINALG_INSTRUCTION_LIMIT_H_

#include "absl/status/status.h"
#include "core/kernels/instruction_set.h"

namespace salient {

// From now on this process uses no more than `set`: unlike machines that are limited alike compute
// alike. To be called before anything is computed; a second call may only ask for the same.
//
// Errors: FAILED_PRECONDITION, naming what this CPU has, if that is less; if something was
// computed already; if the process is limited otherwise. Nothing should be computed after an error,
// because the limit may be in force in part. Thread-safe.
absl::Status LimitInstructionSet(InstructionSet set);

}  // namespace salient

#endif  // SALIENT_CORE_LINALG_INSTRUCTION_LIMIT_H_
