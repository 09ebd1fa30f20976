#include "client/options/flag_names.h"

#include <string>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "client/terminal/errors.h"

namespace salient::client {
namespace {

struct FieldFlag {
  absl::string_view field;
  absl::string_view flag;
};
// A row has the last part of a path and its flag.
constexpr FieldFlag kFlags[] = {
    {"bits", "bits"},
    {"group_size", "group-size"},
    {"symmetric", "symmetric"},
    {"output_format", "format"},
    {"formats", "format"},
    {"activations", "activations"},
    {"overrides", "override"},
    {"engines", "engine"},
    {"tensor_parallel", "tensor-parallel"},
    {"max_relative_error", "max-relative-error"},
    {"max_shard_bytes", "max-shard-bytes"},
    {"salient_share", "share"},
    {"scale", "scale"},
    {"range", "range"},
    {"rounding", "rounding"},
    {"autoawq", "autoawq"},
    {"damping", "gptq-damping"},
    {"descent_sweeps", "descent-sweeps"},
    {"refits", "refits"},
    {"alpha", "smoothquant-alpha"},
};

bool IsOfPath(char c) {
  return absl::ascii_islower(static_cast<unsigned char>(c)) ||
         absl::ascii_isdigit(static_cast<unsigned char>(c)) || c == '_' || c == '.' || c == '[' ||
         c == ']';
}

// Returns "--bits" for "spec.quantize.formats[0].bits", and `path` itself if no flag sets it.
std::string FlagOf(absl::string_view path) {
  absl::string_view rest = path;
  absl::ConsumePrefix(&rest, "spec.");
  if (rest == "job_id") return "--job-id";
  if (rest == "allow_long_rows") return "--allow-long-rows";
  if (rest == "model.path") return "path of the model";
  if (rest == "quantize.output_path") return "path of the result";
  const bool of_request = absl::StartsWith(rest, "quantize.") ||
                          absl::StartsWith(rest, "evaluate.") || absl::StartsWith(rest, "study.") ||
                          absl::StartsWith(rest, "inspect.") || absl::StartsWith(rest, "options.");
  if (!of_request) return std::string(path);
  if (absl::StartsWith(rest, "quantize.calibration") || rest == "study.calibration.tokens") {
    return "--calibration";
  }
  if (rest == "evaluate.tokens" || rest == "study.evaluation.tokens") return "--evaluation";
  absl::string_view last = rest.substr(rest.rfind('.') + 1);
  last = last.substr(0, last.find('['));
  for (const auto& [field, flag] : kFlags) {
    if (last != field) continue;
    const bool of_nearest = absl::StartsWith(rest, "evaluate.round_to_nearest.");
    return absl::StrCat("--", of_nearest ? "rtn-" : "", flag);
  }
  return std::string(path);
}

}  // namespace

absl::Status InFlags(const absl::Status& status) {
  std::string text;
  absl::string_view rest = status.message();
  while (!rest.empty()) {
    size_t length = 0;
    while (length < rest.size() && IsOfPath(rest[length])) ++length;
    absl::string_view word = rest.substr(0, length);
    // The full stop that ends a sentence does not belong to the path.
    while (absl::EndsWith(word, ".")) word.remove_suffix(1);
    absl::StrAppend(&text, FlagOf(word));
    rest.remove_prefix(word.size());
    if (rest.empty()) break;
    text.push_back(rest.front());
    rest.remove_prefix(1);
  }
  if (text == status.message()) return status;
  return WithMessage(status, text);
}

}  // namespace salient::client
