#include "server/rpc/convert/study.h"

#include "absl/strings/str_cat.h"
#include "core/method/salient_fp16.h"
#include "core/study/study_model.h"
#include "core/tensor/affine_groups.h"
#include "server/error/call_error.h"
#include "server/error/field_error.h"
#include "server/rpc/convert/job_fields.h"
#include "server/rpc/convert/method.h"
#include "server/rpc/convert/scores.h"

namespace salient {
namespace {

absl::StatusOr<TokenBlob> RequiredTokens(absl::string_view field, bool is_set,
                                         const v1::TokenCalibration& message,
                                         absl::string_view expected) {
  if (!is_set) return BadField(Reason::kBadJob, field, "not set", expected);
  return ToTokens(field, message);
}

absl::StatusOr<WeightFormat> ToStudiedFormat(absl::string_view field,
                                             const v1::WeightFormat& message) {
  if (message.activations() != v1::ACTIVATION_FORMAT_UNSPECIFIED) {
    return BadField(Reason::kBadFormat, absl::StrCat(field, ".activations"),
                    absl::StrCat(static_cast<int>(message.activations())),
                    "not to be set: a study rounds weights alone");
  }
  const absl::StatusOr<WeightFormat> format = ToWeightFormat(field, message);
  if (format.ok() && format->group_size == kWholeTensor) {
    return BadField(Reason::kBadFormat, absl::StrCat(field, ".group_size"),
                    absl::StrCat(message.group_size()), "a divisor of in_features, or -1 for all");
  }
  return format;
}

v1::SalientChoice ToProto(SalientChoice choice) {
  switch (choice) {
    case SalientChoice::kNone:
      return v1::SALIENT_CHOICE_NONE;
    case SalientChoice::kActivation:
      return v1::SALIENT_CHOICE_ACTIVATION;
    case SalientChoice::kWeight:
      return v1::SALIENT_CHOICE_WEIGHT;
    case SalientChoice::kRandom:
      return v1::SALIENT_CHOICE_RANDOM;
  }
  return v1::SALIENT_CHOICE_UNSPECIFIED;
}

}  // namespace

absl::StatusOr<StudyTask> ToStudy(absl::string_view path, const v1::StudyTask& message) {
  StudyTask task;
  const auto calibration =
      RequiredTokens(absl::StrCat(path, ".calibration"), message.has_calibration(),
                     message.calibration(), "the tokens that say which channels are salient");
  if (!calibration.ok()) return calibration.status();
  task.calibration = *calibration;
  const auto evaluation =
      RequiredTokens(absl::StrCat(path, ".evaluation"), message.has_evaluation(),
                     message.evaluation(), "the tokens to score");
  if (!evaluation.ok()) return evaluation.status();
  task.evaluation = *evaluation;
  const double share = message.salient_share();
  if (!(share >= 0 && share <= 1)) {  // NaN is refused.
    return BadField(Reason::kBadJob, absl::StrCat(path, ".salient_share"), absl::StrCat(share),
                    "0 to 1 (0: the default, 0.01)");
  }
  if (share > 0) task.params.salient_share = share;
  if (message.has_format()) {
    const auto format = ToStudiedFormat(absl::StrCat(path, ".format"), message.format());
    if (!format.ok()) return format.status();
    task.params.format = *format;
  }
  const auto compute = ToCompute(absl::StrCat(path, ".compute_dtype"), message.compute_dtype());
  if (!compute.ok()) return compute.status();
  task.compute = *compute;
  task.params.seed = message.seed();
  return task;
}

v1::Study ToProto(const ModelStudy& study) {
  v1::Study message;
  *message.mutable_source() = ToProto(study.source);
  for (const StudyRow& row : study.rows) {
    v1::Study::Row& added = *message.add_rows();
    added.set_choice(ToProto(row.choice));
    *added.mutable_score() = ToProto(row.evaluation);
    added.set_relative_output_error(row.relative_output_error);
  }
  return message;
}

}  // namespace salient
