#include "core/group/group_warnings.h"

#include <algorithm>
#include <cstdint>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "core/group/few_tokens.h"

namespace salient {
namespace {

// Counts groups of a Linear whose weights are not all 0, but all decode to 0.
int64_t LostGroups(const Linear& linear, const AffineGroups& groups) {
  if (groups.codes.empty()) return 0;
  const int64_t size = groups.format.GroupSize(groups.in_features);
  std::vector<float> row(static_cast<size_t>(groups.in_features));
  int64_t lost = 0;
  for (int64_t i = 0; i < groups.out_features; ++i) {
    bool is_read = false;
    for (int64_t g = 0; g < groups.Groups(); ++g) {
      const uint8_t* codes = groups.codes.data() + i * groups.in_features + g * size;
      const uint8_t zero = groups.zero_points[i * groups.Groups() + g];
      if (!std::all_of(codes, codes + size, [&](uint8_t code) { return code == zero; })) continue;
      if (!is_read) linear.weight.ReadRows(i, 1, row.data());
      is_read = true;
      const float* weights = row.data() + g * size;
      if (std::any_of(weights, weights + size, [](float w) { return w != 0; })) ++lost;
    }
  }
  return lost;
}

// Above this share of the output there is more error than signal to speak of.
constexpr double kLostOutput = 0.5;

}  // namespace

std::optional<std::string> LostWeightsWarning(const Linear& linear, const AffineGroups& groups,
                                              const LinearReport& report) {
  const int64_t lost = LostGroups(linear, groups);
  if (lost > 0) {
    return absl::StrFormat(
        "%s: %d of %d groups of weights became 0, because they are too small for a "
        "scale in %s; the "
        "relative output error is %.3g",
        linear.name, lost, groups.scales.size(), Name(groups.format.scale_dtype),
        report.relative_output_error);
  }
  if (report.relative_output_error > kLostOutput) {
    return absl::StrFormat(
        "%s: the relative output error is %.3g, so little is left "
        "of the weights; expected far below 1",
        linear.name, report.relative_output_error);
  }
  return std::nullopt;
}

std::optional<std::string> FewTokensWarning(int64_t tokens, int64_t in_features) {
  if (TooFewTokens(tokens)) {
    return absl::StrCat("calibration has ", tokens, " tokens; with fewer than ", kFewestTokens,
                        " every Linear keeps plain round-to-nearest");
  }
  if (FewTokens(tokens, in_features)) {
    return absl::StrCat("calibration has ", tokens, " tokens, few for Linears of ", in_features,
                        " in_features: expected at least ", in_features / kFewTokensDivisor,
                        ", a quarter, and better as many tokens as in_features");
  }
  return std::nullopt;
}

}  // namespace salient
