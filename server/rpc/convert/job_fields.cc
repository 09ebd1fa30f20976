#include "server/rpc/convert/job_fields.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "core/model/activations.h"
#include "core/text/quote.h"
#include "server/error/call_error.h"
#include "server/error/field_error.h"
#include "server/rpc/convert/blob.h"
#include "server/rpc/convert/enums.h"

namespace salient {
namespace {

bool IsControlCharacter(char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; }

}  // namespace

absl::Status BadJob(absl::string_view field, absl::string_view value, absl::string_view expected) {
  return BadField(Reason::kBadJob, field, value, expected);
}

absl::Status CheckPath(absl::string_view field, absl::string_view path) {
  const bool plain = std::none_of(path.begin(), path.end(), IsControlCharacter);
  if (static_cast<int64_t>(path.size()) <= kMaxPathBytes && plain) return absl::OkStatus();
  return BadField(Reason::kBadPath, field, QuoteForMessage(path),
                  absl::StrCat("at most ", kMaxPathBytes, " bytes without control characters"));
}

absl::StatusOr<TokenBlob> ToTokens(absl::string_view path, const v1::TokenCalibration& message) {
  const auto digest = ToDigest(absl::StrCat(path, ".tokens"), message.tokens());
  if (!digest.ok()) return digest.status();
  if (message.max_rows() < 0) {
    return BadJob(absl::StrCat(path, ".max_rows"), absl::StrCat(message.max_rows()),
                  "at least 0 (0: all)");
  }
  absl::Status status = CheckPath(absl::StrCat(path, ".name"), message.name());
  if (!status.ok()) return status;
  TokenBlob source{.tokens = *digest, .max_rows = message.max_rows()};
  if (!message.name().empty()) source.name = message.name();
  source.allow_long_rows = message.allow_long_rows();
  return source;
}

absl::StatusOr<ComputeDType> ToCompute(absl::string_view field, int value) {
  return FromWireOr(kComputeDtypes, ComputeDType::kBF16, Reason::kBadJob, field, value);
}

}  // namespace salient
