// Converts method and format from the contract's messages to the core's types.
#ifndef SALIENT_SERVER_RPC_CONVERT_METHOD_H_
#define SALIENT_SERVER_RPC_CONVERT_METHOD_H_

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/group/quantize_group.h"
#include "core/method/method.h"
#include "core/tensor/affine_groups.h"
#include "core/tensor/stored_format.h"
#include "salient/v1/method.pb.h"

namespace salient {

// In all of these `path` is where the message stands in the request, e.g. "options.method": fields
// at fault are named below it. BAD_METHOD or BAD_FORMAT for a value out of range or an enum value
// that does not exist; UNSUPPORTED (UNIMPLEMENTED) for a choice that this server does not have,
// with the nearest that it has.
absl::StatusOr<Method> ToMethod(absl::string_view path, const v1::Method& message);

// Converts all but output format and activations.
absl::StatusOr<WeightFormat> ToWeightFormat(absl::string_view path,
                                            const v1::WeightFormat& message);

// Converts all of it, with the output format's own defaults. Its reason is BAD_FORMAT also for a
// combination that no engine would load (FindFormatFault).
absl::StatusOr<StoredFormat> ToStoredFormat(absl::string_view path,
                                            const v1::WeightFormat& message);

}  // namespace salient

#endif  // SALIENT_SERVER_RPC_CONVERT_METHOD_H_
