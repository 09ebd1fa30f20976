// A client of TensorCall that says what a test wrote down, and keeps what it is answered.
#ifndef SALIENT_TESTS_SERVER_CALLS_SCRIPTED_CLIENT_H_
#define SALIENT_TESTS_SERVER_CALLS_SCRIPTED_CLIENT_H_

#include <gtest/gtest.h>

#include <condition_variable>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/group/quantize_group.h"
#include "core/tensor/dtype.h"
#include "server/calls/call_messages.h"
#include "server/calls/result_queue.h"
#include "server/calls/tensor_call.h"

namespace salient {

// Messages of small groups; names, shapes and values follow from the arguments.
inline CallOptions SmallOptions() {
  CallOptions options;
  options.stored.format.group_size = 64;
  return options;
}

inline GroupSpec SmallSpec(const std::string& name, int64_t out_features = 16,
                           int64_t in_features = 64) {
  GroupSpec spec;
  spec.name = name;
  spec.in_features = in_features;
  spec.linears = {{absl::StrCat(name, ".linear"), DType::kF32, out_features}};
  spec.activation_dtype = DType::kF32;
  return spec;
}

inline std::string RandomFloats(int64_t count, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal;
  std::string bytes(static_cast<size_t>(count) * sizeof(float), '\0');
  for (int64_t i = 0; i < count; ++i) {
    const float value = normal(random);
    std::memcpy(bytes.data() + i * sizeof(float), &value, sizeof(value));
  }
  return bytes;
}

inline WeightData SmallWeight(const GroupSpec& spec, uint64_t seed = 1) {
  return {0, {0, RandomFloats(spec.linears[0].out_features * spec.in_features, seed), {}}};
}

inline ActivationData SmallRow(const GroupSpec& spec, int64_t row, int64_t tokens = 8) {
  return {row, 0, RandomFloats(tokens * spec.in_features, 100 + row), {}};
}

inline std::vector<CallMessage> SmallGroup(const GroupSpec& spec) {
  return {spec, SmallWeight(spec), SmallRow(spec, 0), SmallRow(spec, 1), EndGroupMark{}};
}

inline std::vector<CallMessage> Joined(std::vector<std::vector<CallMessage>> parts) {
  std::vector<CallMessage> all;
  for (auto& part : parts) {
    for (CallMessage& message : part) all.push_back(std::move(message));
  }
  return all;
}

// Is thread-safe. Answers each ReadNext at once from the script, and after it with the end of the
// input, unless told to stay silent.
class ScriptedClient final : public CallTransport {
 public:
  struct Settings {
    bool reads_results = true;
    bool stays_silent = false;  // It is silent at the end of the script.
  };

  ScriptedClient(std::vector<CallMessage> script, Settings settings)
      : script_(script.begin(), script.end()), settings_(settings) {}

  // Attaches the call that this client is the other side of.
  void Attach(std::shared_ptr<TensorCall> call) {
    std::lock_guard<std::mutex> lock(mu_);
    call_ = std::move(call);
  }

  void ReadNext() override {
    std::shared_ptr<TensorCall> call;
    std::shared_ptr<CallMessage> message;
    {
      std::lock_guard<std::mutex> lock(mu_);
      call = call_;
      if (!script_.empty()) {
        message = std::make_shared<CallMessage>(std::move(script_.front()));
        script_.pop_front();
      } else if (settings_.stays_silent) {
        return;
      }
    }
    if (message == nullptr) {
      call->EndOfInput();
    } else {
      call->Deliver([message]() -> absl::StatusOr<CallMessage> { return *message; });
    }
  }

  void ResultReady() override {
    if (settings_.reads_results) ReadResults();
  }

  // Takes everything there is.
  void ReadResults() {
    std::shared_ptr<TensorCall> call;
    {
      std::lock_guard<std::mutex> lock(mu_);
      more_ = true;
      if (reading_) return;
      reading_ = true;
      call = call_;
    }
    while (true) {
      {
        std::lock_guard<std::mutex> lock(mu_);
        if (!more_) {
          reading_ = false;
          return;
        }
        more_ = false;
      }
      while (auto result = call->TakeResult()) Keep(*result);
    }
  }

  void Finish(const absl::Status& status) override {
    std::lock_guard<std::mutex> lock(mu_);
    ++finishes_;
    status_ = status;
    finished_ = true;
    call_ = nullptr;
    changed_.notify_all();
  }

  bool finished() const {
    std::lock_guard<std::mutex> lock(mu_);
    return finished_;
  }
  absl::Status Wait() {
    std::unique_lock<std::mutex> lock(mu_);
    changed_.wait(lock, [this] { return finished_; });
    return status_;
  }
  int finishes() const {
    std::lock_guard<std::mutex> lock(mu_);
    return finishes_;
  }
  size_t messages_left() const {
    std::lock_guard<std::mutex> lock(mu_);
    return script_.size();
  }

  // A group's answer, its tensors put together again.
  struct Group {
    std::string name;
    std::vector<float> scales;
    std::vector<std::string> tensors;
    bool operator==(const Group&) const = default;
  };
  std::vector<Group> groups() const {
    std::lock_guard<std::mutex> lock(mu_);
    return groups_;
  }

 private:
  void Keep(const OutgoingResult& result) {
    std::lock_guard<std::mutex> lock(mu_);
    const GroupResult& group = result.group->result;
    if (!result.tensor_index.has_value()) {
      groups_.push_back(
          {group.report.name, group.scales, std::vector<std::string>(group.tensors.size())});
      return;
    }
    std::string& tensor = groups_.back().tensors[*result.tensor_index];
    EXPECT_EQ(static_cast<int64_t>(tensor.size()), result.range.offset) << "a chunk out of order";
    const auto* data =
        reinterpret_cast<const char*>(group.tensors[*result.tensor_index].data.data());
    tensor.append(data + result.range.offset, static_cast<size_t>(result.range.size));
  }

  mutable std::mutex mu_;
  std::condition_variable changed_;
  std::deque<CallMessage> script_;
  const Settings settings_;
  std::shared_ptr<TensorCall> call_;
  bool reading_ = false;
  bool more_ = false;
  bool finished_ = false;
  int finishes_ = 0;
  absl::Status status_;
  std::vector<Group> groups_;
};

}  // namespace salient

#endif  // SALIENT_TESTS_SERVER_CALLS_SCRIPTED_CLIENT_H_
