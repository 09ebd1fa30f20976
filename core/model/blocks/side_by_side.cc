#include "core/model/blocks/side_by_side.h"

namespace salient {

double LinearFlop(const BlockPlan& block, int64_t tokens) {
  return 2 * static_cast<double>(tokens) * static_cast<double>(block.Weights());
}

bool RunsSideBySide(double flop, int64_t bytes, int concurrency) {
  constexpr double kMostFlop = 2e10;
  constexpr int64_t kMostBytes = int64_t{256} << 20;
  return concurrency > 1 && flop <= kMostFlop && bytes <= kMostBytes;
}

}  // namespace salient
