// Plans a model for tests, which know that it can be.
#ifndef SALIENT_TESTS_SUPPORT_PLANNED_MODEL_H_
#define SALIENT_TESTS_SUPPORT_PLANNED_MODEL_H_

#include <list>
#include <mutex>
#include <stdexcept>
#include <utility>

#include "core/config/model/model_config.h"
#include "core/model/families/family.h"
#include "core/model/model.h"

namespace salient::testing {

// Returns a plan that stays until the program ends, because sources borrow it. Throws if there is
// no such architecture.
inline const Model& Planned(const ModelConfig& config) {
  static std::mutex mutex;
  static std::list<Model> models;
  absl::StatusOr<Model> model = PlanModel(config);
  if (!model.ok()) throw std::runtime_error(model.status().ToString());
  const std::lock_guard<std::mutex> lock(mutex);
  return models.emplace_back(*std::move(model));
}

}  // namespace salient::testing

#endif  // SALIENT_TESTS_SUPPORT_PLANNED_MODEL_H_
