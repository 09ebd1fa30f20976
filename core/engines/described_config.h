// What quantization_config says to engines.
#ifndef SALIENT_CORE_ENGINES_DESCRIBED_CONFIG_H_
#define SALIENT_CORE_ENGINES_DESCRIBED_CONFIG_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/checkpoint/model_config.h"
#include "core/pack/stored_format.h"

namespace salient {

class DescribedConfig {
 public:
  // `json` is the text that `config` was parsed from; `config` must outlive the result.
  static absl::StatusOr<DescribedConfig> Parse(const ModelConfig& config, absl::string_view json);

  const std::string& quant_method() const { return config_.quant_method; }  // empty: not quantized
  // Whether the config says that the Linear is not quantized; of awq it says so in `skipped`.
  bool SaysPlain(absl::string_view module) const;
  // As far as the config says it: bits and group_size of 0 are not said.
  StoredFormat FormatOf(absl::string_view module) const;
  bool act_order() const { return config_.desc_act; }
  bool zero_point() const { return config_.zero_point; }
  // awq's, as the config spells them.
  const std::string& version() const { return version_; }
  const std::vector<std::string>& skipped() const { return skipped_; }

 private:
  QuantizationConfig config_;
  std::string version_;
  std::vector<std::string> skipped_;
};

}  // namespace salient

#endif  // SALIENT_CORE_ENGINES_DESCRIBED_CONFIG_H_
