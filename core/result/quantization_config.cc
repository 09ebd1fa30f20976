#include "core/result/quantization_config.h"

#include <algorithm>
#include <cctype>
#include <map>
#include <set>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "core/tensor/affine_groups.h"
#include "core/tensor/stored_format.h"

namespace salient {
namespace {

using Object = JsonValue::Object;
using Array = JsonValue::Array;

JsonValue Text(absl::string_view text) { return JsonValue(std::string(text)); }
JsonValue Number(int64_t value) { return JsonValue(value); }

JsonValue Texts(absl::Span<const std::string> texts) {
  Array array;
  for (const std::string& text : texts) array.emplace_back(text);
  return JsonValue(std::move(array));
}

bool SameFormat(const WeightFormat& a, const WeightFormat& b) {
  return a.bits == b.bits && a.group_size == b.group_size && a.symmetric == b.symmetric;
}

// Returns that of most, then the others, in the order in which they come.
std::vector<WeightFormat> FormatsOf(const WeightFormat& most,
                                    absl::Span<const LinearFormat> linears) {
  std::vector<WeightFormat> formats = {most};
  for (const LinearFormat& linear : linears) {
    const auto same = [&](const WeightFormat& other) { return SameFormat(other, linear.format); };
    if (std::none_of(formats.begin(), formats.end(), same)) formats.push_back(linear.format);
  }
  return formats;
}

std::vector<std::string> ModulesOf(const WeightFormat& format,
                                   absl::Span<const LinearFormat> linears) {
  std::vector<std::string> modules;
  for (const LinearFormat& linear : linears) {
    if (SameFormat(linear.format, format)) modules.push_back(linear.module);
  }
  return modules;
}

// Returns a regular expression that this path alone matches.
std::string Regex(absl::string_view module) {
  std::string regex = "^";
  for (const char c : module) {
    if (!std::isalnum(static_cast<unsigned char>(c)) && c != '_') regex += '\\';
    regex += c;
  }
  return regex + "$";
}

// Full paths as engines ask for them. They fuse some Linears into one and ask for that by a name
// that is not in the checkpoint: it is added behind the last part where all parts of it are among
// `modules`.
std::vector<std::string> AsAskedFor(absl::Span<const std::string> modules,
                                    absl::Span<const FusedModules> fused) {
  const std::set<std::string> all(modules.begin(), modules.end());
  std::map<absl::string_view, absl::string_view> whole;  // fused names by their last parts
  for (const FusedModules& set : fused) {
    const bool has_all = std::all_of(set.parts.begin(), set.parts.end(),
                                     [&](const std::string& part) { return all.contains(part); });
    if (has_all) whole.emplace(set.parts.back(), set.name);
  }
  std::vector<std::string> asked;
  for (const std::string& module : modules) {
    asked.push_back(module);
    const auto found = whole.find(module);
    if (found != whole.end()) asked.emplace_back(found->second);
  }
  return asked;
}

// zero_point is true for symmetric weights as well: all loaders expect qzeros. Kept Linears go by
// their full paths, the one spelling that means the same to each, and fused ones by that of the
// whole, too, which is what some look for.
absl::StatusOr<JsonValue> AwqConfig(const WeightFormat& format,
                                    absl::Span<const LinearFormat> linears,
                                    absl::Span<const std::string> kept,
                                    absl::Span<const FusedModules> fused) {
  Object config = {{"quant_method", Text("awq")},
                   {"bits", Number(format.bits)},
                   {"group_size", Number(format.group_size)},
                   {"zero_point", JsonValue(true)},
                   {"version", Text("gemm")}};
  if (!kept.empty()) config.emplace_back("modules_to_not_convert", Texts(AsAskedFor(kept, fused)));
  for (const LinearFormat& linear : linears) {
    if (SameFormat(linear.format, format)) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        linear.module, ": bits is ", linear.format.bits, " and group_size ",
        linear.format.group_size, "; expected ", format.bits, " and ", format.group_size,
        ": awq-gemm has one format for all; compressed-tensors and gptq have others for some"));
  }
  return JsonValue(std::move(config));
}

// Returns the path inside its block: what follows the block's number.
std::string InsideBlock(const std::string& module) {
  const std::vector<std::string> parts = absl::StrSplit(module, '.');
  size_t at = 0;
  for (const std::string& part : parts) {
    at += part.size() + 1;
    const bool number = !part.empty() && std::all_of(part.begin(), part.end(), [](unsigned char c) {
      return std::isdigit(c) != 0;
    });
    if (number && at < module.size()) return module.substr(at);
  }
  return module;
}

// Lists what is quantized in every block, for readers that know no `dynamic`; empty if blocks
// differ.
std::vector<std::string> InsideEveryBlock(absl::Span<const LinearFormat> linears,
                                          absl::Span<const std::string> kept) {
  std::set<std::string> left;
  for (const std::string& module : kept) left.insert(InsideBlock(module));
  std::vector<std::string> inside;
  for (const LinearFormat& linear : linears) {
    std::string name = InsideBlock(linear.module);
    if (left.count(name) != 0) return {};
    if (std::find(inside.begin(), inside.end(), name) == inside.end()) {
      inside.push_back(std::move(name));
    }
  }
  return inside;
}

JsonValue GptqConfig(const StoredFormat& stored, absl::Span<const LinearFormat> linears,
                     absl::Span<const std::string> kept, absl::Span<const FusedModules> fused) {
  const WeightFormat& format = stored.format;
  Object config = {
      {"quant_method", Text("gptq")},
      {"bits", Number(format.bits)},
      {"group_size", Number(format.group_size)},
      {"desc_act", JsonValue(false)},
      {"sym", JsonValue(format.symmetric)},
      {"checkpoint_format", Text(stored.output == OutputFormat::kGptqV2 ? "gptq_v2" : "gptq")},
      {"lm_head", JsonValue(false)}};
  Object dynamic;
  for (const std::string& module : AsAskedFor(kept, fused)) {
    dynamic.emplace_back(absl::StrCat("-:", Regex(module)), JsonValue(Object()));
  }
  const std::vector<WeightFormat> formats = FormatsOf(format, linears);
  for (size_t i = 1; i < formats.size(); ++i) {
    for (const std::string& module : AsAskedFor(ModulesOf(formats[i], linears), fused)) {
      Object properties = {{"bits", Number(formats[i].bits)},
                           {"group_size", Number(formats[i].group_size)}};
      dynamic.emplace_back(absl::StrCat("+:", Regex(module)), JsonValue(std::move(properties)));
    }
  }
  if (!dynamic.empty()) config.emplace_back("dynamic", JsonValue(std::move(dynamic)));
  if (const auto inside = InsideEveryBlock(linears, kept); !kept.empty() && !inside.empty()) {
    // A list of lists: readers flatten it.
    Array lists;
    lists.push_back(Texts(inside));
    config.emplace_back("modules_in_block_to_quantize", JsonValue(std::move(lists)));
  }
  return JsonValue(std::move(config));
}

// Says how something is quantized, in compressed-tensors' words. Readers refuse keys that they do
// not know, so these are all there are, and a group_size with any strategy but "group" is an error.
JsonValue Arguments(int bits, bool symmetric, absl::string_view strategy, int64_t group_size,
                    bool dynamic) {
  Object arguments = {{"num_bits", Number(bits)},
                      {"type", Text("int")},
                      {"symmetric", JsonValue(symmetric)},
                      {"strategy", Text(strategy)},
                      {"group_size", group_size > 0 ? Number(group_size) : JsonValue()},
                      {"dynamic", JsonValue(dynamic)},
                      {"actorder", JsonValue()},
                      {"block_structure", JsonValue()},
                      {"observer", dynamic ? JsonValue() : Text("minmax")},
                      {"observer_kwargs", JsonValue(Object())}};
  return JsonValue(std::move(arguments));
}

JsonValue WeightArguments(const WeightFormat& format) {
  const absl::string_view strategy = format.group_size == kWholeTensor ? "tensor"
                                     : format.group_size == kWholeRow  ? "channel"
                                                                       : "group";
  return Arguments(format.bits, format.symmetric, strategy, format.group_size, /*dynamic=*/false);
}

JsonValue ActivationArguments(ActivationFormat activations) {
  switch (activations) {
    case ActivationFormat::kNone:
      break;
    case ActivationFormat::kDynamicToken:
      return Arguments(8, true, "token", 0, /*dynamic=*/true);
    case ActivationFormat::kStaticTensor:
      return Arguments(8, true, "tensor", 0, /*dynamic=*/false);
  }
  return JsonValue();
}

JsonValue CompressedConfig(const StoredFormat& stored, absl::Span<const LinearFormat> linears,
                           absl::Span<const std::string> kept) {
  const absl::string_view layout =
      stored.output == OutputFormat::kIntQuantized ? "int-quantized" : "pack-quantized";
  const std::vector<WeightFormat> formats = FormatsOf(stored.format, linears);
  Object groups;
  for (const WeightFormat& format : formats) {
    // Targets are by class, or, because the class of a fused Linear would win over its path, all by
    // path.
    std::vector<std::string> targets = {"Linear"};
    if (formats.size() > 1) {
      targets = ModulesOf(format, linears);
      for (std::string& target : targets) target = absl::StrCat("re:", Regex(target));
    }
    if (targets.empty()) continue;
    Object group = {{"targets", Texts(targets)},
                    {"format", Text(layout)},
                    {"weights", WeightArguments(format)},
                    {"input_activations", ActivationArguments(stored.activations)},
                    {"output_activations", JsonValue()}};
    groups.emplace_back(absl::StrCat("group_", groups.size()), JsonValue(std::move(group)));
  }
  std::vector<std::string> ignore = {"lm_head"};
  ignore.insert(ignore.end(), kept.begin(), kept.end());
  Object config = {{"quant_method", Text("compressed-tensors")},
                   {"format", Text(layout)},
                   {"quantization_status", Text("compressed")},
                   {"ignore", Texts(ignore)},
                   {"kv_cache_scheme", JsonValue()},
                   {"global_compression_ratio", JsonValue()},
                   {"config_groups", JsonValue(std::move(groups))}};
  return JsonValue(std::move(config));
}

}  // namespace

absl::StatusOr<JsonValue> QuantizationConfigJson(const StoredFormat& stored,
                                                 absl::Span<const LinearFormat> linears,
                                                 absl::Span<const std::string> kept,
                                                 absl::Span<const FusedModules> fused) {
  switch (stored.output) {
    case OutputFormat::kAwqGemm:
      return AwqConfig(stored.format, linears, kept, fused);
    case OutputFormat::kGptq:
    case OutputFormat::kGptqV2:
      return GptqConfig(stored, linears, kept, fused);
    case OutputFormat::kCompressedTensors:
    case OutputFormat::kIntQuantized:
      return CompressedConfig(stored, linears, kept);
    case OutputFormat::kScaledFp16:
    case OutputFormat::kDequantizedFp16:
      break;
  }
  return JsonValue();
}

}  // namespace salient
