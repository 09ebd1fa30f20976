#include "core/model/hidden_states.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/file/durable_write.h"
#include "core/model/activation_range.h"

namespace salient {
namespace {

constexpr char kMagic[8] = {'S', 'A', 'L', 'H', 'I', 'D', '0', '1'};

absl::Status ReadAll(int fd, const std::string& path, void* data, int64_t size, int64_t offset) {
  char* to = static_cast<char*>(data);
  while (size > 0) {
    const ssize_t count = ::pread(fd, to, static_cast<size_t>(size), offset);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return FileError(errno, path, "read");
    if (count == 0) {
      return absl::InvalidArgumentError(absl::StrCat(path, ": ends ", size, " bytes too early"));
    }
    to += count;
    offset += count;
    size -= count;
  }
  return absl::OkStatus();
}

std::string Header(const HiddenStatesShape& shape) {
  std::vector<int64_t> numbers = {shape.layer, static_cast<int64_t>(shape.lengths.size()),
                                  shape.hidden_size};
  numbers.insert(numbers.end(), shape.lengths.begin(), shape.lengths.end());
  numbers.push_back(static_cast<int64_t>(shape.numerics_id.size()));
  std::string header(kMagic, sizeof(kMagic));
  header.append(reinterpret_cast<const char*>(numbers.data()), numbers.size() * sizeof(int64_t));
  return header + shape.numerics_id;
}

}  // namespace

HiddenStatesFile::HiddenStatesFile(int fd, std::string path, HiddenStatesShape shape)
    : fd_(fd),
      path_(std::move(path)),
      shape_(std::move(shape)),
      row_largest_(shape_.lengths.size()) {
  row_offsets_.push_back(static_cast<int64_t>(Header(shape_).size()));
  for (const int64_t length : shape_.lengths) {
    const int64_t bytes = length * shape_.hidden_size * static_cast<int64_t>(sizeof(float));
    row_offsets_.push_back(row_offsets_.back() + bytes);
  }
}

HiddenStatesFile::HiddenStatesFile(HiddenStatesFile&& other) noexcept { *this = std::move(other); }

HiddenStatesFile& HiddenStatesFile::operator=(HiddenStatesFile&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(path_, other.path_);
  std::swap(unfinished_, other.unfinished_);
  std::swap(shape_, other.shape_);
  std::swap(row_offsets_, other.row_offsets_);
  std::swap(row_largest_, other.row_largest_);
  return *this;
}

HiddenStatesFile::~HiddenStatesFile() {
  if (fd_ < 0) return;
  ::close(fd_);
  if (!unfinished_.empty()) ::unlink(unfinished_.c_str());
}

absl::StatusOr<HiddenStatesFile> HiddenStatesFile::Create(const std::string& path,
                                                          const HiddenStatesShape& shape) {
  const std::string unfinished = absl::StrCat(path, ".part");
  const int fd = ::open(unfinished.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0) return FileError(errno, unfinished, "create");
  HiddenStatesFile file(fd, path, shape);
  file.unfinished_ = unfinished;
  const std::string header = Header(shape);
  absl::Status status = WriteAt(fd, unfinished, 0, header.data(), header.size());
  if (!status.ok()) return status;
  return file;
}

absl::StatusOr<HiddenStatesFile> HiddenStatesFile::Open(const std::string& path,
                                                        const HiddenStatesShape& shape) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return FileError(errno, path, "open");
  HiddenStatesFile file(fd, path, shape);
  const std::string expected = Header(shape);
  std::string header(expected.size(), 0);
  absl::Status status = ReadAll(fd, path, header.data(), static_cast<int64_t>(header.size()), 0);
  if (!status.ok()) return status;
  if (header != expected) {
    return absl::InvalidArgumentError(absl::StrCat(
        path, ": holds other states; expected layer ", shape.layer, ", ", shape.lengths.size(),
        " rows, hidden_size ", shape.hidden_size, ", arithmetic ", shape.numerics_id));
  }
  const int64_t size = ::lseek(fd, 0, SEEK_END);
  const int64_t whole = file.RowOffset(static_cast<int64_t>(shape.lengths.size()));
  if (size != whole) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": has ", size, " bytes; expected ", whole));
  }
  return file;
}

float HiddenStatesFile::Largest() const {
  return *std::max_element(row_largest_.begin(), row_largest_.end());
}

int64_t HiddenStatesFile::RowOffset(int64_t row) const {
  return row_offsets_[static_cast<size_t>(row)];
}

absl::StatusOr<Matrix> HiddenStatesFile::ReadRow(int64_t row) const {
  Matrix hidden(shape_.lengths[row], shape_.hidden_size);
  const int64_t bytes = hidden.rows() * hidden.cols() * static_cast<int64_t>(sizeof(float));
  absl::Status status = ReadAll(fd_, path_, hidden.data(), bytes, RowOffset(row));
  if (!status.ok()) return status;
  return hidden;
}

absl::Status HiddenStatesFile::WriteRow(int64_t row, const Matrix& hidden) {
  if (hidden.rows() != shape_.lengths[row] || hidden.cols() != shape_.hidden_size) {
    return absl::InvalidArgumentError(
        absl::StrCat(path_, ": row ", row, " is [", hidden.rows(), ", ", hidden.cols(),
                     "]; expected [", shape_.lengths[row], ", ", shape_.hidden_size, "]"));
  }
  row_largest_[static_cast<size_t>(row)] = LargestMagnitude(hidden);
  const auto bytes = static_cast<size_t>(hidden.rows() * hidden.cols()) * sizeof(float);
  return WriteAt(fd_, path_, RowOffset(row), hidden.data(), bytes);
}

absl::Status HiddenStatesFile::Commit() {
  absl::Status status = TakeName(fd_, unfinished_, path_);
  if (status.ok()) unfinished_.clear();
  return status;
}

}  // namespace salient
