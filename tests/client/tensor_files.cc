#include "tests/client/tensor_files.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <random>
#include <system_error>
#include <utility>

#include "core/tensor/dtype.h"

namespace salient::client {

TemporaryDirectory::TemporaryDirectory() : path_(::testing::TempDir() + "/salient.XXXXXX") {
  if (mkdtemp(path_.data()) == nullptr) std::abort();
}

TemporaryDirectory::~TemporaryDirectory() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::vector<std::string> TemporaryDirectory::List() const {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(path_)) {
    names.push_back(entry.path().filename().string());
  }
  return names;
}

NamedTensor PatternTensor(std::string name, DType dtype, std::vector<int64_t> shape,
                          uint32_t seed) {
  NamedTensor tensor = {std::move(name), dtype, std::move(shape), {}};
  int64_t bytes = SizeOf(dtype);
  for (const int64_t dimension : tensor.shape) bytes *= dimension;
  std::mt19937 random(seed);
  for (int64_t i = 0; i < bytes; ++i) tensor.data.push_back(static_cast<std::byte>(random()));
  return tensor;
}

NamedTensor Int64Tensor(std::string name, std::vector<int64_t> values) {
  NamedTensor tensor = {std::move(name), DType::kI64, {static_cast<int64_t>(values.size())}, {}};
  tensor.data.resize(values.size() * 8);
  std::memcpy(tensor.data.data(), values.data(), tensor.data.size());
  return tensor;
}

SafetensorsFile WriteAndOpen(const std::string& path, const std::vector<NamedTensor>& tensors) {
  const auto written = WriteSafetensors(path, ToWrite(tensors), {});
  if (!written.ok()) ADD_FAILURE() << written;
  auto file = SafetensorsFile::Open(path);
  if (!file.ok()) {
    ADD_FAILURE() << file.status();
    std::abort();
  }
  return *std::move(file);
}

}  // namespace salient::client
