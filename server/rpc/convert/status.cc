#include "server/rpc/convert/status.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "core/text/utf8.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "server/error/call_error.h"

namespace salient {
namespace {

constexpr absl::string_view kDomain = "salient.v1";
constexpr size_t kMaxDescriptionBytes = 256;

// Returns the longest prefix of at most `bytes` that does not cut a UTF-8 sequence, marked when
// cut. What is no UTF-8 is escaped: no protobuf may hold it.
std::string Shortened(absl::string_view raw, size_t bytes) {
  std::string text = EscapeNonUtf8(raw);
  if (text.size() <= bytes) return text;
  constexpr absl::string_view kMark = "...";
  size_t end = bytes - kMark.size();
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  return text.replace(end, std::string::npos, kMark.data(), kMark.size());
}

void AddInfo(const CallErrorDetails& details, const std::map<std::string, std::string>& metadata,
             google::rpc::Status& status) {
  google::rpc::ErrorInfo info;
  info.set_reason(std::string(Name(details.reason)));
  info.set_domain(std::string(kDomain));
  for (const auto& [key, value] : metadata) {
    (*info.mutable_metadata())[key] = EscapeNonUtf8(value);
  }
  status.add_details()->PackFrom(info);
}

// Adds all but ErrorInfo.
void AddOthers(const absl::Status& error, const CallErrorDetails& details,
               google::rpc::Status& status) {
  const std::string description =
      Shortened({error.message().data(), error.message().size()}, kMaxDescriptionBytes);
  if (!details.field.empty()) {
    google::rpc::BadRequest bad_request;
    auto* violation = bad_request.add_field_violations();
    violation->set_field(Shortened(details.field, kMaxDescriptionBytes));
    violation->set_description(description);
    status.add_details()->PackFrom(bad_request);
  }
  if (details.retry_after.has_value()) {
    google::rpc::RetryInfo retry;
    const int64_t milliseconds = absl::ToInt64Milliseconds(*details.retry_after);
    retry.mutable_retry_delay()->set_seconds(milliseconds / 1000);
    retry.mutable_retry_delay()->set_nanos(static_cast<int32_t>(milliseconds % 1000) * 1'000'000);
    status.add_details()->PackFrom(retry);
  }
  if (!details.quota.empty()) {
    google::rpc::QuotaFailure quota;
    auto* violation = quota.add_violations();
    violation->set_subject(Shortened(details.quota, kMaxDescriptionBytes));
    violation->set_description(description);
    status.add_details()->PackFrom(quota);
  }
}

// Takes fewer and fewer metadata entries, the largest dropped first, until the whole fits.
std::string Serialized(const absl::Status& error, const std::string& message) {
  const CallErrorDetails details = DetailsOf(error);
  std::map<std::string, std::string> metadata = details.metadata;
  size_t omitted = 0;
  while (true) {
    google::rpc::Status status;
    status.set_code(static_cast<int32_t>(error.code()));
    status.set_message(message);
    AddInfo(details, metadata, status);
    AddOthers(error, details, status);
    std::string bytes = status.SerializeAsString();
    if (bytes.size() <= kMaxStatusDetailsBytes || metadata.size() <= (omitted > 0 ? 1u : 0u)) {
      return bytes;
    }
    metadata.erase("omitted");
    metadata.erase(std::max_element(
        metadata.begin(), metadata.end(),
        [](const auto& a, const auto& b) { return a.second.size() < b.second.size(); }));
    metadata["omitted"] = absl::StrCat(++omitted);
  }
}

}  // namespace

grpc::Status ToGrpcStatus(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  const std::string message =
      Shortened({status.message().data(), status.message().size()}, kMaxStatusMessageBytes);
  return {static_cast<grpc::StatusCode>(status.code()), message, Serialized(status, message)};
}

}  // namespace salient
