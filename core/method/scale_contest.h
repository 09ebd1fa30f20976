// Scales that stand against each other, and the rows of weights that they are compared on.
#ifndef SALIENT_CORE_METHOD_SCALE_CONTEST_H_
#define SALIENT_CORE_METHOD_SCALE_CONTEST_H_

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/method/scale_candidates.h"
#include "core/parallel/executor.h"
#include "core/tensor/affine_groups.h"
#include "core/tensor/matrix.h"
#include "core/tensor/weight_view.h"

namespace salient {

// Scales [in_features] > 0 to choose from, identity first where it is one of them.
struct ScaleProposals {
  std::vector<ScaleCandidate> candidates;
  std::vector<std::vector<float>> scales;  // Each candidate has one.
};

// One s, and 1 / s.
struct Scaling {
  explicit Scaling(std::vector<float> s) : scales(std::move(s)), inverse(scales) {
    for (float& value : inverse) value = 1.0f / value;
  }
  std::vector<float> scales;
  std::vector<float> inverse;
};

// Smallest and largest of a whole weight under one scaling.
struct Extent {
  float lo;
  float hi;
};

// Borrows the weights.
struct ScaleContest {
  absl::Span<const WeightView> weights;
  std::vector<ScaleCandidate> candidates;
  std::vector<Scaling> scalings;  // Each candidate has one.
  // [weight][candidate] Under kWholeTensor; else empty.
  std::vector<std::vector<Extent>> extents;

  // CANCELLED from `executor`.
  static absl::StatusOr<ScaleContest> Create(absl::Span<const WeightView> weights,
                                             ScaleProposals proposals, const WeightFormat& format,
                                             Executor& executor);

  // Null unless one range serves the whole tensor.
  const Extent* ExtentOf(size_t weight, size_t candidate) const {
    return extents.empty() ? nullptr : &extents[weight][candidate];
  }

  // Leaves the candidates at these places alone, in this order.
  void Keep(const std::vector<size_t>& places);
};

// A task: rows first, first + stride ... of one weight.
struct WeightPiece {
  size_t weight;  // It is an index.
  int64_t first;
  int64_t count;
};

// Every stride-th row of every weight, `tile` of them in a piece.
std::vector<WeightPiece> CutWeights(absl::Span<const WeightView> weights, int64_t stride,
                                    int64_t tile);

Matrix ReadPiece(const WeightView& weight, const WeightPiece& piece, int64_t stride);

}  // namespace salient

#endif  // SALIENT_CORE_METHOD_SCALE_CONTEST_H_
