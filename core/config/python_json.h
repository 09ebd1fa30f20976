// Takes what Python's JSON reader takes and JSON does not have: NaN, Infinity, -Infinity, and
// surrogates without their other half. Model configs are written by Python.
#ifndef SALIENT_CORE_CONFIG_PYTHON_JSON_H_
#define SALIENT_CORE_CONFIG_PYTHON_JSON_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/string_view.h"

namespace salient {

// The marks say where something stands in for what JSON does not have: null for a number, U+FFFD
// for a surrogate. A parser asks in the order of the text.
class PythonMarks {
 public:
  // Returns the number that the next null stands for, nullopt if it is a null.
  std::optional<double> NextNull();
  // Puts surrogates where U+FFFD stands for them in the next string.
  void Restore(std::string& text);

 private:
  friend std::pair<std::string, PythonMarks> MarkPython(absl::string_view text);

  int64_t nulls_ = 0;                                    // So many were asked for.
  int64_t replacements_ = 0;                             // So many characters U+FFFD were seen.
  std::deque<std::pair<int64_t, double>> numbers_;       // They say which null each is.
  std::deque<std::pair<int64_t, uint16_t>> surrogates_;  // They say which U+FFFD each is.
};

// Returns `text` as JSON, and what stands in for what. What is not even Python's stays as it is.
std::pair<std::string, PythonMarks> MarkPython(absl::string_view text);

// Returns the surrogate whose three bytes begin at `position`, nullopt if there is none.
std::optional<uint16_t> SurrogateAt(absl::string_view text, size_t position);

}  // namespace salient

#endif  // SALIENT_CORE_CONFIG_PYTHON_JSON_H_
