// Says what is said of a field that cannot be taken as it is.
#ifndef SALIENT_SERVER_ERROR_FIELD_ERROR_H_
#define SALIENT_SERVER_ERROR_FIELD_ERROR_H_

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "server/error/call_error.h"

namespace salient {

// Returns INVALID_ARGUMENT: "<field> is <value>; expected <expected>".
absl::Status BadField(Reason reason, absl::string_view field, absl::string_view value,
                      absl::string_view expected);

// Returns UNIMPLEMENTED, UNSUPPORTED: a `value` of the contract that this server does not have;
// says what to use `instead`.
absl::Status UnsupportedField(absl::string_view field, absl::string_view value,
                              absl::string_view instead);

}  // namespace salient

#endif  // SALIENT_SERVER_ERROR_FIELD_ERROR_H_
