#include "core/model/model.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "core/config/json.h"

namespace salient {

int64_t ElementsOf(const TensorSpec& spec) {
  int64_t elements = 1;
  for (const int64_t dimension : spec.shape) elements *= dimension;
  return elements;
}

std::optional<int64_t> Model::MostTokens() const {
  if (!positions.has_value()) return std::nullopt;
  return positions->rows - positions->offset;
}

std::vector<std::string> Model::OuterLinears() const {
  std::vector<std::string> paths;
  for (const std::string& weight : {input_projection, output_projection}) {
    if (!weight.empty()) paths.emplace_back(absl::StripSuffix(weight, ".weight"));
  }
  return paths;
}

int64_t Model::LinearCount() const {
  int64_t count = 0;
  for (const BlockPlan& block : blocks) count += static_cast<int64_t>(block.linears.size());
  return count;
}

std::vector<FusedModules> FusedModulesOf(const Model& model) {
  std::vector<FusedModules> modules;
  for (const BlockPlan& block : model.blocks) {
    for (const FusedLinears& fused : block.fused) {
      const std::string& first = block.linears[fused.linears.front()].name;
      FusedModules& set = modules.emplace_back();
      set.name = absl::StrCat(first.substr(0, first.rfind('.') + 1), fused.name);
      for (const size_t linear : fused.linears) set.parts.push_back(block.linears[linear].name);
    }
  }
  return modules;
}

std::vector<TensorSpec> BlockTensors(const BlockPlan& block) {
  std::vector<TensorSpec> tensors;
  for (size_t group = 0; group < block.groups.size(); ++group) {
    for (const VectorPlan& vector : block.vectors) {
      if (vector.group == group) tensors.push_back({vector.name, vector.shape});
    }
    for (const size_t index : block.groups[group].linears) {
      const LinearPlan& linear = block.linears[index];
      const LinearShape& shape = linear.shape;
      tensors.push_back(
          {absl::StrCat(linear.name, ".weight"), {shape.out_features, shape.in_features}});
      if (shape.has_bias) {
        tensors.push_back({absl::StrCat(linear.name, ".bias"), {shape.out_features}});
      }
    }
  }
  return tensors;
}

std::vector<TensorSpec> OuterTensors(const Model& model) {
  const int64_t hidden = model.config.hidden_size;
  const int64_t width = model.embedding_size;
  const int64_t ids = model.config.vocab_size;
  std::vector<TensorSpec> tensors = {{model.embeddings, {ids, width}}};
  if (const auto& positions = model.positions; positions.has_value()) {
    tensors.push_back({positions->name, {positions->rows, hidden}});
  }
  const auto add = [&](const std::string& name, std::vector<int64_t> shape) {
    if (!name.empty()) tensors.push_back({name, std::move(shape)});
  };
  add(model.input_projection, {hidden, width});
  if (const auto& norm = model.final_norm; norm.has_value()) {
    add(norm->weight, {hidden});
    add(norm->bias, {hidden});
  }
  add(model.output_projection, {width, hidden});
  if (!model.config.TiesHead()) add(model.head, {ids, width});
  return tensors;
}

}  // namespace salient
