// Writes plain text tables for people.
#ifndef SALIENT_CLIENT_TERMINAL_TABLE_H_
#define SALIENT_CLIENT_TERMINAL_TABLE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/types/span.h"

namespace salient::client {

// Has columns of equal width, two blanks apart, and a rule of dashes below the headings. It is not
// thread-safe.
class Table {
 public:
  enum class Align { kLeft, kRight };
  struct Column {
    std::string heading;
    Align align = Align::kRight;
  };

  explicit Table(std::vector<Column> columns);

  // Adds a row. One shorter than the columns is filled with blanks; surplus cells are dropped.
  void AddRow(std::vector<std::string> cells);

  // Returns the table. Every line ends with a newline and has no trailing blanks.
  std::string Render() const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

// Returns "512 B", "1.50 KiB" or "12.0 MiB": three significant digits.
std::string FormatBytes(int64_t bytes);

// Returns three significant digits with a power of ten named: "950", "1.25 k", "3.40 M", "7.00 G".
std::string FormatCount(double count);

// Returns "0.42 s", "42 s", "3 min 20 s" or "2 h 5 min": what a person plans with.
std::string FormatSeconds(double seconds);

}  // namespace salient::client

#endif  // SALIENT_CLIENT_TERMINAL_TABLE_H_
