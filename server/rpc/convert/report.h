// Converts tensors and reports from the core's types to the contract's messages.
#ifndef SALIENT_SERVER_RPC_CONVERT_REPORT_H_
#define SALIENT_SERVER_RPC_CONVERT_REPORT_H_

#include <string>

#include "absl/time/time.h"
#include "core/group/quantize_group.h"
#include "core/tensor/dtype.h"
#include "salient/v1/report.pb.h"
#include "salient/v1/tensor.pb.h"

namespace salient {

// Returns DATA_TYPE_UNSPECIFIED for a type that the contract does not have.
v1::DataType ToProto(DType dtype);

// Converts the report, with the time it took and the name of the arithmetic.
v1::GroupReport ToProto(const GroupReport& report, absl::Duration elapsed,
                        const std::string& numerics_id);

}  // namespace salient

#endif  // SALIENT_SERVER_RPC_CONVERT_REPORT_H_
