// Runs oneDNN's matrix product and nothing around it: the floor that products are held against.
#ifndef SALIENT_TESTS_BENCH_BARE_MATMUL_H_
#define SALIENT_TESTS_BENCH_BARE_MATMUL_H_

#include <cstdint>
#include <memory>
#include <string>

#include "core/tensor/dtype.h"

namespace salient::bench {

// Computes C = A B^T of A [m, k], B [n, k] and f32 C [m, n].
class BareMatmul {
 public:
  // B as it stands in memory, or in the layout that oneDNN asks for.
  enum class Layout { kPlain, kPacked };

  // Makes the product that one of `factors`, F32 or BF16, is held against: FloorDType() of them.
  BareMatmul(DType factors, Layout layout, int64_t m, int64_t n, int64_t k);
  ~BareMatmul();
  BareMatmul(const BareMatmul&) = delete;
  BareMatmul& operator=(const BareMatmul&) = delete;

  // Multiplies once, on the calling thread.
  void Run();
  double Flop() const;
  // Returns the dtype of the factors that are really multiplied.
  DType dtype() const { return dtype_; }
  // Names it as oneDNN does: "brg:avx512_core_bf16".
  const std::string& implementation() const { return implementation_; }

 private:
  struct State;
  std::unique_ptr<State> state_;
  double flop_;
  DType dtype_;
  std::string implementation_;
};

}  // namespace salient::bench

#endif  // SALIENT_TESTS_BENCH_BARE_MATMUL_H_
