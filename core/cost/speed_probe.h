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
// generated. Time a few and take the fastest. It is not thread-safe; holds 40 MB.
class SpeedProbe {
 public:
  SpeedProbe();

  // Measures MachineSpeed::bf16_flop on products of shapes that runs have; returns 0 if they fail.
  double Bf16();
  // Measures MachineSpeed::f32_flop likewise.
  double F32();
  // Measures MachineSpeed::vector_flop on exponentials and rounding.
  double Vector();
  // Measures MachineSpeed::copied_bytes on more than caches hold.
  double Copy();

 private:
  Matrix from_;
  Matrix to_;
  std::vector<uint16_t> bf16_;  // Its shape is [kTokens, kWidth].
  Bf16Factor weight_;           // Its shape is [kOutputs, kWidth].
};

}  // namespace salient

#endif  // SALIENT_CORE_COST_SPEED_PROBE_H_
