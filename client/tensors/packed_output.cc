#include "client/tensors/packed_output.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "core/file/durable_write.h"
#include "core/file/growing_name.h"
#include "core/safetensors/safetensors.h"
#include "core/text/quote.h"

namespace salient::client {
namespace {

absl::Status NotWritable(const std::string& path, int error) {
  const absl::Status none_left = FileError(error, path, "write there");
  if (absl::IsResourceExhausted(none_left)) return none_left;
  return absl::InvalidArgumentError(
      absl::StrCat(path, ": cannot be written there: ", std::strerror(error)));
}

absl::StatusOr<int64_t> SizeBytes(absl::string_view name, DType dtype,
                                  const std::vector<int64_t>& shape) {
  int64_t bytes = SizeOf(dtype);
  for (const int64_t dimension : shape) {
    if (dimension < 0 || __builtin_mul_overflow(bytes, dimension, &bytes)) {
      return absl::InvalidArgumentError(absl::StrCat("tensor ", QuoteForMessage(name),
                                                     " has dimension ", dimension,
                                                     "; expected a size below 2^63 bytes"));
    }
  }
  return bytes;
}

}  // namespace

absl::StatusOr<PackedOutput> PackedOutput::Create(std::string path) {
  struct stat info = {};
  if (stat(path.c_str(), &info) == 0 && !S_ISREG(info.st_mode)) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": is there and is not a file"));
  }
  // It lies beside the output, because that is where the room for it has to be anyway.
  std::string nameless = GrowingName(path, ".XXXXXX");
  const int fd = mkostemp(nameless.data(), O_CLOEXEC);
  if (fd < 0) return NotWritable(path, errno);
  unlink(nameless.c_str());
  return PackedOutput(std::move(path), fd);
}

PackedOutput::PackedOutput(PackedOutput&& other) noexcept
    : path_(std::move(other.path_)),
      fd_(std::exchange(other.fd_, -1)),
      size_(other.size_),
      tensors_(std::move(other.tensors_)),
      names_(std::move(other.names_)) {}

PackedOutput& PackedOutput::operator=(PackedOutput&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(fd_, other.fd_);
  std::swap(size_, other.size_);
  std::swap(tensors_, other.tensors_);
  std::swap(names_, other.names_);
  return *this;
}

PackedOutput::~PackedOutput() {
  if (fd_ >= 0) close(fd_);
}

absl::Status PackedOutput::BeginTensor(absl::string_view name, DType dtype,
                                       std::vector<int64_t> shape) {
  const auto bytes = SizeBytes(name, dtype, shape);
  if (!bytes.ok()) return bytes.status();
  if (name.empty() || !names_.emplace(name).second) {
    return absl::InvalidArgumentError(absl::StrCat("tensor ", QuoteForMessage(name),
                                                   " came twice or has no name; expected ",
                                                   "every name once"));
  }
  tensors_.push_back({std::string(name), dtype, std::move(shape), size_, *bytes});
  return absl::OkStatus();
}

absl::Status PackedOutput::Append(absl::string_view bytes) {
  const int64_t missing =
      tensors_.empty() ? 0 : tensors_.back().begin + tensors_.back().bytes - size_;
  if (static_cast<int64_t>(bytes.size()) > missing) {
    return absl::OutOfRangeError(
        absl::StrCat("tensor ", QuoteForMessage(tensors_.empty() ? "" : tensors_.back().name),
                     " got ", bytes.size(), " bytes; expected ", missing, " more"));
  }
  while (!bytes.empty()) {
    const ssize_t written = write(fd_, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) {
      return absl::InternalError(absl::StrCat(path_, ": ", std::strerror(errno)));
    }
    size_ += written;
    bytes.remove_prefix(static_cast<size_t>(written));
  }
  return absl::OkStatus();
}

bool PackedOutput::Complete() const {
  return tensors_.empty() || tensors_.back().begin + tensors_.back().bytes == size_;
}

absl::Status PackedOutput::Commit(const std::map<std::string, std::string>& metadata) const {
  if (!Complete()) {
    return absl::FailedPreconditionError(
        absl::StrCat("tensor ", QuoteForMessage(tensors_.back().name), " lacks bytes"));
  }
  // Nobody else can reach or shorten the nameless file, so mapping it is safe.
  const std::byte* data = nullptr;
  const size_t mapped_bytes = static_cast<size_t>(size_);
  if (mapped_bytes > 0) {
    void* mapped = mmap(nullptr, mapped_bytes, PROT_READ, MAP_SHARED, fd_, 0);
    if (mapped == MAP_FAILED) {
      return absl::InternalError(absl::StrCat(path_, ": ", std::strerror(errno)));
    }
    data = static_cast<const std::byte*>(mapped);
  }
  const auto unmap = absl::MakeCleanup([data, mapped_bytes] {
    if (data != nullptr) munmap(const_cast<std::byte*>(data), mapped_bytes);
  });
  std::vector<TensorToWrite> tensors;
  for (const Tensor& tensor : tensors_) {
    tensors.push_back(
        {tensor.name, tensor.dtype, tensor.shape,
         absl::MakeConstSpan(data + tensor.begin, static_cast<size_t>(tensor.bytes))});
  }
  const absl::Status written = WriteSafetensors(path_, tensors, metadata);
  // A full disk is no fault of what was asked for.
  const bool full = absl::IsResourceExhausted(written) || absl::IsOutOfRange(written);
  return full ? absl::InternalError(written.message()) : written;
}

}  // namespace salient::client
