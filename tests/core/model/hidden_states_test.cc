#include "core/model/hidden_states.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "tests/support/direct_statistics.h"

namespace salient {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class HiddenStatesTest : public ::testing::Test {
 protected:
  HiddenStatesTest() {
    fs::remove_all(directory_);
    fs::create_directories(directory_);
  }
  ~HiddenStatesTest() override { fs::remove_all(directory_); }

  Matrix Row(int64_t row) const {
    return testing::GaussianMatrix(static_cast<uint64_t>(row) + 1, shape_.lengths[row],
                                   shape_.hidden_size);
  }

  // Writes all rows, the last first.
  HiddenStatesFile Write() const {
    auto file = HiddenStatesFile::Create(path_, shape_);
    EXPECT_TRUE(file.ok()) << file.status();
    for (int64_t row = 2; row >= 0; --row) EXPECT_TRUE(file->WriteRow(row, Row(row)).ok());
    return *std::move(file);
  }

  void Commit() const { ASSERT_TRUE(Write().Commit().ok()); }

  void ExpectRows(const HiddenStatesFile& file) const {
    for (int64_t row = 0; row < 3; ++row) {
      const auto hidden = file.ReadRow(row);
      ASSERT_TRUE(hidden.ok()) << hidden.status();
      const Matrix expected = Row(row);
      ASSERT_EQ(hidden->rows(), expected.rows());
      ASSERT_EQ(hidden->cols(), expected.cols());
      const auto bytes = static_cast<size_t>(expected.rows() * expected.cols()) * sizeof(float);
      EXPECT_EQ(0, std::memcmp(hidden->data(), expected.data(), bytes)) << row;
    }
  }

  const fs::path directory_ = fs::path(::testing::TempDir()) /
                              (std::string("hidden_states.") +
                               ::testing::UnitTest::GetInstance()->current_test_info()->name());
  const std::string path_ = (directory_ / "a.states").string();
  const HiddenStatesShape shape_{7, 12, {5, 1, 70}, "f32/test"};
};

TEST_F(HiddenStatesTest, RowsComeBackBeforeAndAfterTheFileIsCommitted) {
  HiddenStatesFile file = Write();
  ExpectRows(file);
  EXPECT_FALSE(fs::exists(path_));
  ASSERT_TRUE(file.Commit().ok());
  ExpectRows(file);
  const auto again = HiddenStatesFile::Open(path_, shape_);
  ASSERT_TRUE(again.ok()) << again.status();
  ExpectRows(*again);
  EXPECT_EQ(again->shape(), shape_);
}

TEST_F(HiddenStatesTest, WhatIsNotCommittedGoesAway) {
  {
    HiddenStatesFile file = Write();
    const HiddenStatesFile moved = std::move(file);
    ExpectRows(moved);
  }
  EXPECT_TRUE(fs::is_empty(directory_));
  Commit();
  EXPECT_TRUE(fs::exists(path_));
  EXPECT_EQ(std::distance(fs::directory_iterator(directory_), {}), 1);
}

TEST_F(HiddenStatesTest, OtherStatesAreRefused) {
  const auto open = [&](const HiddenStatesShape& shape) {
    return HiddenStatesFile::Open(path_, shape).status();
  };
  EXPECT_EQ(open(shape_).code(), absl::StatusCode::kNotFound);
  Commit();
  EXPECT_TRUE(open(shape_).ok());
  for (const HiddenStatesShape& other : {HiddenStatesShape{8, 12, {5, 1, 70}, "f32/test"},
                                         HiddenStatesShape{7, 11, {5, 1, 70}, "f32/test"},
                                         HiddenStatesShape{7, 12, {5, 70}, "f32/test"},
                                         HiddenStatesShape{7, 12, {5, 70, 1}, "f32/test"},
                                         HiddenStatesShape{7, 12, {5, 1, 70}, "f32/tesu"}}) {
    EXPECT_EQ(open(other).code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(open(other).message()), HasSubstr(path_ + ": holds other states"));
  }
}

TEST_F(HiddenStatesTest, AFileThatIsNotWholeIsRefused) {
  Commit();
  const auto size = fs::file_size(path_);
  for (const auto bytes : {size - 1, size + 1, size / 2, uintmax_t{20}, uintmax_t{0}}) {
    Commit();
    fs::resize_file(path_, bytes);
    const absl::Status status = HiddenStatesFile::Open(path_, shape_).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << bytes;
    EXPECT_THAT(std::string(status.message()), HasSubstr(path_)) << bytes;
  }
}

TEST_F(HiddenStatesTest, WhatCannotBeWrittenIsNamed) {
  HiddenStatesFile file = Write();
  const absl::Status status = file.WriteRow(1, Matrix(2, 12));
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("row 1 is [2, 12]; expected [1, 12]"));
  const std::string nowhere = (directory_ / "none" / "a.states").string();
  const absl::Status missing = HiddenStatesFile::Create(nowhere, shape_).status();
  EXPECT_EQ(missing.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(missing.message()), HasSubstr(nowhere));
  fs::create_directories(fs::path(path_) / "in the way");
  EXPECT_FALSE(file.Commit().ok());
}

}  // namespace
}  // namespace salient
