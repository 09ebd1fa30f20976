#include "client/tensors_options.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/checkpoint/json.h"

namespace salient {
namespace {

template <typename Value>
using Names = std::vector<std::pair<std::string, Value>>;

template <typename Value>
absl::StatusOr<Value> Named(absl::string_view flag, const std::string& name,
                            const Names<Value>& names) {
  std::vector<std::string> known;
  for (const auto& [text, value] : names) {
    if (text == name) return value;
    known.push_back(text);
  }
  return absl::InvalidArgumentError(absl::StrCat("--", flag, " ", QuoteForMessage(name),
                                                 "; expected ", absl::StrJoin(known, " or ")));
}

}  // namespace

absl::StatusOr<v1::QuantizeTensorsOptions> ToMessage(const TensorsOptions& options) {
  struct Preset {
    const char* scale;
    const char* range;
    const char* rounding;
  };
  const auto preset =
      Named<Preset>("method", options.method,
                    {{"awq", {"awq", "clip", options.autoawq ? "nearest" : "block"}},
                     {"rtn", {"none", "minmax", "nearest"}}});
  if (!preset.ok()) return preset.status();
  const auto pick = [](const std::string& given, const char* otherwise) {
    return given.empty() ? std::string(otherwise) : given;
  };
  const auto scale = Named<v1::Scale>("scale", pick(options.scale, preset->scale),
                                      {{"none", v1::SCALE_NONE}, {"awq", v1::SCALE_AWQ}});
  if (!scale.ok()) return scale.status();
  const auto range = Named<v1::Range>("range", pick(options.range, preset->range),
                                      {{"minmax", v1::RANGE_MIN_MAX}, {"clip", v1::RANGE_CLIP}});
  if (!range.ok()) return range.status();
  const auto rounding =
      Named<v1::Rounding>("rounding", pick(options.rounding, preset->rounding),
                          {{"nearest", v1::ROUNDING_NEAREST}, {"block", v1::ROUNDING_BLOCK}});
  if (!rounding.ok()) return rounding.status();

  v1::QuantizeTensorsOptions message;
  message.mutable_method()->set_scale(*scale);
  message.mutable_method()->set_range(*range);
  message.mutable_method()->set_rounding(*rounding);
  message.mutable_method()->set_autoawq(options.autoawq);
  message.mutable_format()->set_bits(options.bits);
  message.mutable_format()->set_group_size(options.group_size);
  message.mutable_format()->set_symmetric(options.symmetric);
  message.mutable_format()->set_output_format(v1::OUTPUT_FORMAT_AWQ_GEMM);
  message.set_seed(options.seed);
  return message;
}

std::map<std::string, std::string> FileMetadata(const v1::QuantizeTensorsOptions& options) {
  return {{"bits", absl::StrCat(options.format().bits())},
          {"group_size", absl::StrCat(options.format().group_size())},
          {"symmetric", options.format().symmetric() ? "true" : "false"},
          {"layout", "awq-gemm"}};
}

}  // namespace salient
