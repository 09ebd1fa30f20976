// Holds what a server would hold, for one call or several.
#ifndef SALIENT_TESTS_SERVER_CALLS_HOUSE_H_
#define SALIENT_TESTS_SERVER_CALLS_HOUSE_H_

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/calls/call_limits.h"
#include "server/calls/call_messages.h"
#include "server/calls/tensor_call.h"
#include "server/workers/memory_budget.h"
#include "tests/server/calls/scripted_client.h"

namespace salient {

struct House {
  explicit House(int workers = 2, int64_t memory_bytes = int64_t{1} << 30)
      : memory(memory_bytes), pool(workers) {}

  std::shared_ptr<ScriptedClient> Open(std::vector<CallMessage> script,
                                       ScriptedClient::Settings settings = {},
                                       const CallLimits& limits = {}) {
    auto client = std::make_shared<ScriptedClient>(std::move(script), settings);
    call = std::make_shared<TensorCall>(TensorCall::Shared{pool, memory, counters}, limits, client,
                                        [this] { ends.fetch_add(1); });
    client->Attach(call);
    call->Start();
    return client;
  }

  // Until `condition`; the test's own time limit is the only clock.
  static void WaitFor(const std::function<bool()>& condition) {
    while (!condition()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }

  MemoryBudget memory;
  CallCounters counters;
  std::atomic<int> ends{0};
  std::shared_ptr<TensorCall> call;  // It is the one opened last.
  WorkerPool pool;                   // It goes first: its tasks use the rest.
};

inline std::vector<CallMessage> SmallCall(int groups) {
  std::vector<CallMessage> script = {SmallOptions()};
  for (int i = 0; i < groups; ++i) {
    for (CallMessage& message : SmallGroup(SmallSpec(absl::StrCat("g", i), 16 + 8 * i))) {
      script.push_back(std::move(message));
    }
  }
  return script;
}

}  // namespace salient

#endif  // SALIENT_TESTS_SERVER_CALLS_HOUSE_H_
