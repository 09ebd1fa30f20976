#include "server/jobs/job_names.h"

#include <algorithm>
#include <random>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "core/text/quote.h"
#include "server/error/call_error.h"

namespace salient {
namespace {

constexpr size_t kMaxJobIdBytes = 63;
constexpr size_t kMaxRequestIdBytes = 128;
constexpr size_t kTokenDigits = 32;

uint64_t Random64() {
  std::random_device device;
  return uint64_t{device()} << 32 | device();
}

bool IsLowerOrDigit(char c) { return absl::ascii_islower(c) || absl::ascii_isdigit(c); }

}  // namespace

absl::Status CheckJobId(absl::string_view job_id) {
  if (job_id.empty()) return absl::OkStatus();
  const bool fine = job_id.size() <= kMaxJobIdBytes && absl::ascii_islower(job_id.front()) &&
                    IsLowerOrDigit(job_id.back()) &&
                    std::all_of(job_id.begin(), job_id.end(),
                                [](char c) { return c == '-' || IsLowerOrDigit(c); });
  if (fine) return absl::OkStatus();
  return WithField(
      InvalidCall(Reason::kBadJob,
                  absl::StrCat("job_id is ", QuoteForMessage(job_id), "; expected 1 to ",
                               kMaxJobIdBytes, " lower-case letters, digits and dashes, a letter ",
                               "first and no dash last")),
      "job_id");
}

absl::Status CheckRequestId(absl::string_view request_id) {
  if (request_id.size() <= kMaxRequestIdBytes) return absl::OkStatus();
  return WithField(
      InvalidCall(Reason::kBadJob, absl::StrCat("request_id has ", request_id.size(),
                                                " bytes; expected at most ", kMaxRequestIdBytes)),
      "request_id");
}

std::string NewJobId() { return absl::StrCat("job-", absl::Hex(Random64(), absl::kZeroPad16)); }

std::string NameOfJob(absl::string_view job_id) { return absl::StrCat("jobs/", job_id); }

PageTokens::PageTokens() : salt_(Random64()) {}

// SplitMix64's finalizer: enough to tell a token from noise; nothing is protected by it.
uint64_t PageTokens::Check(uint64_t position) const {
  uint64_t x = (position ^ salt_) + 0x9E3779B97F4A7C15 * (salt_ | 1);
  x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9;
  x = (x ^ x >> 27) * 0x94D049BB133111EB;
  return x ^ x >> 31;
}

std::string PageTokens::Encode(int64_t position) const {
  const auto value = static_cast<uint64_t>(position);
  return absl::StrFormat("%016x%016x", value ^ salt_, Check(value));
}

absl::StatusOr<int64_t> PageTokens::Decode(absl::string_view token) const {
  uint64_t masked = 0;
  uint64_t check = 0;
  if (token.size() == kTokenDigits && absl::SimpleHexAtoi(token.substr(0, 16), &masked) &&
      absl::SimpleHexAtoi(token.substr(16), &check) && Check(masked ^ salt_) == check) {
    return static_cast<int64_t>(masked ^ salt_);
  }
  return WithField(
      InvalidCall(Reason::kBadJob, absl::StrCat("page_token is ", QuoteForMessage(token),
                                                "; expected one that this server gave")),
      "page_token");
}

}  // namespace salient
