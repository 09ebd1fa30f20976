#include "client/options/server_address.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "core/text/quote.h"

namespace salient::client {
namespace {

absl::Status BadAddress(absl::string_view text, absl::string_view expected) {
  return absl::InvalidArgumentError(absl::StrCat(QuoteForMessage(text), "; expected ", expected));
}

bool IsPort(absl::string_view text) {
  int port = 0;
  return !text.empty() && absl::ascii_isdigit(static_cast<unsigned char>(text[0])) &&
         absl::SimpleAtoi(text, &port) && port >= 1 && port <= 65535;
}

absl::string_view DefaultPort() {
  const absl::string_view address = kDefaultServer;
  return address.substr(address.rfind(':'));
}

}  // namespace

absl::StatusOr<std::string> ServerAddress(absl::string_view text) {
  for (const absl::string_view name : {"unix:", "unix-abstract:", "dns:", "ipv4:", "ipv6:"}) {
    if (absl::StartsWith(text, name)) return std::string(text);
  }
  absl::string_view address = text;
  if (absl::StartsWithIgnoreCase(text, "https://")) {
    return BadAddress(text,
                      "HOST:PORT; the server speaks plaintext, and a proxy in front of it "
                      "that speaks TLS cannot be reached");
  }
  if (absl::StartsWithIgnoreCase(text, "http://")) {
    address.remove_prefix(absl::string_view("http://").size());
    absl::ConsumeSuffix(&address, "/");
  }
  constexpr char kExpected[] = "HOST:PORT or HOST, e.g. quant.example:8443";
  const bool has_space = std::any_of(address.begin(), address.end(), [](char c) {
    return !absl::ascii_isgraph(static_cast<unsigned char>(c));
  });
  if (address.empty() || has_space || address.find('/') != address.npos) {
    return BadAddress(text, kExpected);
  }
  if (std::count(address.begin(), address.end(), ':') > 1 && address.front() != '[') {
    return absl::StrCat("[", address, "]", DefaultPort());  // It is IPv6 without its brackets.
  }
  const size_t bracket = address.rfind(']');
  if (bracket != address.npos && bracket + 1 < address.size() && address[bracket + 1] != ':') {
    return BadAddress(text, kExpected);
  }
  const size_t colon = address.find(':', bracket == address.npos ? 0 : bracket);
  if (colon == address.npos) return absl::StrCat(address, DefaultPort());
  if (colon == 0 || !IsPort(address.substr(colon + 1))) return BadAddress(text, kExpected);
  return std::string(address);
}

}  // namespace salient::client
