#include "client/tensors/progress.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <memory>
#include <string>

namespace salient::client {
namespace {

using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;

// Is a stream whose text can be looked at.
class Sink {
 public:
  std::FILE* file() const { return file_.get(); }
  std::string Text() const {
    std::string text(static_cast<size_t>(std::ftell(file())), '\0');
    std::rewind(file());
    EXPECT_EQ(std::fread(text.data(), 1, text.size(), file()), text.size());
    return text;
  }

 private:
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  std::unique_ptr<std::FILE, Close> file_{std::tmpfile()};
};

v1::GroupReport NamedReport(const std::string& name) {
  v1::GroupReport report;
  report.set_name(name);
  report.mutable_candidate()->set_identity(true);
  report.set_loss_rtn(2);
  report.set_loss(1);
  report.set_parameters(1000);
  return report;
}

TEST(ProgressTest, WithoutATerminalEveryGroupIsAPlainLine) {
  const Sink sink;
  ASSERT_EQ(StyleFor(sink.file()), Progress::Style::kLines);
  {
    Progress progress(sink.file(), Progress::Style::kLines, {100, 2});
    progress.AddBytesSent(100);
    progress.AddGroup(NamedReport("qkv"));
    progress.AddGroup(NamedReport("evil\x1b[2J"));
  }
  EXPECT_EQ(sink.Text(),
            "group 1 of 2 done: qkv, identity, loss/RTN 0.500\n"
            "group 2 of 2 done: evil [2J, identity, loss/RTN 0.500\n");
}

TEST(ProgressTest, BarEndsFullWithTotals) {
  const Sink sink;
  {
    Progress progress(sink.file(), Progress::Style::kBar, {2048, 1});
    progress.AddBytesSent(2048);
    progress.AddGroup(NamedReport("qkv"));
  }
  const std::string text = sink.Text();
  const std::string last = text.substr(text.rfind('\r'));
  EXPECT_THAT(last, AllOf(HasSubstr("########################"), HasSubstr("2.00 KiB of 2.00 KiB"),
                          HasSubstr("1 of 1 groups"), HasSubstr("parameters/s"), EndsWith("\n")));
}

TEST(ProgressTest, UntouchedProgressPrintsNothing) {
  const Sink sink;
  { Progress progress(sink.file(), Progress::Style::kBar, {1, 1}); }
  EXPECT_EQ(sink.Text(), "");
}

}  // namespace
}  // namespace salient::client
