#include "core/safetensors/file_kind.h"

#include <array>

#include "absl/algorithm/container.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"

namespace salient {
namespace {

struct Kind {
  absl::string_view begin;
  absl::string_view name;
};

constexpr std::array<Kind, 14> kKinds = {{
    {"version ", "a Git LFS pointer, not the file itself: git lfs pull fetches it"},
    {"GGUF", "a GGUF file, which only llama.cpp reads: take the model that it was made from"},
    {"\x93NUMPY", "a NumPy array: safetensors.numpy.save_file writes it as safetensors"},
    {"PK\x03\x04",
     "a ZIP archive, as torch.save and numpy.savez write it: save the tensors by "
     "safetensors' save_file"},
    {"\x80\x02",
     "a Python pickle, as torch.save wrote it: save the tensors by safetensors' "
     "save_file"},
    {"\x80\x04", "a Python pickle: save the tensors by safetensors' save_file"},
    {"\x1F\x8B", "a gzip archive: unpack it"},
    {"PAR1", "a Parquet file, no tensors"},
    {"ARROW1", "an Arrow file, no tensors"},
    {"\xFF\xFE", "a text in UTF-16"},
    {"\xFE\xFF", "a text in UTF-16"},
    {"{\"", "JSON, as a data set of lines is"},
    {"<!", "a web page, as a download that went wrong leaves it"},
    {"<html", "a web page, as a download that went wrong leaves it"},
}};

// Returns whether it may be text: bytes beyond ASCII may be UTF-8, some of which it never has.
bool IsText(absl::string_view bytes) {
  return absl::c_all_of(bytes, [](unsigned char c) {
    return c < 0x20 ? absl::ascii_isspace(c) : c != 0x7F && c != 0xC0 && c != 0xC1 && c < 0xF5;
  });
}

}  // namespace

absl::string_view KindOfFile(absl::string_view begin) {
  for (const Kind& kind : kKinds) {
    if (absl::StartsWith(begin, kind.begin)) return kind.name;
  }
  if (begin.empty()) return "";
  if (absl::c_all_of(begin, [](char c) { return c == 0; })) {
    return "zeros, as a download that was cut off leaves them";
  }
  return IsText(begin) ? "a text" : "";
}

}  // namespace salient
