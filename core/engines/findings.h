// Holds what rules find out about an engine and a checkpoint.
#ifndef SALIENT_CORE_ENGINES_FINDINGS_H_
#define SALIENT_CORE_ENGINES_FINDINGS_H_

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "core/engines/engine.h"
#include "core/engines/engine_verdict.h"

namespace salient {

class Findings {
 public:
  explicit Findings(Engine engine) { verdict_.engine = engine; }

  Engine engine() const { return verdict_.engine; }
  absl::string_view name() const { return EngineName(verdict_.engine); }

  // Notes a fault. All blocks are alike, so only the first fault that a rule finds is kept.
  void Fault(absl::string_view rule, std::string text) {
    if (std::find(rules_.begin(), rules_.end(), rule) != rules_.end()) return;
    rules_.emplace_back(rule);
    verdict_.faults.push_back(std::move(text));
  }
  void Remark(absl::string_view rule, std::string text) {
    if (std::find(rules_.begin(), rules_.end(), rule) != rules_.end()) return;
    rules_.emplace_back(rule);
    verdict_.remarks.push_back(std::move(text));
  }

  EngineVerdict Take() { return std::move(verdict_); }

 private:
  EngineVerdict verdict_;
  std::vector<std::string> rules_;
};

}  // namespace salient

#endif  // SALIENT_CORE_ENGINES_FINDINGS_H_
