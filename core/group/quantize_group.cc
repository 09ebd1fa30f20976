#include "core/group/quantize_group.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/group/activation_loss.h"
#include "core/group/choose_scale.h"
#include "core/group/few_tokens.h"
#include "core/group/group_warnings.h"
#include "core/group/pack_linears.h"
#include "core/group/round_linears.h"
#include "core/method/ranges.h"
#include "core/method/round_gptq.h"
#include "core/parallel/tiles.h"
#include "core/statistics/loss_model.h"
#include "core/statistics/search_loss.h"
#include "core/tensor/dtype.h"
#include "core/tensor/format_bounds.h"
#include "core/tensor/half.h"
#include "core/tensor/non_finite.h"
#include "core/tensor/stored_format.h"
#include "core/tensor/weight_view.h"

namespace salient {
namespace {

constexpr absl::string_view kBetter = "plain round-to-nearest was better and was kept";
constexpr absl::string_view kUnknown =
    "its loss cannot be told from 0 on these activations, so plain round-to-nearest was kept";
constexpr absl::string_view kBeyondF16 =
    "its rounded weights exceed F16, so plain round-to-nearest was kept";
constexpr absl::string_view kTooFewTokens = "too few tokens";  // A warning tells it once for all.

// Returns whether it is sure, as far as the estimates can be, that round-to-nearest's is not less.
bool NoWorse(const Loss& loss, const Loss& nearest) {
  return loss.IsKnown() &&
         loss.Value() + loss.StandardErrorOfDifference(nearest) <= nearest.Value();
}

// This has all Linears under one scale; `why_rtn[i]` says why plain rounding was kept, if so.
struct Attempt {
  std::vector<float> scales;
  ScaleCandidate candidate;
  std::vector<RoundedLinear> linears;
  std::vector<absl::string_view> why_rtn;
};

// Returns whether F16 can hold every decoded weight.
bool DecodedFitF16(const AffineGroups& groups) {
  std::vector<float> row(static_cast<size_t>(groups.in_features));
  for (int64_t i = 0; i < groups.out_features; ++i) {
    groups.DecodeRow(i, row.data());
    for (const float value : row) {
      if (!std::isfinite(RoundToF16(value))) return false;
    }
  }
  return true;
}

// Returns whether F16 can hold every weight times `scales`.
absl::StatusOr<bool> ScaledFitF16(absl::Span<const Linear> linears, absl::Span<const float> scales,
                                  Executor& executor) {
  for (const Linear& linear : linears) {
    const auto range = TensorMinMax(linear.weight, scales, executor);
    if (!range.ok()) return range.status();
    for (const float end : {range->first, range->second}) {
      if (!std::isfinite(RoundToF16(end))) return false;
    }
  }
  return true;
}

// Judges the scales of weights that are scaled and not rounded. s was searched for rounding, so it
// is judged by what plain round-to-nearest loses under it: returns false if s makes a Linear worse.
// These losses are the ones reported.
absl::StatusOr<bool> JudgeScales(const GroupInput& group, const std::vector<Baseline>& baselines,
                                 const LossModel& model, const Method& method,
                                 const WeightFormat& format, Executor& executor, Attempt& attempt) {
  absl::StatusOr<std::vector<Baseline>> nearest =
      Baselines(group.linears, attempt.scales, model, format, executor);
  if (!nearest.ok()) return nearest.status();
  bool no_worse = true;
  for (size_t i = 0; i < nearest->size(); ++i) {
    no_worse = no_worse && NoWorse((*nearest)[i].nearest, baselines[i].nearest);
    RoundedLinear& linear = attempt.linears.emplace_back();
    linear.loss = std::move((*nearest)[i].nearest);
  }
  attempt.why_rtn.resize(attempt.linears.size());
  if (method.autoawq || attempt.candidate.identity) return true;
  if (!no_worse) return false;
  return ScaledFitF16(group.linears, attempt.scales, executor);
}

// Rounds every Linear under attempt.scales. Returns false if some Linear lost to plain
// round-to-nearest although it cannot take it, because its siblings share an s that is not 1.
absl::StatusOr<bool> RoundUnder(const GroupInput& group, const std::vector<Baseline>& baselines,
                                const LossModel& model, const ActivationLoss* sample,
                                const Method& method, const StoredFormat& stored,
                                Executor& executor, Attempt& attempt) {
  const WeightFormat& format = stored.format;
  if (stored.output == OutputFormat::kScaledFp16) {
    return JudgeScales(group, baselines, model, method, format, executor, attempt);
  }
  absl::StatusOr<std::vector<RoundedLinear>> rounded =
      RoundLinears(group.linears, attempt.scales, model, method, format, executor, sample);
  if (!rounded.ok()) return rounded.status();
  attempt.linears = *std::move(rounded);
  attempt.why_rtn.resize(attempt.linears.size());
  // Round-to-nearest itself has the same loss, but for the last bits.
  const bool is_nearest = attempt.candidate.identity && method.range == RangeChoice::kMinMax &&
                          method.rounding == RoundingChoice::kNearest;
  if (method.autoawq || is_nearest) return true;
  for (size_t i = 0; i < attempt.linears.size(); ++i) {
    const bool fits =
        stored.output != OutputFormat::kDequantizedFp16 || DecodedFitF16(attempt.linears[i].groups);
    if (fits && NoWorse(attempt.linears[i].loss, baselines[i].nearest)) continue;
    if (!attempt.candidate.identity) return false;
    absl::StatusOr<std::vector<RoundedLinear>> plain = RoundLinears(
        {&group.linears[i], 1}, attempt.scales, model, kPlainRounding, format, executor);
    if (!plain.ok()) return plain.status();
    attempt.why_rtn[i] = !fits                               ? kBeyondF16
                         : attempt.linears[i].loss.IsKnown() ? kBetter
                                                             : kUnknown;
    attempt.linears[i] = std::move(plain->front());
    if (sample != nullptr) attempt.linears[i].loss = baselines[i].nearest;
  }
  return true;
}

// Does RoundUnder, where weights times s that F16 cannot hold count against s alone.
absl::StatusOr<bool> RoundAll(const GroupInput& group, const std::vector<Baseline>& baselines,
                              const LossModel& model, const ActivationLoss* sample,
                              const Method& method, const StoredFormat& stored, Executor& executor,
                              Attempt& attempt) {
  absl::StatusOr<bool> held =
      RoundUnder(group, baselines, model, sample, method, stored, executor, attempt);
  if (!attempt.candidate.identity && !method.autoawq && IsNonFinite(held.status())) return false;
  return held;
}

// Returns whether anything is fitted to calibration tokens.
bool IsCalibrated(const Method& method, const StoredFormat& stored) {
  return method.scale != ScaleChoice::kNone || method.range != RangeChoice::kMinMax ||
         method.rounding != RoundingChoice::kNearest ||
         stored.activations == ActivationFormat::kStaticTensor;
}

// Returns the scale that the vector before the group can really take instead of `scales`.
std::vector<float> AsFolded(const GroupInput& group, std::vector<float> scales) {
  if (!group.vector_fold.has_value()) return scales;
  const VectorFold& fold = *group.vector_fold;
  const TiedHeads heads = group.tied_heads.value_or(TiedHeads{1, 1});
  for (size_t j = 0; j < scales.size(); ++j) {
    const auto channel = static_cast<int64_t>(j);
    const int64_t kv_head = channel / heads.head_dim / heads.query_heads_per_kv_head;
    const float value =
        fold.values[static_cast<size_t>(kv_head * heads.head_dim + channel % heads.head_dim)] +
        fold.offset;
    const float stored = RoundToDType(fold.dtype, value / scales[j] - fold.offset) + fold.offset;
    const float exact = value / stored;
    if (std::isfinite(exact) && exact > 0) {
      scales[j] = exact;
    } else if (fold.is_norm) {
      // A norm weight of 0 passes nothing on, so any s is exact.
      scales[j] = 1.0f;
    }
  }
  return scales;
}

double Share(double part, double whole) { return whole > 0 ? part / whole : 0; }

LinearReport ReportLinear(const Linear& linear, const RoundedLinear& rounded,
                          const Baseline& baseline, bool kept_rtn) {
  const AffineGroups& groups = rounded.groups;
  LinearReport report;
  report.name = linear.name;
  report.out_features = linear.weight.out_features;
  report.in_features = linear.weight.in_features;
  report.loss_rtn = baseline.nearest.Reported();
  report.loss = rounded.loss.Reported();
  report.relative_output_error_rtn = Share(report.loss_rtn, baseline.energy.Reported());
  report.relative_output_error = Share(report.loss, baseline.energy.Reported());
  report.clipped_share = rounded.clipped_share;
  const int64_t saturated =
      groups.format.symmetric
          ? 0
          : std::count_if(groups.zero_points.begin(), groups.zero_points.end(),
                          [&](uint8_t z) { return z == 0 || z == groups.format.MaxCode(); });
  report.saturated_zero_point_share =
      Share(static_cast<double>(saturated), static_cast<double>(groups.zero_points.size()));
  report.kept_rtn = kept_rtn;
  report.bits = groups.format.bits;
  report.bytes_in = report.out_features * report.in_features * SizeOf(linear.weight.dtype);
  return report;
}

RoundedGroup Finish(const GroupInput& group, const std::vector<Baseline>& baselines,
                    const LossModel& model, const ActivationLoss* sample, Attempt attempt) {
  RoundedGroup result;
  if (sample != nullptr) result.input_scale = sample->InputScale(attempt.scales);
  GroupReport& report = result.report;
  report.name = group.name;
  report.candidate = attempt.candidate;
  report.exact_loss = model.exact() && sample == nullptr;
  report.token_count = group.statistics->token_count;
  report.row_count = group.statistics->rows.size();
  Loss loss;
  double energy = 0;
  for (size_t i = 0; i < group.linears.size(); ++i) {
    LinearReport linear = ReportLinear(group.linears[i], attempt.linears[i], baselines[i],
                                       !attempt.why_rtn[i].empty());
    if (auto warning = LostWeightsWarning(group.linears[i], attempt.linears[i].groups, linear)) {
      report.warnings.push_back(*std::move(warning));
    }
    loss.Add(attempt.linears[i].loss);
    report.loss_rtn += linear.loss_rtn;
    energy += baselines[i].energy.Reported();
    report.loss += linear.loss;
    report.parameters += linear.out_features * linear.in_features;
    // Whoever shows a note names the group.
    const std::string of = linear.name == group.name ? "" : absl::StrCat(linear.name, ": ");
    if (linear.kept_rtn && attempt.why_rtn[i] != kTooFewTokens) {
      report.notes.push_back(absl::StrCat(of, attempt.why_rtn[i]));
    }
    if (const std::string& note = attempt.linears[i].note; !note.empty()) {
      report.notes.push_back(absl::StrCat(of, note));
    }
    report.linears.push_back(std::move(linear));
  }
  report.loss_standard_error = loss.StandardError();
  report.relative_output_error_rtn = Share(report.loss_rtn, energy);
  report.relative_output_error = Share(report.loss, energy);
  result.scales = std::move(attempt.scales);
  result.linears = std::move(attempt.linears);
  return result;
}

}  // namespace

absl::Status ValidateLinear(const std::string& name, int64_t out_features, int64_t in_features,
                            const StoredFormat& stored) {
  const WeightFormat& format = stored.format;
  const auto fail = [&](absl::string_view field, int64_t value, absl::string_view expected) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, ": ", field, " is ", value, "; expected ", expected));
  };
  if (!IsCodeWidth(format.bits)) return fail("bits", format.bits, kBitsExpected);
  if (in_features < 1) return fail("in_features", in_features, "at least 1");
  if (out_features < 1) return fail("out_features", out_features, "at least 1");
  if (!IsGroupSize(format.group_size)) {
    return fail("group_size", format.group_size, kGroupSizeExpected);
  }
  if (in_features % format.GroupSize(in_features) != 0) {
    return fail("group_size", format.group_size,
                absl::StrCat("a divisor of in_features, which is ", in_features));
  }
  return CheckLayout(name, out_features, in_features, stored);
}

absl::StatusOr<RoundedGroup> RoundGroup(const GroupInput& group, const Method& asked,
                                        const StoredFormat& stored, Executor& executor) {
  const WeightFormat& format = stored.format;
  const Statistics& statistics = *group.statistics;
  const bool is_calibrated = IsCalibrated(asked, stored);
  const bool too_few = is_calibrated && !asked.autoawq && TooFewTokens(statistics.token_count);
  const Method& method = too_few ? kPlainRounding : asked;
  for (const Linear& linear : group.linears) {
    const WeightView& weight = linear.weight;
    if (weight.in_features != statistics.params.in_features) {
      return absl::InvalidArgumentError(absl::StrCat(
          linear.name, ": in_features is ", weight.in_features, "; the statistics of group ",
          group.name, " have ", statistics.params.in_features));
    }
    absl::Status status =
        ValidateLinear(linear.name, weight.out_features, weight.in_features, stored);
    if (!status.ok()) return status;
  }

  absl::StatusOr<LossModel> created = LossModel::Create(statistics, executor);
  if (!created.ok()) return created.status();
  const LossModel& model = *created;
  const std::vector<float> ones =
      AsFolded(group, std::vector<float>(static_cast<size_t>(model.in_features()), 1.0f));
  std::optional<ActivationLoss> activation_loss;
  if (stored.activations != ActivationFormat::kNone) {
    auto loss =
        ActivationLoss::Create(group.name, group.linears, statistics, stored.activations, executor);
    if (!loss.ok()) return loss.status();
    activation_loss = *std::move(loss);
  }
  const ActivationLoss* sample = activation_loss.has_value() ? &*activation_loss : nullptr;
  absl::StatusOr<std::vector<Baseline>> baselines =
      Baselines(group.linears, ones, model, format, executor, sample);
  if (!baselines.ok()) return baselines.status();

  Attempt attempt{ones, {}, {}, {}};
  if (method.scale != ScaleChoice::kNone) {
    absl::StatusOr<ChosenScale> chosen = ChooseScale(group.linears, statistics, group.tied_heads,
                                                     model, sample, method, format, executor);
    if (!chosen.ok()) return Named(group.name, chosen.status());
    attempt.scales = AsFolded(group, std::move(chosen->scales));
    attempt.candidate = chosen->candidate;
  }
  absl::StatusOr<bool> held =
      RoundAll(group, *baselines, model, sample, method, stored, executor, attempt);
  if (!held.ok()) return held.status();
  bool fell_back = false;
  if (!*held) {
    attempt = Attempt{ones, {}, {}, {}};
    held = RoundAll(group, *baselines, model, sample, method, stored, executor, attempt);
    if (!held.ok()) return held.status();
    fell_back = true;
  }
  if (too_few) attempt.why_rtn.assign(attempt.linears.size(), kTooFewTokens);
  RoundedGroup result = Finish(group, *baselines, model, sample, std::move(attempt));
  if (is_calibrated) {
    if (auto warning = FewTokensWarning(statistics.token_count, model.in_features())) {
      result.report.warnings.push_back(*std::move(warning));
    }
  }
  if (stored.output == OutputFormat::kScaledFp16) {
    for (LinearReport& linear : result.report.linears) linear.bits = 16;
  }
  if (fell_back) {
    result.report.notes.push_back(
        "scaling made a Linear worse than plain round-to-nearest and was dropped");
  }
  return result;
}

absl::StatusOr<GroupResult> PackGroup(const GroupInput& group, const RoundedGroup& rounded,
                                      const StoredFormat& stored, Executor& executor) {
  std::vector<FinishedLinear> finished;
  const bool has_codes = stored.output != OutputFormat::kScaledFp16;
  for (size_t i = 0; i < group.linears.size(); ++i) {
    finished.push_back({group.linears[i].name, group.linears[i].weight, rounded.scales,
                        has_codes ? &rounded.linears[i].groups : nullptr, rounded.input_scale});
  }
  absl::StatusOr<std::vector<std::vector<NamedTensor>>> packed =
      PackLinears(finished, stored, executor);
  if (!packed.ok()) return packed.status();
  GroupResult result{rounded.scales, {}, rounded.report};
  for (size_t i = 0; i < packed->size(); ++i) {
    for (NamedTensor& tensor : (*packed)[i]) {
      result.report.linears[i].bytes_out += static_cast<int64_t>(tensor.data.size());
      result.tensors.push_back(std::move(tensor));
    }
  }
  return result;
}

absl::StatusOr<GroupResult> QuantizeGroup(const GroupInput& group, const Method& method,
                                          const StoredFormat& stored, Executor& executor) {
  const absl::StatusOr<RoundedGroup> rounded = RoundGroup(group, method, stored, executor);
  if (!rounded.ok()) return rounded.status();
  return PackGroup(group, *rounded, stored, executor);
}

int64_t QuantizeGroupMemoryBytes(int64_t total_out_features, int64_t in_features,
                                 const Method& method, ActivationFormat activations,
                                 int concurrency) {
  StatisticsParams params;
  params.in_features = in_features;
  if (NeedsWholeGram(method)) params.KeepWholeGram();
  const int64_t parameters = total_out_features * in_features;
  // Codes and the packed result take so much.
  const int64_t results = parameters + parameters / 2 + parameters / 8;
  // The per-tile losses of every candidate of the search take so much.
  const int64_t tiles = total_out_features / kRowTile + 1;
  const int64_t losses = params.ExactGram() ? 0 : tiles * 64 * params.sketch_rows * 8;
  // Rows, errors and products of one tile, a few times over, take so much: at most a panel's six
  // matrices.
  const int64_t scratch = int64_t{10} * concurrency * kRowTile * in_features * 4;
  // The curvature and its factor: all of it, or shrunk blocks and the f64 matrices of one
  // factorization a thread.
  const int64_t blocks =
      method.rounding == RoundingChoice::kGptq
          ? RoundGptqMemoryBytes(in_features, concurrency)
          : 3 * in_features * params.block_width * 4 +
                int64_t{6} * concurrency * params.block_width * params.block_width * 8;
  // The affine maps, and the scales of every candidate and their inverses.
  const int64_t maps = parameters / 4 + int64_t{2} * 64 * in_features * 4;
  const int64_t sample = activations == ActivationFormat::kNone
                             ? 0
                             : ActivationLoss::MemoryBytes(total_out_features, params, concurrency);
  return results + losses + scratch + blocks + maps + sample + LossModel::MemoryBytes(params) +
         SearchLoss::MemoryBytes(params);
}

}  // namespace salient
