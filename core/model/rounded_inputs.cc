#include "core/model/rounded_inputs.h"

#include <algorithm>
#include <utility>

#include "core/kernels/round_kernels.h"
#include "core/parallel/tiles.h"
#include "core/tensor/stored_format.h"

namespace salient {
namespace {

Activations Copy(const Activations& exact) {
  Activations copy(ComputeDType::kF32, exact.tokens(), exact.features());
  std::copy_n(exact.F32(0), exact.tokens() * exact.features(), copy.MutableF32(0));
  return copy;
}

}  // namespace

absl::Status RoundActivations(const InputRounding& rounding, Activations& input,
                              Executor& executor) {
  if (rounding.format == ActivationFormat::kNone) return absl::OkStatus();
  const RowTiles tiles(input.tokens(), kTokenTile);
  const int64_t features = input.features();
  return executor.ForEach(tiles.size(), [&](int64_t tile) {
    const int64_t first = tiles.First(tile);
    for (int64_t t = first; t < first + tiles.Count(tile); ++t) {
      const bool dynamic = rounding.format == ActivationFormat::kDynamicToken;
      const float step = dynamic ? StepOf(input.F32(t), features) : rounding.step;
      RoundToSteps(step, features, input.MutableF32(t));
    }
    return absl::OkStatus();
  });
}

absl::StatusOr<RoundedInputs> RoundedInputs::Create(const PreparedBlock& block,
                                                    absl::Span<const size_t> linears,
                                                    Activations exact, Executor& executor) {
  std::vector<InputRounding> kinds;
  RoundedInputs rounded;
  for (const size_t linear : linears) {
    const InputRounding& kind = block.input(linear);
    const auto found = std::find(kinds.begin(), kinds.end(), kind);
    rounded.places_.emplace_back(linear, static_cast<size_t>(found - kinds.begin()));
    if (found == kinds.end()) kinds.push_back(kind);
  }
  for (size_t i = 0; i + 1 < kinds.size(); ++i) rounded.inputs_.push_back(Copy(exact));
  rounded.inputs_.push_back(std::move(exact));
  for (size_t i = 0; i < kinds.size(); ++i) {
    const absl::Status status = RoundActivations(kinds[i], rounded.inputs_[i], executor);
    if (!status.ok()) return status;
  }
  return rounded;
}

}  // namespace salient
