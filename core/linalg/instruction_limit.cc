#include "core/linalg/instruction_limit.h"

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "core/kernels/sum_kernels.h"
#include "core/linalg/gemm.h"
#include "core/parallel/mutex.h"

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

absl::Status LimitInstructionSet(InstructionSet set) {
  // oneDNN takes one limit, before it first computes, and none after that. So the first one is
  // kept, it may be named again, and another is refused. Threads may ask at once, as tests of
  // several servers in one process do.
  static Mutex mutex;
  static InstructionSet limit ABSL_GUARDED_BY(mutex) = InstructionSet::kNative;
  const MutexLock lock(mutex);
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
