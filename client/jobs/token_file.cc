#include "client/jobs/token_file.h"

#include <cstddef>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/transfer/file_digest.h"
#include "core/checkpoint/checkpoint_files.h"
#include "core/safetensors/safetensors.h"
#include "core/safetensors/token_rows.h"
#include "core/tensor/dtype.h"
#include "core/text/quote.h"
#include "core/text/utf8.h"

namespace salient::client {
namespace {

constexpr int64_t kMaxBlankTokens = int64_t{1} << 28;

constexpr char kHowToMakeOne[] =
    " (token ids of a text: python client/python/tokens.py MODEL TEXT -o tokens.safetensors)";

absl::Status CheckTokenFile(const std::string& path) {
  const auto file = SafetensorsFile::Open(path);
  return file.ok() ? CheckTokenTensors(file->header()) : file.status();
}

}  // namespace

absl::StatusOr<LocalBlob> TokenFile(const std::string& path) {
  if (absl::Status status = CheckTokenFile(path); !status.ok()) {
    return absl::Status(status.code(), absl::StrCat(status.message(), kHowToMakeOne));
  }
  auto digest = DigestOfFile(path, [](int64_t) { return true; });
  if (!digest.ok()) return digest.status();
  return LocalBlob{*std::move(digest), path, std::nullopt};
}

v1::TokenCalibration ToTokens(const LocalBlob& tokens, const TokenRowFlags& rows) {
  v1::TokenCalibration message;
  *message.mutable_tokens() = tokens.digest;
  message.set_max_rows(rows.rows);
  // A text of the protocol is UTF-8; other names are shown escaped.
  message.set_name(IsUtf8(tokens.source) ? tokens.source : QuoteForMessage(tokens.source));
  message.set_allow_long_rows(rows.allow_long);
  return message;
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
