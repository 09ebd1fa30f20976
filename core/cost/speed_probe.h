// Small pieces of the work that runs consist of, each of an amount that is known, for a caller with
// a clock to time: the amount over the seconds is a field of MachineSpeed (model_cost.h).
#ifndef SALIENT_CORE_COST_SPEED_PROBE_H_
#define SALIENT_CORE_COST_SPEED_PROBE_H_

#include <cstdint>
#include <vector>

#include "core/linalg/gemm.h"
#include "core/tensor/matrix.h"

namespace salient {

// Each piece runs on the calling thread, which must be limited to itself (LimitThreadToItself), for
// some 5 to 20 ms on a machine of today, and returns what it did. The first time is slower: code is
// generated. Time a few and take the fastest. Not thread-safe; holds 40 MB.
class SpeedProbe {
 public:
  SpeedProbe();

  double Bf16();    // MachineSpeed::bf16_flop: products of shapes that runs have; 0 if they fail
  double F32();     // MachineSpeed::f32_flop: the same
  double Vector();  // MachineSpeed::vector_flop: exponentials and rounding
  double Copy();    // MachineSpeed::copied_bytes: more than caches hold

 private:
  Matrix from_;
  Matrix to_;
  std::vector<uint16_t> bf16_;  // [kTokens, kWidth]
  Bf16Factor weight_;           // [kOutputs, kWidth]
};

}  // namespace salient

#endif  // SALIENT_CORE_COST_SPEED_PROBE_H_
