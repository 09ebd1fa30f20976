#include "client/token_file.h"

#include <cstddef>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/file_digest.h"
#include "core/checkpoint/json.h"
#include "core/checkpoint/safetensors.h"

namespace salient::client {
namespace {

constexpr char kTokenIds[] = "input_ids";
constexpr int64_t kMaxBlankTokens = int64_t{1} << 28;

}  // namespace

absl::StatusOr<LocalBlob> TokenFile(const std::string& path) {
  {
    const auto file = SafetensorsFile::Open(path);
    if (!file.ok()) return file.status();
    if (file->header().Find(kTokenIds) == nullptr) {
      return absl::InvalidArgumentError(absl::StrCat(path, ": no tensor ",
                                                     QuoteForMessage(kTokenIds),
                                                     "; expected I32 or I64 [rows, tokens]"));
    }
  }
  auto digest = DigestOfFile(path, [](int64_t) { return true; });
  if (!digest.ok()) return digest.status();
  return LocalBlob{*std::move(digest), path, std::nullopt};
}

absl::StatusOr<LocalBlob> BlankTokens(int64_t rows, int64_t tokens) {
  if (rows < 1 || tokens < 1 || tokens > kMaxBlankTokens / rows) {
    return absl::InvalidArgumentError(absl::StrCat("--rows ", rows, " --tokens ", tokens,
                                                   "; expected both at least 1 and together at "
                                                   "most ",
                                                   kMaxBlankTokens));
  }
  const std::vector<int64_t> shape = {rows, tokens};
  const std::vector<std::byte> zeros(static_cast<size_t>(rows * tokens) * 4);
  const TensorToWrite ids = {kTokenIds, DType::kI32, shape, zeros};
  const auto file = SerializeSafetensors({&ids, 1}, {});
  if (!file.ok()) return file.status();
  std::string content(reinterpret_cast<const char*>(file->data()), file->size());
  v1::Digest digest = DigestOfBytes(content);
  return LocalBlob{std::move(digest), "blank tokens", std::move(content)};
}

}  // namespace salient::client
