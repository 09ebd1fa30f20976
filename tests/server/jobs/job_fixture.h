// A small random model, a store, workers and a job table for tests.
#ifndef SALIENT_TESTS_SERVER_JOBS_JOB_FIXTURE_H_
#define SALIENT_TESTS_SERVER_JOBS_JOB_FIXTURE_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/checkpoint/safetensors.h"
#include "core/checkpoint/shard_index.h"
#include "core/tensor/half.h"
#include "server/jobs/job_table.h"
#include "tests/server/store/temporary_directory.h"

namespace salient::testing {

template <class T>
T Must(absl::StatusOr<T> value) {
  if (!value.ok()) throw std::runtime_error(value.status().ToString());
  return *std::move(value);
}

using Files = std::map<std::string, std::string>;  // content by name

struct TinyModel {
  int64_t layers = 3;
  int64_t hidden = 32;
  int64_t intermediate = 48;
  int64_t vocab = 40;
  uint64_t seed = 1;
  size_t shards = 1;
  std::function<float(const std::string& tensor, int64_t index, float value)> change;
};

inline std::vector<std::pair<std::string, std::vector<int64_t>>> TensorsOf(const TinyModel& model) {
  const int64_t h = model.hidden;
  const int64_t i = model.intermediate;
  std::vector<std::pair<std::string, std::vector<int64_t>>> tensors;
  tensors.push_back({"model.embed_tokens.weight", {model.vocab, h}});
  for (int64_t layer = 0; layer < model.layers; ++layer) {
    const std::string prefix = absl::StrCat("model.layers.", layer, ".");
    const std::pair<std::string, std::vector<int64_t>> inside[] = {
        {"input_layernorm", {h}},     {"self_attn.q_proj", {h, h}},
        {"self_attn.k_proj", {h, h}}, {"self_attn.v_proj", {h, h}},
        {"self_attn.o_proj", {h, h}}, {"post_attention_layernorm", {h}},
        {"mlp.gate_proj", {i, h}},    {"mlp.up_proj", {i, h}},
        {"mlp.down_proj", {h, i}}};
    for (const auto& [name, shape] : inside) {
      tensors.push_back({absl::StrCat(prefix, name, ".weight"), shape});
    }
  }
  tensors.push_back({"model.norm.weight", {h}});
  return tensors;
}

inline std::string Bytes(const std::vector<std::byte>& bytes) {
  return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

inline int64_t ParametersOf(const TinyModel& model) {
  int64_t parameters = 0;
  for (const auto& [name, shape] : TensorsOf(model)) {
    parameters += shape.size() == 2 ? shape[0] * shape[1] : shape[0];
  }
  return parameters;
}

// A model directory: F16 weights from a fixed seed, in one file or several.
inline Files MakeModel(const TinyModel& model) {
  std::mt19937_64 random(model.seed);
  std::normal_distribution<float> normal(0.0f, 0.08f);
  std::vector<NamedTensor> tensors;
  std::vector<TensorSize> sizes;
  int64_t total = 0;
  for (const auto& [name, shape] : TensorsOf(model)) {
    int64_t count = 1;
    for (const int64_t dimension : shape) count *= dimension;
    NamedTensor tensor{name, DType::kF16, shape, std::vector<std::byte>(2 * count)};
    for (int64_t k = 0; k < count; ++k) {
      float value = normal(random) + (shape.size() == 1 ? 1.0f : 0.0f);
      if (model.change) value = model.change(name, k, value);
      const uint16_t bits = F32ToF16(value);
      std::memcpy(tensor.data.data() + 2 * k, &bits, 2);
    }
    sizes.push_back({name, 2 * count});
    total += 2 * count;
    tensors.push_back(std::move(tensor));
  }
  Files files;
  const int64_t limit = model.shards == 1 ? total : total / static_cast<int64_t>(model.shards) + 1;
  const ShardPlan plan = Must(PlanShards(sizes, limit));
  for (const Shard& shard : plan.shards) {
    std::vector<NamedTensor> inside;
    for (const size_t t : shard.tensors) inside.push_back(tensors[t]);
    files[shard.file] = Bytes(Must(SerializeSafetensors(ToWrite(inside), {})));
  }
  if (!plan.index_json.empty()) files[kShardIndexName] = plan.index_json;
  files["config.json"] = absl::StrCat(
      R"({"architectures": ["LlamaForCausalLM"], "hidden_size": )", model.hidden,
      R"(, "intermediate_size": )", model.intermediate, R"(, "num_hidden_layers": )", model.layers,
      R"(, "num_attention_heads": 2, "vocab_size": )", model.vocab,
      R"(, "rms_norm_eps": 1e-05, "hidden_act": "silu", "tie_word_embeddings": true})");
  files["tokenizer_config.json"] = R"({"model_max_length": 64})";
  files["pytorch_model.bin"] = "weights in another form, never sent";
  return files;
}

inline std::string MakeTokens(int64_t rows, int64_t tokens, int64_t vocab, uint64_t seed) {
  std::mt19937_64 random(seed);
  NamedTensor ids{
      "input_ids", DType::kI32, {rows, tokens}, std::vector<std::byte>(4 * rows * tokens)};
  for (int64_t k = 0; k < rows * tokens; ++k) {
    const auto id = static_cast<int32_t>(random() % static_cast<uint64_t>(vocab));
    std::memcpy(ids.data.data() + 4 * k, &id, 4);
  }
  const std::vector<NamedTensor> tensors = {ids};
  return Bytes(Must(SerializeSafetensors(ToWrite(tensors), {})));
}

inline std::string HeaderOf(const std::string& safetensors) {
  uint64_t size = 0;
  std::memcpy(&size, safetensors.data(), 8);
  return safetensors.substr(0, 8 + size);
}

// Everything a client does with a job table, in one place.
class JobBench {
 public:
  explicit JobBench(int workers = 2, std::function<void(JobTableSettings&)> change = {},
                    const BlobStoreLimits& limits = {})
      : pool_(workers) {
    store_ = Must(BlobStore::Open((directory_ / "store").string(), limits));
    settings_.work_directory = (directory_ / "work").string();
    settings_.model_root = (directory_ / "models").string();
    settings_.output_root = (directory_ / "outputs").string();
    for (const std::string& root : {settings_.model_root, settings_.output_root}) {
      std::filesystem::create_directories(root);
    }
    if (change) change(settings_);
    table_ = Must(JobTable::Create(settings_, *store_, pool_));
  }

  JobTable& table() { return *table_; }
  BlobStore& store() { return *store_; }
  WorkerPool& pool() { return pool_; }
  TemporaryDirectory& directory() { return directory_; }
  void Close() { table_.reset(); }

  // Sends `content` up to `end`, in chunks; finishes it if that is all.
  absl::Status Send(const Digest& digest, const std::string& content, size_t end,
                    size_t chunk = 4096) {
    absl::StatusOr<Upload> upload = store_->BeginUpload(digest);
    if (absl::IsAlreadyExists(upload.status())) return absl::OkStatus();
    if (!upload.ok()) return upload.status();
    for (size_t at = static_cast<size_t>(upload->committed_bytes()); at < end;) {
      const size_t size = std::min(chunk, end - at);
      absl::Status status =
          upload->Append(static_cast<int64_t>(at), absl::string_view(content).substr(at, size));
      if (!status.ok()) return status;
      table_->BlobChanged(digest);
      at += size;
    }
    if (end < content.size()) return absl::OkStatus();
    absl::Status status = upload->Finish();
    if (status.ok()) {
      table_->BlobChanged(digest);
    } else {
      table_->BlobRejected(digest);
    }
    return status;
  }
  absl::Status Send(const std::string& content, size_t chunk = 4096) {
    return Send(DigestOf(content), content, content.size(), chunk);
  }
  void SendAll(const Files& files) {
    for (const auto& [name, content] : files) {
      if (name == "pytorch_model.bin") continue;
      ASSERT_TRUE(Send(content).ok()) << name;
    }
  }

  // Config and index inline, and the headers if asked for.
  static ModelSource Manifest(const Files& files, bool with_headers = false) {
    ModelSource source;
    for (const auto& [name, content] : files) {
      ModelFile file{name, DigestOf(content), std::nullopt};
      if (name == "config.json" || name == kShardIndexName) file.inline_content = content;
      if (with_headers && name.find(".safetensors") != name.npos && name != kShardIndexName) {
        file.inline_content = HeaderOf(content);
      }
      source.files.push_back(std::move(file));
    }
    return source;
  }

  static JobSpec Quantize(ModelSource model, const std::string& tokens) {
    JobSpec spec;
    spec.model = std::move(model);
    QuantizeTask task;
    task.calibration.tokens = DigestOf(tokens);
    task.formats[0].format.group_size = 16;
    spec.task = task;
    spec.serialized = absl::StrCat("spec", spec.model.path, tokens.size());
    return spec;
  }

  std::string WriteModel(const std::string& name, const Files& files) {
    const std::filesystem::path path = std::filesystem::path(settings_.model_root) / name;
    for (const auto& [file, content] : files) WriteFile(path / file, content);
    return path.string();
  }

  JobSnapshot Submit(JobSpec spec, const std::string& id = "") {
    return Must(table_->Submit(std::move(spec), id, "", false));
  }

  // All events up to the first that satisfies `enough`, or the end.
  std::vector<JobEvent> WatchUntil(const std::string& name,
                                   const std::function<bool(const JobEvent&)>& enough,
                                   int64_t after = 0) {
    std::mutex mu;
    std::condition_variable woken;
    bool wake = false;
    const std::unique_ptr<JobWatch> watch = Must(table_->Watch(name, after, [&] {
      const std::lock_guard<std::mutex> lock(mu);
      wake = true;
      woken.notify_all();
    }));
    std::vector<JobEvent> events;
    while (true) {
      const JobWatch::Batch batch = watch->Take(3);
      for (const JobEvent& event : batch.events) {
        events.push_back(event);
        if (enough(event)) return events;
      }
      if (batch.ended) return events;
      if (!batch.events.empty()) continue;
      std::unique_lock<std::mutex> lock(mu);
      woken.wait(lock, [&] { return wake; });
      wake = false;
    }
  }
  std::vector<JobEvent> WatchToEnd(const std::string& name, int64_t after = 0) {
    return WatchUntil(
        name, [](const JobEvent&) { return false; }, after);
  }
  JobSnapshot Finish(const std::string& name) {
    WatchToEnd(name);
    return Must(table_->Get(name));
  }

  std::string Read(const Digest& digest) {
    BlobReader reader = Must(store_->Read(digest));
    return Must(reader.Next(std::max<int64_t>(1, digest.size_bytes)));
  }

  bool WorkDirectoryIsEmpty() const { return std::filesystem::is_empty(settings_.work_directory); }

 private:
  TemporaryDirectory directory_;
  JobTableSettings settings_;
  std::unique_ptr<BlobStore> store_;
  WorkerPool pool_;
  std::unique_ptr<JobTable> table_;
};

inline std::map<std::string, Digest> DigestsOf(const JobSnapshot& job) {
  std::map<std::string, Digest> digests;
  for (const ResultFile& file : job.files) digests[file.name] = file.digest;
  return digests;
}

}  // namespace salient::testing

#endif  // SALIENT_TESTS_SERVER_JOBS_JOB_FIXTURE_H_
