// Holds what quantization_config says to engines.
#ifndef SALIENT_CORE_ENGINES_STATED_QUANTIZATION_H_
#define SALIENT_CORE_ENGINES_STATED_QUANTIZATION_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/config/json.h"
#include "core/config/model/model_config.h"
#include "core/config/quantization_config.h"
#include "core/pack/stored_format.h"
#include "core/tensor/stored_format.h"

namespace salient {

class StatedQuantization {
 public:
  // Parses `json`, the text that `config` was parsed from; `config` must outlive the result.
  static absl::StatusOr<StatedQuantization> Parse(const ModelConfig& config,
                                                  absl::string_view json);

  // Returns the method; it is empty if the model is not quantized.
  const std::string& quant_method() const { return config_.quant_method; }
  // Returns whether the config says that the Linear is not quantized; of awq it says so in
  // `skipped`.
  bool SaysPlain(absl::string_view module) const;
  // Returns, of gptq, whether modules_in_block_to_quantize has the Linear; nullopt: there is no
  // list.
  std::optional<bool> InBlockList(absl::string_view module) const;
  // Returns it as far as the config says it: bits and group_size of 0 are not said.
  StoredFormat FormatOf(absl::string_view module) const;
  bool act_order() const { return config_.desc_act || act_order_; }
  bool zero_point() const { return config_.zero_point; }
  // awq has these, as the config spells them.
  const std::string& version() const { return version_; }
  bool old_names() const { return old_names_; }
  const std::vector<std::string>& skipped() const { return skipped_; }
  // Returns what ModelDescription has of compressed-tensors.
  int64_t config_groups() const { return config_groups_; }
  const std::string& unknown_in_group() const { return unknown_in_group_; }
  const std::string& unknown_in_arguments() const { return unknown_in_arguments_; }

 private:
  void ReadGroups(const JsonValue& groups);
  void ReadArguments(const std::string& path, const JsonValue& arguments);

  QuantizationConfig config_;
  std::string version_;
  bool old_names_ = false;
  std::vector<std::string> skipped_;
  std::optional<std::vector<std::string>> in_block_;
  bool act_order_ = false;
  int64_t config_groups_ = 0;
  std::string unknown_in_group_;
  std::string unknown_in_arguments_;
};

}  // namespace salient

#endif  // SALIENT_CORE_ENGINES_STATED_QUANTIZATION_H_
