// Shows a model in which some tensors are replaced by others, or added.
#ifndef SALIENT_TESTS_SUPPORT_ALTERED_SOURCE_H_
#define SALIENT_TESTS_SUPPORT_ALTERED_SOURCE_H_

#include <cstring>
#include <map>
#include <set>
#include <string>
#include <utility>

#include "core/checkpoint/tensor_source.h"
#include "core/safetensors/safetensors.h"
#include "core/tensor/named_tensor.h"

namespace salient::testing {

class AlteredSource final : public TensorSource {
 public:
  // `name` is that of the source and of the file that its own tensors lie in.
  explicit AlteredSource(const TensorSource& source, std::string name = "altered")
      : source_(source), name_(std::move(name)) {}

  void Put(NamedTensor tensor) {
    const std::string name = tensor.name;
    entries_[name] = {name, tensor.dtype, tensor.shape, 0,
                      static_cast<int64_t>(tensor.data.size())};
    tensors_[name] = std::move(tensor);
  }
  void Remove(const std::string& tensor) {
    tensors_.erase(tensor);
    removed_.insert(tensor);
  }

  const std::string& name() const override { return name_; }
  absl::StatusOr<TensorLocation> Find(absl::string_view tensor) const override {
    const std::string name(tensor);
    if (tensors_.contains(name)) return TensorLocation{name_, &entries_.at(name)};
    if (removed_.contains(name)) return absl::NotFoundError(name + " was removed");
    return source_.Find(tensor);
  }
  absl::Status ReadRange(absl::string_view tensor, int64_t offset,
                         absl::Span<std::byte> bytes) const override {
    const auto found = tensors_.find(std::string(tensor));
    if (found == tensors_.end()) return source_.ReadRange(tensor, offset, bytes);
    const std::vector<std::byte>& data = found->second.data;
    if (offset + static_cast<int64_t>(bytes.size()) > static_cast<int64_t>(data.size())) {
      return absl::OutOfRangeError(found->first);
    }
    std::memcpy(bytes.data(), data.data() + offset, bytes.size());
    return absl::OkStatus();
  }

 private:
  const TensorSource& source_;
  std::string name_;
  std::map<std::string, NamedTensor> tensors_;
  std::map<std::string, TensorEntry> entries_;
  std::set<std::string> removed_;
};

}  // namespace salient::testing

#endif  // SALIENT_TESTS_SUPPORT_ALTERED_SOURCE_H_
