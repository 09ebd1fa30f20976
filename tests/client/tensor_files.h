// Makes small safetensors files for the tests of the client.
#ifndef SALIENT_TESTS_CLIENT_TENSOR_FILES_H_
#define SALIENT_TESTS_CLIENT_TENSOR_FILES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "core/safetensors/safetensors.h"
#include "core/tensor/dtype.h"
#include "core/tensor/named_tensor.h"

namespace salient::client {

// A directory of its own that is gone afterwards.
class TemporaryDirectory {
 public:
  TemporaryDirectory();
  ~TemporaryDirectory();
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;

  std::string File(const std::string& name) const { return path_ + "/" + name; }
  // Names of what is in it.
  std::vector<std::string> List() const;

 private:
  std::string path_;
};

// Makes a tensor whose bytes differ from each other's and between seeds.
NamedTensor PatternTensor(std::string name, DType dtype, std::vector<int64_t> shape,
                          uint32_t seed = 1);

NamedTensor Int64Tensor(std::string name, std::vector<int64_t> values);

// Writes and opens. A test that cannot do so ends.
SafetensorsFile WriteAndOpen(const std::string& path, const std::vector<NamedTensor>& tensors);

}  // namespace salient::client

#endif  // SALIENT_TESTS_CLIENT_TENSOR_FILES_H_
