// Reads what an independent NumPy twin computed (tests/golden/make_goldens.py).
#ifndef SALIENT_TESTS_SUPPORT_GOLDEN_FILE_H_
#define SALIENT_TESTS_SUPPORT_GOLDEN_FILE_H_

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "core/safetensors/safetensors.h"
#include "core/tensor/half.h"
#include "core/tensor/matrix.h"
#include "tests/support/source_directory.h"

namespace salient::testing {

// Reads tests/golden/NAME.safetensors.
class Golden {
 public:
  explicit Golden(const std::string& name)
      : file_(
            *SafetensorsFile::Open(SourceDirectory() + "/tests/golden/" + name + ".safetensors")) {}

  std::vector<std::byte> Bytes(const std::string& name) const { return *file_.ReadTensor(name); }

  template <class T>
  std::vector<T> Read(const std::string& name) const {
    const std::vector<std::byte> bytes = Bytes(name);
    std::vector<T> values(bytes.size() / sizeof(T));
    if (!bytes.empty()) std::memcpy(values.data(), bytes.data(), bytes.size());
    return values;
  }

  // Returns F16 [*, columns], widened.
  Matrix Halves(const std::string& name, int64_t columns) const {
    const std::vector<uint16_t> halves = Read<uint16_t>(name);
    Matrix values(static_cast<int64_t>(halves.size()) / columns, columns);
    for (size_t i = 0; i < halves.size(); ++i) values.data()[i] = F16ToF32(halves[i]);
    return values;
  }

  std::vector<uint8_t> Codes(const std::string& name) const {
    const std::vector<int32_t> wide = Read<int32_t>(name);
    return {wide.begin(), wide.end()};
  }

 private:
  SafetensorsFile file_;
};

// 0 if there are not as many.
template <class T>
inline double ShareEqual(const std::vector<T>& a, const std::vector<T>& b) {
  if (a.size() != b.size()) return 0;
  int64_t equal = 0;
  for (size_t i = 0; i < a.size(); ++i) equal += a[i] == b[i] ? 1 : 0;
  return static_cast<double>(equal) / static_cast<double>(a.size());
}

}  // namespace salient::testing

#endif  // SALIENT_TESTS_SUPPORT_GOLDEN_FILE_H_
