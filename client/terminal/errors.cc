#include "client/terminal/errors.h"

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/cord.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/types/optional.h"
#include "client/terminal/json_text.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace salient::client {
namespace {

constexpr char kRetryInfoUrl[] = "type.googleapis.com/google.rpc.RetryInfo";
// These are the types of payloads that only the client adds to a status; no server sends them.
constexpr char kReasonUrl[] = "salient/reason";
constexpr char kCancelledUrl[] = "salient/cancelled";
constexpr char kUsageUrl[] = "salient/usage";
constexpr char kSpoolFull[] = "SPOOL_FULL";
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
  const std::string& reason() const { return reason_; }

  std::string Text() const {
    if (reason_.empty() || absl::StrContains(text_, reason_)) return text_;
    return absl::StrCat(text_, " [", reason_, "]");
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
  // The cut is not inside a UTF-8 sequence.
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
  auto code = static_cast<absl::StatusCode>(status.error_code());
  if (status.error_code() == grpc::StatusCode::UNAVAILABLE && details.details().empty()) {
    message = UnavailableSentence(message, address);
    // It is this process that has no descriptor left, and trying again does not give it one.
    if (absl::StrContains(message, std::strerror(EMFILE))) code = absl::StatusCode::kInternal;
  } else if (status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED &&
             details.details().empty()) {
    message = absl::StrCat("the server at ", address, " did not answer in time");
  } else if (message.empty()) {
    message = absl::StrCat("the server at ", address, " gave no reason, only status ",
                           static_cast<int>(status.error_code()));
  }

  Sentence sentence(std::move(message));
  for (const google::protobuf::Any& any : details.details()) sentence.Add(any);
  absl::Status result(code, Printable(sentence.Text(), kMaxMessageBytes));
  result.SetPayload(kReasonUrl, absl::Cord(sentence.reason()));
  if (sentence.retry().has_value()) {
    result.SetPayload(kRetryInfoUrl, absl::Cord(sentence.retry()->SerializeAsString()));
  }
  return result;
}

absl::Status CancelledByOthers(absl::string_view job) {
  absl::Status status = absl::AbortedError(absl::StrCat(job, " was cancelled by somebody else"));
  status.SetPayload(kCancelledUrl, absl::Cord());
  return status;
}

absl::Status UsageError(absl::string_view message) {
  absl::Status status = absl::InvalidArgumentError(message);
  status.SetPayload(kUsageUrl, absl::Cord());
  return status;
}

absl::Status WithText(const absl::Status& status, absl::string_view text) {
  return WithMessage(status, absl::StrCat(status.message(), text));
}

absl::Status WithMessage(const absl::Status& status, absl::string_view message) {
  absl::Status result(status.code(), message);
  status.ForEachPayload([&result](absl::string_view url, const absl::Cord& payload) {
    result.SetPayload(url, payload);
  });
  return result;
}

absl::Status WithoutOthers(const absl::Status& status) {
  if (ReasonOf(status) != kSpoolFull) return status;
  return absl::InternalError(status.message());
}

std::optional<std::string> ReasonOf(const absl::Status& status) {
  const absl::optional<absl::Cord> reason = status.GetPayload(kReasonUrl);
  if (!reason.has_value()) return std::nullopt;
  return std::string(*reason);
}

std::optional<absl::Duration> RetryAfter(const absl::Status& status) {
  const absl::optional<absl::Cord> payload = status.GetPayload(kRetryInfoUrl);
  google::rpc::RetryInfo retry;
  if (!payload.has_value() || !retry.ParseFromString(std::string(*payload))) return std::nullopt;
  return absl::Seconds(retry.retry_delay().seconds()) +
         absl::Nanoseconds(retry.retry_delay().nanos());
}

std::string ErrorText(const absl::Status& status) {
  const std::optional<absl::Duration> delay = RetryAfter(status);
  if (!delay.has_value()) return std::string(status.message());
  return absl::StrCat(status.message(), "; try again ",
                      *delay > absl::ZeroDuration()
                          ? absl::StrCat("in ", absl::ToDoubleSeconds(*delay), " s")
                          : "later");
}

std::string ErrorJson(const absl::Status& status, int exit_code) {
  JsonObject error;
  error.AddString("code", absl::StatusCodeToString(status.code()));
  if (const auto reason = ReasonOf(status); reason.has_value() && !reason->empty()) {
    error.AddString("reason", *reason);
  }
  error.AddString("message", status.message());
  if (const auto delay = RetryAfter(status); delay.has_value()) {
    error.AddNumber("retry_after_seconds", absl::ToDoubleSeconds(*delay));
  }
  error.AddInteger("exit_code", exit_code);
  return JsonObject().AddObject("error", error).Text();
}

int ExitCodeOf(const absl::Status& status) {
  if (status.GetPayload(kRetryInfoUrl).has_value()) return kExitTryAgain;
  if (status.GetPayload(kCancelledUrl).has_value()) return kExitCancelled;
  if (status.GetPayload(kUsageUrl).has_value()) return kExitUsage;
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
      return kExitBadInput;
    case absl::StatusCode::kResourceExhausted: {
      // A server that gives a reason has a limit that waiting does not lift, e.g. a group larger
      // than a call's memory. Without one a system has no more of something: room, open files.
      const std::optional<std::string> reason = ReasonOf(status);
      return reason.has_value() && reason != "INTERNAL" ? kExitBadInput : kExitDefect;
    }
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
