#include "core/engines/architecture_rules.h"

#include <string>

#include "absl/algorithm/container.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/engines/engine.h"

namespace salient {
namespace {

// Says what is not as it should be, by the registries of each engine's version.
enum class Lack {
  kAll,         // It runs no such model.
  kQuantized,   // It runs one through transformers, and none that is quantized.
  kOwnClass,    // It runs one through transformers' class.
  kOwnKernels,  // It runs one by its PyTorch engine in place of TurboMind.
};

struct LackingEngine {
  Engine engine;
  Lack lack;
  absl::Span<const absl::string_view> architectures;
};

constexpr absl::string_view kByTransformers[] = {"Olmo2ForCausalLM", "Olmo3ForCausalLM",
                                                 "SmolLM3ForCausalLM"};
constexpr absl::string_view kNotInSglang[] = {"Olmo3ForCausalLM", "SmolLM3ForCausalLM"};
constexpr absl::string_view kNotInTgi[] = {
    "OPTForCausalLM",   "Qwen3ForCausalLM",   "Ministral3ForCausalLM", "Olmo2ForCausalLM",
    "Olmo3ForCausalLM", "SmolLM3ForCausalLM", "Lfm2ForCausalLM"};
constexpr absl::string_view kNotInLmdeploy[] = {
    "OPTForCausalLM",   "Ministral3ForCausalLM", "GraniteForCausalLM", "Olmo2ForCausalLM",
    "Olmo3ForCausalLM", "SmolLM3ForCausalLM",    "Lfm2ForCausalLM"};
constexpr absl::string_view kNotInTurboMind[] = {"MistralForCausalLM", "Phi3ForCausalLM",
                                                 "Gemma2ForCausalLM", "Gemma3ForCausalLM"};
constexpr absl::string_view kNotInLlamaCpp[] = {"OPTForCausalLM", "Ministral3ForCausalLM"};

constexpr LackingEngine kLackingEngines[] = {
    {Engine::kVllm, Lack::kOwnClass, kByTransformers},
    {Engine::kVllmCpu, Lack::kOwnClass, kByTransformers},
    {Engine::kSglang, Lack::kOwnClass, kNotInSglang},
    {Engine::kTgi, Lack::kQuantized, kNotInTgi},
    {Engine::kLmdeploy, Lack::kAll, kNotInLmdeploy},
    {Engine::kLmdeploy, Lack::kOwnKernels, kNotInTurboMind},
    {Engine::kLlamaCpp, Lack::kAll, kNotInLlamaCpp},
};

}  // namespace

void CheckArchitecture(const ModelDescription& model, Findings& findings) {
  for (const LackingEngine& lacking : kLackingEngines) {
    if (lacking.engine != findings.engine()) continue;
    if (!absl::c_linear_search(lacking.architectures, model.architecture)) continue;
    const std::string name = absl::StrCat(findings.name(), " ", EngineVersion(lacking.engine));
    switch (lacking.lack) {
      case Lack::kAll:
        findings.Fault("architecture", absl::StrCat(name, " has no ", model.architecture));
        break;
      case Lack::kQuantized:
        if (model.quantized()) {
          findings.Fault("architecture",
                         absl::StrCat(name, " has no ", model.architecture,
                                      " and runs it through transformers, not quantized alone"));
        } else {
          findings.Remark("architecture", absl::StrCat("runs ", model.architecture,
                                                       " through transformers, slowly"));
        }
        break;
      case Lack::kOwnClass:
        findings.Remark("architecture",
                        absl::StrCat("runs ", model.architecture, " through transformers' class"));
        break;
      case Lack::kOwnKernels:
        findings.Remark("architecture",
                        absl::StrCat("runs ", model.architecture,
                                     " by its PyTorch engine, which TurboMind's kernels are not"));
        break;
    }
  }
}

}  // namespace salient
