#include "client/terminal/table.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace salient::client {
namespace {

// Bytes that begin a character: names are UTF-8 and a column's width is in characters.
size_t Width(const std::string& text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  }));
}

std::string Scaled(double value, double step, absl::Span<const char* const> units) {
  size_t unit = 0;
  // 999.5 would print as 1000 at three digits.
  while (unit + 1 < units.size() && std::abs(value) >= 999.5) {
    value /= step;
    ++unit;
  }
  const double size = std::abs(value);
  const int digits = unit == 0 || size >= 99.95 ? 0 : size >= 9.995 ? 1 : 2;
  return absl::StrFormat("%.*f%s", digits, value, units[unit]);
}

}  // namespace

Table::Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

void Table::AddRow(std::vector<std::string> cells) {
  cells.resize(columns_.size());
  rows_.push_back(std::move(cells));
}

std::string Table::Render() const {
  std::vector<size_t> widths;
  for (const Column& column : columns_) widths.push_back(Width(column.heading));
  for (const auto& row : rows_) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], Width(row[i]));
  }

  std::string text;
  const auto append_line = [&](auto&& cell) {
    std::string line;
    for (size_t i = 0; i < columns_.size(); ++i) {
      const std::string& value = cell(i);
      const std::string blanks(widths[i] - Width(value), ' ');
      if (i > 0) line += "  ";
      if (columns_[i].align == Align::kLeft) {
        absl::StrAppend(&line, value, blanks);
      } else {
        absl::StrAppend(&line, blanks, value);
      }
    }
    line.erase(line.find_last_not_of(' ') + 1);
    absl::StrAppend(&text, line, "\n");
  };
  std::vector<std::string> rules;
  for (size_t width : widths) rules.emplace_back(width, '-');
  append_line([&](size_t i) -> const std::string& { return columns_[i].heading; });
  append_line([&](size_t i) -> const std::string& { return rules[i]; });
  for (const auto& row : rows_) append_line([&](size_t i) -> const std::string& { return row[i]; });
  return text;
}

std::string FormatBytes(int64_t bytes) {
  static constexpr const char* kUnits[] = {" B", " KiB", " MiB", " GiB", " TiB"};
  return Scaled(static_cast<double>(bytes), 1024, kUnits);
}

std::string FormatCount(double count) {
  static constexpr const char* kUnits[] = {"", " k", " M", " G", " T"};
  return Scaled(count, 1000, kUnits);
}

std::string FormatSeconds(double seconds) {
  if (!(seconds >= 0)) return "-";
  if (seconds < 9.995) return absl::StrFormat("%.2f s", seconds);
  const int64_t whole = seconds < 1e15 ? int64_t{std::llround(seconds)} : int64_t{1} << 50;
  if (whole < 60) return absl::StrFormat("%d s", whole);
  if (whole < 3600) return absl::StrFormat("%d min %d s", whole / 60, whole % 60);
  return absl::StrFormat("%d h %d min", whole / 3600, whole / 60 % 60);
}

}  // namespace salient::client
