// What quantization_config says to engines.
#ifndef SALIENT_CORE_ENGINES_DESCRIBED_CONFIG_H_
#define SALIENT_CORE_ENGINES_DESCRIBED_CONFIG_H_

#include <cstdint>
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

  const std::string& quant_method() const { return quant_method_; }  // empty: not quantized
  bool SaysPlain(absl::string_view module) const;
  // As far as the config says it; a group_size of 0 is not said.
  WeightFormat FormatOf(absl::string_view module) const;
  OutputFormat gptq_layout() const { return gptq_layout_; }
  ActivationFormat activations() const { return activations_; }
  bool act_order() const { return act_order_; }
  bool zero_point() const { return zero_point_; }
  const std::string& version() const { return version_; }
  const std::vector<std::string>& skipped() const { return skipped_; }

 private:
  std::string quant_method_;
  std::string version_;
  OutputFormat gptq_layout_ = OutputFormat::kGptq;
  ActivationFormat activations_ = ActivationFormat::kNone;
  bool act_order_ = false;
  bool zero_point_ = true;
  bool symmetric_ = false;
  int64_t group_size_ = 0;  // 0: not said
  std::vector<std::string> skipped_;
  std::vector<std::string> ignored_;
};

}  // namespace salient

#endif  // SALIENT_CORE_ENGINES_DESCRIBED_CONFIG_H_
