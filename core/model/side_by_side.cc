#include "core/model/side_by_side.h"

namespace salient {

double LinearFlop(const Family& family, const ModelConfig& config, int64_t tokens) {
  double flop = 0;
  for (size_t i = 0; i < kLinearRoles; ++i) {
    const LinearShape shape = ShapeOf(family, config, static_cast<LinearRole>(i));
    flop += 2 * static_cast<double>(tokens) *
            static_cast<double>(shape.out_features * shape.in_features);
  }
  return flop;
}

bool RunsSideBySide(double flop, int64_t bytes, int concurrency) {
  constexpr double kMostFlop = 2e10;
  constexpr int64_t kMostBytes = int64_t{256} << 20;
  return concurrency > 1 && flop <= kMostFlop && bytes <= kMostBytes;
}

}  // namespace salient
