#include "client/errors.h"

#include <algorithm>
#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/cord.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace salient::client {
namespace {

constexpr char kRetryInfoUrl[] = "type.googleapis.com/google.rpc.RetryInfo";
constexpr size_t kMaxMessageBytes = 2048;

// The server's message and everything from the details that it does not say already.
class Sentence {
 public:
  explicit Sentence(std::string message) : text_(std::move(message)) {}

  void Add(const google::protobuf::Any& any) {
    if (google::rpc::BadRequest bad; any.Is<google::rpc::BadRequest>() && any.UnpackTo(&bad)) {
      for (const auto& fault : bad.field_violations()) Name(fault.field(), fault.description());
    } else if (google::rpc::QuotaFailure quota;
               any.Is<google::rpc::QuotaFailure>() && any.UnpackTo(&quota)) {
      for (const auto& fault : quota.violations()) Name(fault.subject(), fault.description());
    } else if (google::rpc::PreconditionFailure unmet;
               any.Is<google::rpc::PreconditionFailure>() && any.UnpackTo(&unmet)) {
      for (const auto& fault : unmet.violations()) Name(fault.subject(), fault.description());
    } else if (google::rpc::ErrorInfo info;
               any.Is<google::rpc::ErrorInfo>() && any.UnpackTo(&info)) {
      reason_ = info.reason();
      // Protobuf maps have no order; the user's sentence has one.
      const std::map<std::string, std::string> metadata(info.metadata().begin(),
                                                        info.metadata().end());
      for (const auto& [name, value] : metadata) Name(name, value);
    } else if (google::rpc::RetryInfo retry;
               any.Is<google::rpc::RetryInfo>() && any.UnpackTo(&retry)) {
      retry_ = std::move(retry);
    }
  }

  // Set once a RetryInfo was added.
  const std::optional<google::rpc::RetryInfo>& retry() const { return retry_; }

  std::string Text() const {
    std::string text = text_;
    if (retry_.has_value()) {
      const double seconds = static_cast<double>(retry_->retry_delay().seconds()) +
                             1e-9 * static_cast<double>(retry_->retry_delay().nanos());
      absl::StrAppend(&text, "; try again ",
                      seconds > 0 ? absl::StrCat("in ", seconds, " s") : "later");
    }
    if (!reason_.empty() && !absl::StrContains(text, reason_)) {
      absl::StrAppend(&text, " [", reason_, "]");
    }
    return text;
  }

 private:
  void Name(absl::string_view name, absl::string_view value) {
    // Details may repeat the beginning of the message.
    if (value.empty() || absl::StrContains(text_, absl::StripSuffix(value, "..."))) return;
    absl::StrAppend(&text_, "; ", name, name.empty() ? "" : ": ", value);
  }

  std::string text_;
  std::string reason_;
  std::optional<google::rpc::RetryInfo> retry_;
};

// gRPC wraps the cause in its own history; the user wants the cause.
std::string UnavailableSentence(absl::string_view message, absl::string_view address) {
  const bool never_there = absl::StrContains(message, "connect") ||
                           absl::StrContains(message, "DNS") || absl::StrContains(message, "resol");
  for (const absl::string_view history : {"last error: ", "Failed to connect to remote host: "}) {
    const size_t last = message.rfind(history);
    if (last != absl::string_view::npos) message.remove_prefix(last + history.size());
  }
  return absl::StrCat(never_there ? "cannot reach a server at " : "the server went away at ",
                      address, ": ", message);
}

}  // namespace

std::string Printable(absl::string_view text, size_t max_bytes) {
  size_t end = std::min(max_bytes, text.size());
  // Not inside a UTF-8 sequence.
  while (end < text.size() && end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80)
    --end;
  std::string result(text.substr(0, end));
  for (char& c : result) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  }
  if (end < text.size()) result += "...";
  return result;
}

absl::Status FromGrpcStatus(const grpc::Status& status, absl::string_view address) {
  if (status.ok()) return absl::OkStatus();
  google::rpc::Status details;
  // Details that do not parse are left out: the message alone is still true.
  if (!details.ParseFromString(status.error_details())) details.Clear();

  std::string message = status.error_message();
  if (status.error_code() == grpc::StatusCode::UNAVAILABLE && details.details().empty()) {
    message = UnavailableSentence(message, address);
  } else if (status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED &&
             details.details().empty()) {
    message = absl::StrCat("the server at ", address, " did not answer in time");
  } else if (message.empty()) {
    message = absl::StrCat("the server at ", address, " gave no reason, only status ",
                           static_cast<int>(status.error_code()));
  }

  Sentence sentence(std::move(message));
  for (const google::protobuf::Any& any : details.details()) sentence.Add(any);
  absl::Status result(static_cast<absl::StatusCode>(status.error_code()),
                      Printable(sentence.Text(), kMaxMessageBytes));
  if (sentence.retry().has_value()) {
    result.SetPayload(kRetryInfoUrl, absl::Cord(sentence.retry()->SerializeAsString()));
  }
  return result;
}

int ExitCodeOf(const absl::Status& status) {
  if (status.GetPayload(kRetryInfoUrl).has_value()) return kExitTryAgain;
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return kExitDone;
    case absl::StatusCode::kCancelled:
      return kExitInterrupted;
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kAlreadyExists:
    case absl::StatusCode::kOutOfRange:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kUnimplemented:
    case absl::StatusCode::kUnauthenticated:
    case absl::StatusCode::kPermissionDenied:
    // Without RetryInfo a limit that waiting does not lift, e.g. a group larger than a call's
    // memory.
    case absl::StatusCode::kResourceExhausted:
      return kExitBadInput;
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kDeadlineExceeded:
      return kExitUnavailable;
    // The bytes were right when they were read, so the way was at fault.
    case absl::StatusCode::kDataLoss:
    case absl::StatusCode::kAborted:
      return kExitTryAgain;
    default:
      return kExitDefect;
  }
}

}  // namespace salient::client
