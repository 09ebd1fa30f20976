#include "tests/bench/random_checkpoint.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <numbers>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/checkpoint/checkpoint_writer.h"
#include "core/checkpoint/shard_index.h"
#include "core/model/block_plan.h"
#include "core/model/families/family.h"
#include "core/model/model.h"
#include "core/safetensors/layout.h"
#include "core/safetensors/safetensors.h"
#include "core/tensor/dtype.h"
#include "core/tensor/half.h"

namespace salient::bench {
namespace {

// Small, so that any model of interest has several files.
constexpr int64_t kShardBytes = 2'000'000'000;
constexpr int64_t kTableSize = 1 << 16;
constexpr int64_t kPieceElements = 1 << 22;

uint64_t Mixed(uint64_t x) {
  x += 0x9E3779B97F4A7C15;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
  return x ^ (x >> 31);
}

uint64_t SeedOf(const std::string& name) {
  uint64_t hash = 0;
  for (const char c : name) hash = Mixed(hash ^ static_cast<unsigned char>(c));
  return hash;
}

// Returns a number uniform in [0, 1).
double Share(uint64_t bits) { return static_cast<double>(bits >> 11) * 0x1p-53; }

// Is Student's distribution function for 5 degrees of freedom.
double StudentShare(double t) {
  const double angle = std::atan(t / std::sqrt(5.0));
  const double cosine = std::cos(angle);
  return 0.5 +
         (angle + std::sin(angle) * cosine * (1 + 2.0 / 3.0 * cosine * cosine)) / std::numbers::pi;
}

// The middles of 2^16 slices of equal probability: a draw is one look-up.
std::vector<float> StudentTable() {
  std::vector<float> table(kTableSize);
  for (int64_t i = kTableSize / 2; i < kTableSize; ++i) {
    const double share = (static_cast<double>(i) + 0.5) / kTableSize;
    double low = 0;
    double high = 1000;
    for (int step = 0; step < 50; ++step) {
      const double middle = 0.5 * (low + high);
      (StudentShare(middle) < share ? low : high) = middle;
    }
    table[i] = static_cast<float>(low);
    table[kTableSize - 1 - i] = -table[i];
  }
  return table;
}

struct Tensor {
  TensorShape shape;
  uint64_t seed = 0;
  float scale = 1;  // It is that of the distribution.
  bool norm = false;

  int64_t Elements() const { return shape.SizeBytes() / 2; }
};

std::vector<Tensor> TensorsOf(const ModelShape& shape) {
  const Model model = *PlanModel(shape.config);
  std::vector<TensorSpec> specs = OuterTensors(model);
  for (const BlockPlan& block : model.blocks) {
    for (TensorSpec& spec : BlockTensors(block)) specs.push_back(std::move(spec));
  }
  std::vector<Tensor> tensors;
  for (TensorSpec& spec : specs) {
    Tensor tensor;
    tensor.seed = SeedOf(spec.name);
    tensor.norm = absl::StrContains(spec.name, "norm");
    const bool bias = absl::EndsWith(spec.name, ".bias");
    tensor.scale = bias ? 0.1f : 1.0f / std::sqrt(static_cast<float>(spec.shape.back()));
    tensor.shape = {std::move(spec.name), DType::kBF16, std::move(spec.shape)};
    tensors.push_back(std::move(tensor));
  }
  return tensors;
}

void FillNorm(const Tensor& tensor, int64_t first, int64_t count, uint16_t* values) {
  for (int64_t i = 0; i < count; ++i) {
    const uint64_t bits = Mixed(tensor.seed + static_cast<uint64_t>(first + i));
    const double size = Share(bits);
    const bool salient = Share(Mixed(bits)) < 0.01;
    values[i] = F32ToBF16(static_cast<float>(salient ? 5 + 15 * size : 0.5 + size));
  }
}

void Fill(const Tensor& tensor, const std::vector<float>& table, int64_t first, int64_t count,
          uint16_t* values) {
  if (tensor.norm) return FillNorm(tensor, first, count, values);
  std::vector<uint16_t> scaled(table.size());
  for (size_t i = 0; i < table.size(); ++i) scaled[i] = F32ToBF16(table[i] * tensor.scale);
  // Four numbers of one draw; pieces begin at multiples of four.
  for (int64_t i = 0; i < count; i += 4) {
    const uint64_t bits = Mixed(tensor.seed + static_cast<uint64_t>(first + i) / 4);
    for (int64_t k = 0; k < std::min<int64_t>(4, count - i); ++k) {
      values[i + k] = scaled[(bits >> (16 * k)) & 0xFFFF];
    }
  }
}

struct Piece {
  const Tensor* tensor;
  int64_t first;
  int64_t count;
};

absl::Status WritePieces(const std::vector<Tensor>& tensors, int threads,
                         CheckpointWriter& writer) {
  std::vector<Piece> pieces;
  for (const Tensor& tensor : tensors) {
    for (int64_t first = 0; first < tensor.Elements(); first += kPieceElements) {
      pieces.push_back({&tensor, first, std::min(kPieceElements, tensor.Elements() - first)});
    }
  }
  const std::vector<float> table = StudentTable();
  std::atomic<size_t> next = 0;
  std::vector<absl::Status> outcomes(static_cast<size_t>(threads));
  std::vector<std::thread> workers;
  for (absl::Status& outcome : outcomes) {
    workers.emplace_back([&] {
      std::vector<uint16_t> values(kPieceElements);
      for (size_t i = next++; i < pieces.size() && outcome.ok(); i = next++) {
        const Piece& piece = pieces[i];
        Fill(*piece.tensor, table, piece.first, piece.count, values.data());
        outcome = writer.WriteTensor(piece.tensor->shape.name, 2 * piece.first,
                                     {reinterpret_cast<const std::byte*>(values.data()),
                                      static_cast<size_t>(2 * piece.count)});
      }
    });
  }
  for (std::thread& worker : workers) worker.join();
  for (absl::Status& outcome : outcomes) {
    if (!outcome.ok()) return outcome;
  }
  return absl::OkStatus();
}

// Returns whether `directory` holds this model already.
absl::StatusOr<bool> HasCheckpoint(const ModelShape& shape, const std::string& directory) {
  std::ifstream file(directory + "/config.json", std::ios::binary);
  if (!file) return false;
  const std::string json(std::istreambuf_iterator<char>(file), {});
  if (json == shape.config_json) return true;
  return absl::AlreadyExistsError(
      absl::StrCat(directory, "/config.json is another model's; expected that of ", shape.name));
}

}  // namespace

absl::Status MakeCheckpoint(const ModelShape& shape, const std::string& directory, int threads) {
  const absl::StatusOr<bool> has = HasCheckpoint(shape, directory);
  if (!has.ok() || *has) return has.status();
  const std::vector<Tensor> tensors = TensorsOf(shape);
  std::vector<TensorSize> sizes;
  int64_t bytes = 0;
  for (const Tensor& tensor : tensors) {
    sizes.push_back({tensor.shape.name, tensor.shape.SizeBytes()});
    bytes += sizes.back().bytes;
  }
  const absl::StatusOr<ShardPlan> plan =
      PlanShards(sizes, std::min(kShardBytes, std::max<int64_t>(1, bytes / 2)));
  if (!plan.ok()) return plan.status();
  absl::StatusOr<CheckpointWriter> writer = CheckpointWriter::Create(directory);
  if (!writer.ok()) return writer.status();
  absl::Status status = writer->WriteFile("config.json", shape.config_json);
  if (status.ok() && !plan->index_json.empty()) {
    status = writer->WriteFile(kShardIndexName, plan->index_json);
  }
  for (const Shard& shard : plan->shards) {
    std::vector<TensorShape> shapes;
    for (const size_t i : shard.tensors) shapes.push_back(tensors[i].shape);
    const auto layout = LayOutSafetensors(shard.file, shapes, {});
    if (!layout.ok()) return layout.status();
    if (status.ok()) status = writer->AddSafetensors(shard.file, *layout);
  }
  if (status.ok()) status = WritePieces(tensors, threads, *writer);
  return status.ok() ? writer->Commit() : status;
}

absl::Status MakeTokens(const ModelShape& shape, int64_t rows, int64_t tokens,
                        const std::string& path) {
  std::vector<int32_t> ids(static_cast<size_t>(rows * tokens));
  for (size_t i = 0; i < ids.size(); ++i) {
    ids[i] = static_cast<int32_t>(Mixed(i) % static_cast<uint64_t>(shape.config.vocab_size));
  }
  const std::vector<int64_t> dimensions = {rows, tokens};
  const std::vector<TensorToWrite> tensors = {
      {"input_ids",
       DType::kI32,
       dimensions,
       {reinterpret_cast<const std::byte*>(ids.data()), 4 * ids.size()}}};
  return WriteSafetensors(path, tensors, {});
}

}  // namespace salient::bench
