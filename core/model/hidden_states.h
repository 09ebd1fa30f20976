// The residual stream of all calibration rows between two decoder blocks, on disk.
//
//   file := magic[8] layer rows hidden_size length[rows] size id[size] row[rows]   (int64s)
//   row  := f32 [length, hidden_size]; all little-endian
//
// A block reads the file entering it and writes the one leaving it, row by row, so memory holds
// one row. A committed file is all that is needed to go on with its layer.
#ifndef SALIENT_CORE_MODEL_HIDDEN_STATES_H_
#define SALIENT_CORE_MODEL_HIDDEN_STATES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/tensor/matrix.h"

namespace salient {

// Says what a file is about.
struct HiddenStatesShape {
  int64_t layer = 0;  // These states enter that block.
  int64_t hidden_size = 0;
  std::vector<int64_t> lengths;  // They count the tokens of each row, each at least 1.
  std::string numerics_id;       // It names the arithmetic that computed them.
  bool operator==(const HiddenStatesShape&) const = default;
};

// Is move-only. Reading is thread-safe; writing of different rows is too.
class HiddenStatesFile {
 public:
  // Makes a new file that becomes `path` at Commit; until then it has another name and goes away
  // with the object. Its errors are from the file system, naming the path.
  static absl::StatusOr<HiddenStatesFile> Create(const std::string& path,
                                                 const HiddenStatesShape& shape);

  // Opens a committed file. Returns NOT_FOUND, or INVALID_ARGUMENT naming the path if it is not
  // whole or not about `shape`.
  static absl::StatusOr<HiddenStatesFile> Open(const std::string& path,
                                               const HiddenStatesShape& shape);

  HiddenStatesFile(HiddenStatesFile&& other) noexcept;
  HiddenStatesFile& operator=(HiddenStatesFile&& other) noexcept;
  ~HiddenStatesFile();

  const HiddenStatesShape& shape() const { return shape_; }

  // Returns the largest magnitude in the rows written through this object; 0 if none was.
  float Largest() const;

  // Reads row `row`, [lengths[row], hidden_size]. Returns the errors of the file system, naming the
  // path, and INVALID_ARGUMENT if the file ends too early.
  absl::StatusOr<Matrix> ReadRow(int64_t row) const;
  // Writes row `row`, [lengths[row], hidden_size]. Returns INVALID_ARGUMENT for another shape, and
  // the errors of the file system; both name the path.
  absl::Status WriteRow(int64_t row, const Matrix& hidden);

  // Syncs and takes the final name, which then lasts. Returns the errors of the file system, naming
  // the path. Every row must have been written; rows may be
  // read meanwhile.
  absl::Status Commit();

 private:
  HiddenStatesFile(int fd, std::string path, HiddenStatesShape shape);
  int64_t RowOffset(int64_t row) const;

  int fd_ = -1;
  std::string path_;
  std::string unfinished_;  // It is the name before Commit, and empty after it.
  HiddenStatesShape shape_;
  std::vector<int64_t> row_offsets_;  // They are one more than rows: the last is the size.
  std::vector<float> row_largest_;    // They are magnitudes of the rows that were written here.
};

}  // namespace salient

#endif  // SALIENT_CORE_MODEL_HIDDEN_STATES_H_
